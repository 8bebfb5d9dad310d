"""An engine that follows: updates and releases are answered from soon, whole, and nothing of it fails a request."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from engine_changes import ids
from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from indexing.bundle.verify import segment_path
from retrieval.errors import BadBundle, CorruptBundle
from serving.answering import reloader as following
from serving.answering.release_state import ReleaseState
from serving.answering.reloader import ReleaseReloader
from serving.engine import Engine
from serving.jobs.update_index import Update
from serving.request import Answer

USERS = ["shopper-00000", "shopper-00003", "nobody"]


class FakeClock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def following_engine(own_bundle: Path, clock: FakeClock) -> Engine:
    return Engine.open(own_bundle, device="cpu", clock=clock)


def deleting(bundle: Path, items: list[str], scratch: Path) -> None:
    path = scratch / "gone.txt"
    path.write_text("\n".join(items))
    Update(upsert=None, delete=path, max_bad=0.01).apply(Bundle.open(bundle), device="cpu", say=lambda _: None)


def another(bundle: Path, number: int = 1) -> Release:
    """The same parts under another name, live."""
    store = Bundle.open(bundle)
    live = store.current()
    return store.publish(replace(live, id=f"next-{number}", created="2027", parent=None, manifests={}))


def test_an_update_is_answered_from_half_a_second_later(
    following_engine: Engine, own_bundle: Path, clock: FakeClock, tmp_path: Path
) -> None:
    other = Engine.open(own_bundle, device="cpu", clock=clock)
    before = following_engine.search("red mug")
    deleting(own_bundle, ids(before)[:2], tmp_path)
    assert following_engine.search("red mug").items == before.items
    clock.now += 0.6
    after = following_engine.search("red mug")
    assert (before.index_revision, after.index_revision, after.release) == (0, 1, before.release)
    assert ids(after)[:8] == ids(before)[2:]
    assert other.search("red mug").items == after.items
    opened_later = Engine.open(own_bundle, device="cpu", auto_reload=False)
    assert opened_later.search("red mug").items == after.items


def test_without_following_what_was_opened_is_kept(own_bundle: Path, clock: FakeClock, tmp_path: Path) -> None:
    engine = Engine.open(own_bundle, device="cpu", auto_reload=False, clock=clock)
    before = engine.search("red mug")
    deleting(own_bundle, ids(before)[:2], tmp_path)
    another(own_bundle)
    clock.now += 60
    engine.refresh()
    after = engine.search("red mug")
    assert (after.items, after.release, after.index_revision) == (before.items, before.release, before.index_revision)


def test_a_release_that_becomes_live_is_answered_from_once_it_is_open(
    following_engine: Engine, own_bundle: Path, clock: FakeClock
) -> None:
    first = following_engine.release.id
    models = following_engine.state.user_tower
    following_engine.refresh()
    assert following_engine.release.id == first
    live = another(own_bundle)
    assert following_engine.recommend(user_id=USERS[0]).release == first
    following_engine.refresh()
    answer = following_engine.recommend(user_id=USERS[0])
    assert answer.release == live.id
    assert following_engine.state.user_tower is models  # of the same towers, not opened twice
    Bundle.open(own_bundle).activate(first)
    clock.now += 1
    following_engine.refresh()
    assert following_engine.recommend(user_id=USERS[0]).release == first


def test_nothing_of_a_release_that_was_replaced_is_kept_but_its_models(
    following_engine: Engine, own_bundle: Path
) -> None:
    following_engine.search("red mug")
    before = weakref.ref(following_engine.state.retriever)
    another(own_bundle)
    following_engine.refresh()
    following_engine.search("red mug")
    gc.collect()
    assert before() is None


def test_a_damaged_update_is_said_by_name_and_left_alone_for_a_while(
    following_engine: Engine, own_bundle: Path, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = following_engine.search("red mug")
    deleting(own_bundle, ids(before)[:1], tmp_path)
    torn = segment_path(own_bundle / "index" / following_engine.release.index, 1) / "deleted.arrow"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-8])
    for _ in range(5):
        clock.now += 1
        assert following_engine.search("red mug").items == before.items
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1
    assert "delta/000001/deleted.arrow is changed" in warnings[0]
    torn.write_bytes(whole)
    clock.now += following.RETRY_AFTER
    assert following_engine.search("red mug").index_revision == 1
    torn.write_bytes(whole[:-8])
    with pytest.raises(CorruptBundle, match=r"deleted.arrow"):
        Engine.open(own_bundle, device="cpu")


def test_a_forked_child_looks_though_its_parent_was_polling_at_the_time(
    following_engine: Engine, own_bundle: Path, clock: FakeClock, tmp_path: Path
) -> None:
    deleting(own_bundle, ids(following_engine.search("red mug"))[:1], tmp_path)
    clock.now += 1
    reloader = cast(ReleaseReloader, following_engine._source)
    with warnings.catch_warnings(), reloader._polling:
        warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads, which is what is tried here
        child = os.fork()
        if child == 0:
            os._exit(reloader.newest().version.revision)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
        assert reloader.newest().version.revision == 0


def test_what_an_answer_needs_is_open_when_the_release_is_pruned(own_bundle: Path, clock: FakeClock) -> None:
    kept, engine = (Engine.open(own_bundle, device="cpu", clock=clock) for _ in range(2))
    item = ids(kept.search("red mug"))[0]
    calls: list[Callable[[Engine], Answer]] = [
        lambda engine: engine.recommend(user_id=USERS[1], filter_seen=False),
        lambda engine: engine.search("blue lamp", user_id=USERS[0]),
        lambda engine: engine.similar(item),
        lambda engine: engine.complete_cart([item], user_id=USERS[1]),
    ]
    wanted = [call(kept).items for call in calls]
    shutil.rmtree(own_bundle)
    clock.now += 5
    assert [call(engine).items for call in calls] == wanted


def test_threads_get_whole_answers_while_updates_arrive(
    following_engine: Engine, own_bundle: Path, clock: FakeClock, tmp_path: Path
) -> None:
    order = ids(following_engine.search("red mug", k=30, rerank=False))
    answers: list[Answer] = []
    with ThreadPoolExecutor(4) as pool:
        for number in range(6):
            deleting(own_bundle, [order[number]], tmp_path)
            clock.now += 1
            asked = [pool.submit(following_engine.search, "red mug", k=5, rerank=False) for _ in range(12)]
            answers += [one.result() for one in asked]
    assert {answer.index_revision for answer in answers} >= {1, 6}
    for answer in answers:
        assert ids(answer) == order[answer.index_revision : answer.index_revision + 5]


def opened(name: str, *, warm: Callable[[], None] = lambda: None) -> ReleaseState:
    """A state that only has a name; asked for updates it has none."""
    fake = SimpleNamespace(release=SimpleNamespace(id=name), warm=warm)
    fake.updated = lambda: fake
    return cast(ReleaseState, fake)


@pytest.fixture
def warmed_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """States that only have a name are warmed by their own `warm`."""
    monkeypatch.setattr(following, "warm_up", lambda state: state.warm())


def reloader_of(live: list[str], clock: FakeClock, open_live: Callable[..., ReleaseState]) -> ReleaseReloader:
    """One that answers from "old"; the last of `live` is the live release."""
    bundle = cast(Bundle, SimpleNamespace(current_id=lambda: live[-1]))
    return ReleaseReloader(bundle, opened("old"), open_live, clock)


@pytest.mark.usefixtures("warmed_by_itself")
def test_a_release_that_cannot_be_opened_or_warmed_leaves_the_one_before(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[str] = []

    def open_live(*, like: ReleaseState) -> ReleaseState:
        tried.append(like.release.id)
        if len(tried) == 1:
            raise BadBundle("towers/x is missing")
        if len(tried) == 2:
            return opened("new", warm=lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        return opened("new")

    live = ["old"]
    reloader = reloader_of(live, clock, open_live)
    live.append("new")
    for _ in range(4):  # looks that find it in need of a retry do not try at once
        clock.now += 1
        assert reloader.newest().release.id == "old"
        reloader.settle()
    assert tried == ["old"]
    assert "towers/x is missing" in caplog.text
    clock.now += following.RETRY_AFTER
    reloader.newest()
    reloader.settle()
    assert (reloader.newest().release.id, tried) == ("old", ["old", "old"])
    clock.now += following.RETRY_AFTER
    reloader.newest()
    reloader.settle()
    assert reloader.newest().release.id == "new"


@pytest.mark.usefixtures("warmed_by_itself")
def test_one_release_is_opened_once_whoever_asks(clock: FakeClock) -> None:
    tried: list[int] = []

    def open_live(*, like: ReleaseState) -> ReleaseState:
        tried.append(1)
        return opened("new")

    reloader = reloader_of(["new"], clock, open_live)
    clock.now += 1
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: reloader.newest(), range(64)))
    reloader.settle()
    assert reloader.newest().release.id == "new"
    assert len(tried) == 1


@pytest.mark.usefixtures("warmed_by_itself")
def test_a_refresh_while_a_release_is_opened_waits_for_the_one_that_became_live_after_it(clock: FakeClock) -> None:
    live, begun, go_on = ["old"], threading.Event(), threading.Event()

    def open_live(*, like: ReleaseState) -> ReleaseState:
        name = live[-1]
        begun.set()
        assert go_on.wait(60)
        return opened(name)

    reloader = reloader_of(live, clock, open_live)
    live.append("next")
    clock.now += 1
    reloader.newest()
    assert begun.wait(60)
    live.append("newest")
    threading.Timer(0.1, go_on.set).start()
    reloader.refresh()
    assert reloader.newest().release.id == "newest"


def test_an_update_of_the_old_release_does_not_take_the_new_ones_place(clock: FakeClock) -> None:
    reloader = reloader_of(["old"], clock, lambda *, like: like)
    before = reloader.newest()
    reloader.swap(None, opened("new"))
    reloader.swap(before, opened("old"))
    assert reloader.newest().release.id == "new"


@pytest.mark.usefixtures("warmed_by_itself")
def test_a_child_looks_for_itself_though_its_parent_was_polling(clock: FakeClock) -> None:
    reloader = reloader_of(["new"], clock, lambda *, like: opened("new"))
    clock.now += 1
    with reloader._polling:
        reloader.newest()
        assert reloader._opening is None
        following._after_fork()
        reloader.newest()
        reloader.settle()
    assert reloader.newest().release.id == "new"


def test_opening_begins_again_where_the_release_was_pruned_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["a", "b", "b", "b", "b"])
    opened_ids: list[str] = []

    def of_release(bundle: Bundle, release: str, **_: object) -> ReleaseState:
        opened_ids.append(release)
        if release == "a":
            raise BadBundle("index/a is missing")
        return opened(release)

    live = ["a"]
    bundle = cast(Bundle, SimpleNamespace(current_id=lambda: next(names), current=lambda: live.pop() if live else "b"))
    monkeypatch.setattr(ReleaseState, "of_release", of_release)
    assert ReleaseState.live(bundle).release.id == "b"
    assert opened_ids == ["a", "b"]
    live.append("a")
    with pytest.raises(BadBundle, match="index/a"):
        ReleaseState.live(bundle)
