"""What a job over a live release starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from indexing.bundle.bundle import Bundle
from serving.answering.release_settings import with_settings
from serving.jobs.train_one import recorded_settings
from serving.jobs.update_index import _precision
from serving.settings import RunSettings, read_settings


def test_settings_that_this_version_does_not_know_are_left_out(own_bundle: Path, quick_settings: RunSettings) -> None:
    store = Bundle.open(own_bundle)
    settings = quick_settings.model_dump(mode="json")
    settings["ranking"] |= {"depth": 7, "no_longer_there": 1}
    live = with_settings(store.current(), config=settings | {"nor_this": {"x": 1}})
    store.publish(replace(live, id="older", created="2027-01-01T00:00:00+00:00"))
    assert recorded_settings(store) == read_settings(base=settings).model_dump(mode="json")
    assert read_settings(base=recorded_settings(store)).ranking.depth == 7
    assert _precision(store.current()) == quick_settings.retrieval.precision
