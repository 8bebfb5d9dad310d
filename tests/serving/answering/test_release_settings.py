"""What a release records of how it answers: read back as written, refused by name if of another version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexing.bundle.releases import Release
from retrieval.errors import BadBundle, StaleArtefact
from retrieval.sources.fusion import Fusion
from retrieval.text.analysis import Analyzer
from retrieval.text.rendering import field_markers_fingerprint
from serving.answering.release_settings import (
    ReleaseSettings,
    StepSettings,
    gates_passed,
    weights_for_task,
    with_settings,
)

STEP = StepSettings(model="shallow", depth=100, precision="int8", blend={"search": {"logit": 1.0, "retrieval": 0.5}})


def release_of(settings: dict[str, object]) -> Release:
    return Release(id="r1", created="2026", towers="t", index="i", ranker="k", settings=settings)  # type: ignore[arg-type]


def test_settings_read_back_as_they_were_written() -> None:
    made = ReleaseSettings(
        filter_seen=True,
        targets=("purchase",),
        rerank=(STEP,),
        fusion={"search": Fusion({"towers": 1.0, "words": 0.1}).as_json()},
        config={"ranking": {"depth": 100}},
    )
    found = ReleaseSettings.of(release_of(made.as_json()))
    assert found == made
    assert found.fusions == {"search": Fusion({"towers": 1.0, "words": 0.1})}


def test_a_setting_is_changed_and_the_others_stay() -> None:
    release = release_of(ReleaseSettings(filter_seen=True, titles=7).as_json())
    found = ReleaseSettings.of(with_settings(release, rerank=(STEP,)))
    assert (found.filter_seen, found.titles, found.rerank) == (True, 7, (STEP,))
    assert ReleaseSettings.of(release).rerank == ()


@pytest.mark.parametrize(
    ("recorded", "named"),
    [
        ({"rerank": [{"model": "full", "depth": 0}]}, "rerank.0.depth"),
        ({"rerank": [{"model": "full", "depth": "all"}]}, "rerank.0.depth"),
        ({"rerank": [{"depth": 3}]}, "rerank.0.model"),
        ({"depth": 40}, "depth"),
        ({"filter_seen": "perhaps"}, "filter_seen"),
    ],
)
def test_a_setting_of_another_version_is_refused_by_name(recorded: dict[str, object], named: str) -> None:
    with pytest.raises(BadBundle, match="not of this version") as caught:
        ReleaseSettings.of(release_of({"filter_seen": True} | recorded))
    assert f"its setting {named} " in str(caught.value)


def test_texts_of_another_rendering_are_refused_where_a_ranker_reads_them() -> None:
    for markers in (None, field_markers_fingerprint()):
        release = release_of({"filter_seen": True, "field_markers": markers})
        ReleaseSettings.of(release).require_same_markers(release)
    stale = release_of({"filter_seen": True, "field_markers": "another"})
    with pytest.raises(StaleArtefact, match="another rendering"):
        ReleaseSettings.of(stale).require_same_markers(stale)


def test_words_that_another_version_read_are_refused_with_what_to_run() -> None:
    same = replace(
        release_of({"filter_seen": True, "language": "de", "analysis": Analyzer("de").fingerprint}), words="w"
    )
    ReleaseSettings.of(same).require_same_analysis(same)
    for recorded in ({}, {"language": "de"}, {"language": "de", "analysis": Analyzer("en").fingerprint}):
        stale = replace(release_of({"filter_seen": True} | recorded), words="w")
        with pytest.raises(StaleArtefact, match="shortlist run BUNDLE"):
            ReleaseSettings.of(stale).require_same_analysis(stale)
        without_words = replace(stale, words=None)
        ReleaseSettings.of(without_words).require_same_analysis(without_words)


def test_a_task_without_a_gate_of_its_own_follows_the_one_it_is_like() -> None:
    assert gates_passed({"search": {"on": True}}) == {"search", "personalised_search"}
    assert gates_passed({"search": {"on": True}, "personalised_search": {"on": False}}) == {"search"}
    assert gates_passed({"recommend": {"on": False}, "complete_cart": {"on": True}}) == {"complete_cart"}
    assert gates_passed({"search": {"on": "yes"}, "recommend": None}) == frozenset()


def test_new_things_without_weights_of_their_own_have_those_of_any_recommendation() -> None:
    found = {"recommend": 1, "search": 2}
    names = ("recommend", "recommend_unseen", "search", "grade")
    assert [weights_for_task(found, name, 0) for name in names] == [1, 1, 2, 0]
    assert weights_for_task(found | {"recommend_unseen": 3}, "recommend_unseen", 0) == 3
    assert [weights_for_task({"search": 2}, name, 0) for name in names] == [0, 0, 2, 0]
