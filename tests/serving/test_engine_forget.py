"""A user who is forgotten leaves no trace: not in answers, not in the store, not on the disk, not in later releases."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from indexing.bundle.bundle import Bundle
from retrieval.data.dataset import DataSet
from retrieval.data.time_units import SECOND
from retrieval.errors import BadRequest
from serving.answering.stages.describe import POPULAR
from serving.answering.user_context import UserContexts
from serving.cli.app import app
from serving.engine import Engine
from serving.jobs.build_index import IndexBuild
from serving.jobs.run import Pipeline
from serving.live.opening import FILE, FOLDER
from serving.settings import RunSettings

SECRET = "shopper-whose-name-is-nowhere-else"


@pytest.fixture
def live(own_bundle: Path) -> Iterator[Engine]:
    with Engine.open(own_bundle, device="cpu") as engine:
        yield engine


def busiest(data: DataSet) -> str:
    assert data.events is not None
    return data.user_ids[int(np.argmax(np.diff(data.events.offsets)))]


def queries(one: UserContexts) -> list[str]:
    return [one.query_texts[code] for code in one.histories.queries[0] if code >= 0]


def files_with(folder: Path, text: str) -> list[str]:
    wanted = text.encode()
    return [
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and wanted in path.read_bytes()
    ]


def test_no_byte_of_a_recorded_user_stays_in_the_bundle(live: Engine, own_bundle: Path, data: DataSet) -> None:
    live.record(SECRET, data.item_ids[0], "purchase", query=f"gift of {SECRET}")
    live.record("ann", data.item_ids[0], "view")
    assert files_with(own_bundle, SECRET)
    found = live.forget(SECRET)
    assert found.removed == (f"{own_bundle / FOLDER / FILE}: 1 recorded events",)
    assert found.left == ()
    assert files_with(own_bundle, SECRET) == []
    assert live.recommend(user_id=SECRET).fallbacks == (POPULAR,)
    assert live.recommend(user_id="ann").fallbacks == ()


def test_no_byte_of_a_user_of_the_release_stays_in_the_bundle(live: Engine, own_bundle: Path, data: DataSet) -> None:
    user, others = busiest(data), [one for one in data.user_ids if one != busiest(data)][:20]
    before = {one: live.state.user_contexts.of_user(one) for one in others}
    release = live.release
    found = live.forget(user)
    assert f"{own_bundle / 'shoppers' / str(release.shoppers)}, of release {release.id}" in found.removed
    assert found.left == ()
    assert files_with(own_bundle / "shoppers", user) == []
    assert [one.id for one in Bundle.open(own_bundle).releases()] == [live.release.id] != [release.id]
    assert Bundle.open(own_bundle).verify().sound
    assert live.recommend(user_id=user).fallbacks == (POPULAR,)
    assert live.state.user_store.code(user) is None
    for one, known in before.items():
        after = live.state.user_contexts.of_user(one)
        assert after.behaviour.history.rows.tolist() == known.behaviour.history.rows.tolist()
        texts = [
            [asked.query_texts[code] for code in asked.histories.queries[0] if code >= 0] for asked in (known, after)
        ]
        assert texts[0] == texts[1]


def test_a_newer_release_that_was_refused_goes_as_well(live: Engine, own_bundle: Path, data: DataSet) -> None:
    user, bundle, part = busiest(data), Bundle.open(own_bundle), own_bundle / "shoppers" / str(live.release.shoppers)
    aside = Path(shutil.copytree(part, own_bundle.parent / "aside"))
    live.forget(user)
    shutil.copytree(aside, part)
    created = live.release.created.replace("+00:00", ".5+00:00")
    bundle.record(replace(live.release, id="refused", created=created, shoppers=part.name, manifests={}))
    found = live.forget(user)
    assert f"{part}, of release refused" in found.removed
    assert found.left == ()
    assert not part.exists()
    assert [one.id for one in bundle.releases()] == [live.release.id]


def test_what_a_forgotten_user_does_next_is_new(live: Engine, data: DataSet) -> None:
    user = busiest(data)
    live.forget(user)
    assert not live.record(user, data.item_ids[0], "view", "2020-01-01")  # before
    live.record(user, data.item_ids[1], "view")
    assert live.state.user_contexts.of_user(user).behaviour.history.rows.tolist() == [
        int(live.state.version.rows_of([data.item_ids[1]])[0])
    ]


def test_an_engine_that_keeps_its_release_forgets_as_well(own_bundle: Path, data: DataSet) -> None:
    user = busiest(data)
    with Engine.open(own_bundle, device="cpu", auto_reload=False) as kept:
        assert kept.recommend(user_id=user).fallbacks == ()
        with Engine.open(own_bundle, device="cpu") as other:
            other.forget(user)
        assert kept.recommend(user_id=user).fallbacks == (POPULAR,)


def test_a_later_release_leaves_out_what_the_data_set_still_has(
    live: Engine,
    own_bundle: Path,
    data: DataSet,
    sample_folder: Path,
    quick_settings: RunSettings,
    make_pipeline: Callable[[Path, Path, RunSettings], Pipeline],
    build_index: Callable[..., IndexBuild],
) -> None:
    user = busiest(data)
    live.forget(user)
    build_index(make_pipeline(sample_folder, own_bundle, quick_settings))
    assert files_with(own_bundle / "shoppers", user) == []
    live.refresh()
    assert live.recommend(user_id=user).fallbacks == (POPULAR,)
    assert live.state.user_store.code(data.user_ids[0] if data.user_ids[0] != user else data.user_ids[1]) is not None


def test_recorded_events_become_part_of_a_release_and_count_once(
    live: Engine,
    own_bundle: Path,
    data: DataSet,
    sample_folder: Path,
    quick_settings: RunSettings,
    make_pipeline: Callable[[Path, Path, RunSettings], Pipeline],
    build_index: Callable[..., IndexBuild],
) -> None:
    assert data.events is not None
    after = data.events.time.max() / SECOND + 60
    live.record("ann", data.item_ids[0], "purchase", after)
    popular = live.state.retriever.popularity
    before = live.state.user_contexts.of_user("ann")
    pipeline = replace(make_pipeline(sample_folder, own_bundle, quick_settings), events_from=str(own_bundle))
    made = build_index(pipeline)
    live.refresh()
    assert live.release.id == made.release.id
    assert live.state.user_store.code("ann") is not None
    known = live.state.user_contexts.of_user("ann")
    assert known.behaviour.history.rows.tolist() == before.behaviour.history.rows.tolist()
    assert live.state.retriever.popularity.tolist() == popular.tolist()
    live.record("ann", data.item_ids[1], "view", after + 1)  # goes on from there
    assert len(live.state.user_contexts.of_user("ann").behaviour.history.rows) == 2


def test_the_command_says_what_it_removed(own_bundle: Path, data: DataSet) -> None:
    done = CliRunner().invoke(app, ["forget", str(own_bundle), busiest(data)])
    assert (done.exit_code, done.stdout.count("removed: ")) == (0, 2)
    assert "left: " not in done.stdout


def test_what_is_no_id_is_refused(live: Engine) -> None:
    with pytest.raises(BadRequest, match="user_id is 7"):
        live.forget(7)  # type: ignore[arg-type]
