"""Asking the requests of a log again: of the same release nothing changes, of another one what does is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from second_stages import by_one
from typer.testing import CliRunner

from engine_changes import by_towers_alone, changed
from retrieval.data.dataset import DataSet
from serving.answering.release_state import ReleaseState
from serving.answering.second_stage import SecondStage
from serving.audit.log import AuditLog
from serving.audit.records import read_records
from serving.audit.replay import Changes, difference, replay
from serving.cli.app import app
from serving.engine import Engine
from serving.request import Request
from serving.rules.load import parse_rules


@pytest.fixture(scope="module")
def engine(engine: Engine) -> Engine:
    """The release with recommendations ordered by a feature."""
    return changed(
        engine,
        second_stage=SecondStage({"recommend": by_one("towers_score")}),
        scores=frozenset({"recommend", "recommend_unseen"}),
    )


@pytest.fixture(scope="module")
def log(engine: Engine, data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a few requests of every task, the last of which kept no inputs."""
    folder = tmp_path_factory.mktemp("audit")
    asked = Engine(engine.state, audit=AuditLog(folder, inputs=True))
    for user in data.user_ids[:6]:
        asked.recommend(user_id=user, k=5)
        asked.search("red mug", user_id=user, k=5)
        asked.complete_cart([data.item_ids[1]], user_id=user, k=5)
    asked.similar(data.item_ids[0], k=5)
    Engine(engine.state, audit=AuditLog(folder)).recommend(k=3)
    return folder


def test_the_same_release_answers_the_same_by_the_same_features(engine: Engine, log: Path) -> None:
    found = replay(engine.state, read_records(log), check=True)
    assert (found.total.requests, found.without_inputs, found.unreadable, found.refused) == (19, 1, 0, 0)
    assert (found.total.same, found.total.overlap, found.total.rank_biased_overlap) == (1.0, 1.0, 1.0)
    assert set(found.by_task) == {"recommend", "search", "complete_cart", "similar"}
    assert not found.entered
    assert not found.left
    assert found.checked
    assert found.skew == {}


def test_another_order_is_told_by_what_came_and_what_went(engine: Engine, log: Path) -> None:
    state = replace(by_towers_alone(engine.state), scores=frozenset(), reranks=frozenset())
    found = replay(state, read_records(log))
    assert found.by_task["similar"].same == 1.0
    assert found.total.same is not None
    assert found.total.same < 1
    assert found.total.overlap is not None
    assert 0 < found.total.overlap < 1
    came, went = sum(times for _, times in found.entered), sum(times for _, times in found.left)
    assert came
    assert went
    assert found.checked is None


def test_a_feature_that_is_computed_otherwise_is_found(engine: Engine, log: Path) -> None:
    read = ReleaseState.feature_reader

    class Skewed:
        def __init__(self, reader: object) -> None:
            self.reader = reader
            self.names = reader.names  # type: ignore[attr-defined]

        def read(self, *given: object) -> np.ndarray:
            values = self.reader.read(*given)  # type: ignore[attr-defined]
            return np.asarray(values + 0.25)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReleaseState, "feature_reader", lambda self, one: Skewed(read(self, one)))
        found = replay(engine.state, read_records(log), check=True)
    ((name, (times, largest)),) = found.skew.items()
    assert (name, times) == ("towers_score", found.checked)
    assert largest == pytest.approx(0.25, abs=0.2)


def test_other_rules_are_told_by_what_they_took_away(engine: Engine, log: Path) -> None:
    record = next(one for one in read_records(log) if one is not None)
    text = f'[[rule]]\nname = "gone"\nkind = "block"\nitems = ["{record.items[0]}"]\n'
    found = replay(engine.state, [record], rules=parse_rules(text))
    assert [item for item, _ in found.left] == [record.items[0]]
    assert found.total.same_first == 0
    later = f'{text}from = "2999-01-01"\n'
    assert replay(engine.state, [record], rules=parse_rules(later)).total.same == 1.0


def test_what_cannot_be_asked_again_is_counted(engine: Engine, log: Path, tmp_path: Path) -> None:
    whole = next(iter(sorted(log.glob("*.jsonl")))).read_text("utf-8").splitlines()
    refused = json.loads(whole[0])
    refused["asked"]["filters"] = "nothing = 1"
    (tmp_path / "audit.jsonl").write_text("\n".join([whole[0], "{half a li", json.dumps(refused), whole[-1]]), "utf-8")
    found = replay(engine.state, read_records(tmp_path))
    assert (found.total.requests, found.unreadable, found.refused, found.without_inputs) == (1, 1, 1, 1)
    assert "nothing" in found.refusal


def test_recorded_events_are_part_of_what_was_asked(own_bundle: Path, data: DataSet, tmp_path: Path) -> None:
    user = data.user_ids[2]
    with Engine.open(own_bundle, device="cpu", audit=AuditLog(tmp_path, inputs=True)) as engine:
        for item in data.item_ids[:3]:
            engine.record(user, item, "view")
        engine.answer(Request(user_id=user, k=5))
        engine.record(user, data.item_ids[40], "purchase")
        (record,) = read_records(tmp_path)
        assert record is not None
        assert record.inputs is not None
        assert [item for item, kind, _ in record.inputs["history"][-3:] if kind == "view"] == list(data.item_ids[:3])
        found = replay(engine.state, [record], check=True)
        assert found.total.overlap == 1.0


def test_the_command_says_what_changed(bundle_path: Path, log: Path) -> None:
    shown = CliRunner().invoke(app, ["replay", str(log), str(bundle_path), "--check", "--device", "cpu"])
    assert shown.exit_code == 0, shown.output
    assert "1 requests were kept without inputs" in shown.output
    assert "features that differ, of 6 answers: towers_score in " in shown.output  # this release reads none
    told = CliRunner().invoke(app, ["replay", str(log), str(bundle_path), "--json", "--device", "cpu"])
    assert json.loads(told.stdout)["by_task"]["similar"]["same"] == 1.0


def test_without_a_request_nothing_is_shared() -> None:
    assert Changes.of([]) == Changes(0, None, None, None, None, None, None)
    assert difference(float("1e-7"), 0.0) < 1e-6
