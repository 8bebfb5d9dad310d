"""What `shortlist demo` shows of a shopper: what was done with which item, and how long ago."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from retrieval.data.dataset import DataSet
from retrieval.errors import BadConfig
from retrieval.sample_shop.write import write_sample
from serving.cli.app import app
from serving.cli.demo import DEEDS, asked_most, busiest, last_steps, newest_items, show_demo, show_history
from serving.engine import Engine


def test_steps_are_what_the_data_hold_newest_first(engine: Engine, data: DataSet) -> None:
    assert data.events is not None
    user = busiest(engine, 1)[0]
    steps = last_steps(engine, user, 5)
    assert [step.days for step in steps] == sorted(step.days for step in steps)
    mine = np.flatnonzero(data.events.user == list(data.user_ids).index(user))
    newest = mine[-1]
    assert steps[0].title in engine.titles([data.item_ids[data.events.item[newest]]])
    assert steps[0].deeds[-1] == DEEDS[data.events.kinds[data.events.kind[newest]]]


def test_one_step_holds_all_that_was_done_with_an_item_on_a_day_in_order(engine: Engine) -> None:
    steps = [step for user in busiest(engine, 20) for step in last_steps(engine, user, 50)]
    assert any(step.deeds == ("viewed", "put into the cart", "bought") for step in steps)
    assert all(len(set(step.deeds)) == len(step.deeds) for step in steps)


def test_a_history_says_how_long_ago_and_what_was_done(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    user = busiest(engine, 1)[0]
    show_history(engine, user)
    told = capsys.readouterr().out
    assert f"what {user} did" in told
    assert all(deed in told for step in last_steps(engine, user) for deed in step.deeds)
    assert " ago" in told or "today" in told


def test_the_newest_item_comes_first(engine: Engine) -> None:
    user = busiest(engine, 1)[0]
    items = newest_items(engine, user, 3)
    assert len(set(items)) == 3
    assert engine.titles(items[:1]) == [last_steps(engine, user)[0].title]


def test_the_search_shown_is_one_that_a_shopper_made(engine: Engine) -> None:
    assert asked_most(engine) in engine.state.user_store.query_texts


def test_a_shop_that_is_there_in_another_language_is_not_taken_for_the_one_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    write_sample(out / "sample-shop", items=40, shoppers=2, events=20, queries=4, days=14)
    with pytest.raises(BadConfig, match=r"in the language en; give another folder: --out .*demo-zh"):
        show_demo(out, language="zh")
    assert not (out / "bundle").exists()


def test_the_end_says_how_to_look_at_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("serving.cli.demo.show_demo", lambda *_, **__: None)
    done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path)])
    assert done.stdout.strip() == f"look at it in a browser: shortlist serve {tmp_path / 'bundle'}"


@pytest.mark.parametrize("taken", [False, True])
def test_a_demo_is_served_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, taken: bool) -> None:
    served: list[tuple[Path, int]] = []
    monkeypatch.setattr("serving.cli.demo.show_demo", lambda *_, **__: None)
    monkeypatch.setattr("serving.cli.serve.serve", lambda bundle, *, port, device: served.append((bundle, port)))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        free = other.getsockname()[1]
        if not taken:
            other.close()
        monkeypatch.setattr("serving.cli.serve.PORT", free)
        done = CliRunner().invoke(app, ["demo", "--out", str(tmp_path), "--serve"])
    assert done.exit_code == 0, done.stderr
    assert served == [(tmp_path / "bundle", 0 if taken else free)]
