"""Closing an engine: what it lets go of, and what it says afterwards."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from indexing.bundle.bundle import Bundle
from retrieval.errors import BadRequest
from serving.answering.release_state import ReleaseState
from serving.answering.reloader import ReleaseReloader
from serving.engine import Engine
from serving.request import Request

CALLS: list[Callable[[Engine], object]] = [
    lambda engine: engine.recommend(user_id="anyone"),
    lambda engine: engine.search("red mug"),
    lambda engine: engine.similar("item-00001"),
    lambda engine: engine.complete_cart(["item-00001"]),
    lambda engine: engine.answer(Request(query="red mug")),
    lambda engine: engine.titles(["item-00001"]),
    lambda engine: engine.refresh(),
    lambda engine: engine.release,
    lambda engine: engine.__enter__(),
]


@pytest.mark.parametrize("auto_reload", [True, False])
def test_a_closed_engine_refuses_every_call_in_one_line_and_may_be_closed_again(
    bundle_path: Path, auto_reload: bool
) -> None:
    with Engine.open(bundle_path, device="cpu", auto_reload=auto_reload) as engine:
        assert engine.search("red mug", k=2).items
    engine.close()
    for call in CALLS:
        with pytest.raises(BadRequest, match=r"^this engine is closed; open another one with Engine\.open\(path\)$"):
            call(engine)


def test_an_error_within_the_block_closes_it_too(bundle_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Engine.open(bundle_path, device="cpu") as engine:
        _ = 1 / 0
    with pytest.raises(BadRequest, match="closed"):
        engine.search("red mug")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list the files that are mapped")
def test_a_closed_engine_holds_no_file_of_the_bundle(own_bundle: Path) -> None:
    def mapped() -> bool:
        return str(own_bundle) in Path("/proc/self/maps").read_text()

    with Engine.open(own_bundle, device="cpu") as engine:
        engine.search("red mug")
        assert mapped()
    gc.collect()
    assert not mapped()


def state(name: str) -> ReleaseState:
    fake = SimpleNamespace(release=SimpleNamespace(id=name))
    fake.updated = lambda: fake
    return cast(ReleaseState, fake)


def test_closing_waits_for_a_reload_and_begins_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.answering.reloader.warm_up", lambda state: None)
    now, live, begun, go_on, opened = [0.0], ["old"], threading.Event(), threading.Event(), list[str]()

    def open_live(*, like: ReleaseState) -> ReleaseState:
        begun.set()
        go_on.wait(30)
        opened.append(live[-1])
        return state(live[-1])

    bundle = cast(Bundle, SimpleNamespace(current_id=lambda: live[-1]))
    reloader = ReleaseReloader(bundle, state("old"), open_live, lambda: now[0])
    engine = Engine(reloader)
    live.append("new")
    now[0] += 1
    assert engine.release.id == "old"
    assert begun.wait(30)
    threading.Timer(0.05, go_on.set).start()
    engine.close()
    assert opened == ["new"]
    live.append("newer")
    now[0] += 1
    assert reloader.newest().release.id == "new"
    reloader.settle()
    assert opened == ["new"]
