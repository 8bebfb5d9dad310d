"""One thread owns the device: what it does in which order, and for whom."""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from device_fakes import LikeGpu
from indexing.ann.gpu import GpuIndex, OnDevice
from indexing.ann.gpu_thread import Dispatcher, Slot
from retrieval.errors import BadConfig
from retrieval.topk import Hits, Vectors, exact_topk


def vectors(n: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, 8)).astype(np.float32)


ITEMS = vectors(300, 0)


@pytest.fixture
def dispatcher() -> Iterator[Dispatcher]:
    made = Dispatcher()
    yield made
    made.close()


def loaded(dispatcher: Dispatcher, items: Vectors = ITEMS, name: str = "") -> tuple[Slot[OnDevice], LikeGpu]:
    slot = dispatcher.make(lambda: OnDevice(LikeGpu(items, name=name)))
    assert slot.content is not None
    return slot, slot.content.index


class Held:
    """Keeps the device busy, so that what is asked meanwhile waits."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._begun, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: dispatcher.make(self._wait))

    def _wait(self) -> None:
        self._begun.set()
        self._go.wait(60)

    def __enter__(self) -> Held:
        self._thread.start()
        assert self._begun.wait(60)
        return self

    def until(self, n: int) -> None:
        """Wait until so many jobs wait."""
        while self._dispatcher._jobs.qsize() < n:
            threading.Event().wait(0.001)

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._thread.join()


def same(found: Hits, expected: Hits) -> bool:
    return bool((found.rows == expected.rows).all()) and np.allclose(found.scores, expected.scores)


def test_many_threads_are_answered_each_its_own_by_one_thread(dispatcher: Dispatcher) -> None:
    slot, index = loaded(dispatcher)
    asked = [(vectors(1 + seed % 3, seed), 1 + seed % 7) for seed in range(64)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda one: dispatcher.search(slot, *one), asked))
    assert all(same(hits, exact_topk(queries, ITEMS, k)) for hits, (queries, k) in zip(found, asked, strict=True))
    assert sum(index.calls) == sum(len(queries) for queries, _ in asked)


def test_searches_that_wait_are_one_call_up_to_its_size(dispatcher: Dispatcher) -> None:
    dispatcher._max_queries = 10
    slot, index = loaded(dispatcher)
    with ThreadPoolExecutor(8) as pool, Held(dispatcher) as held:
        found: list[Future[Hits]] = []
        for seed in range(7):
            found.append(pool.submit(dispatcher.search, slot, vectors(3, seed), 2 + seed))
            held.until(len(found))
    assert index.calls == [9, 9, 3]
    for seed, hits in enumerate(found):
        assert same(hits.result(), exact_topk(vectors(3, seed), ITEMS, 2 + seed))


def test_a_search_larger_than_a_call_is_one_by_itself(dispatcher: Dispatcher) -> None:
    dispatcher._max_queries = 10
    slot, index = loaded(dispatcher)
    assert dispatcher.search(slot, vectors(40, 1), 3).rows.shape == (40, 3)
    assert index.calls == [40]


def test_what_is_no_search_of_the_same_object_ends_a_call_and_nothing_overtakes(dispatcher: Dispatcher) -> None:
    order: list[str] = []
    first, a = loaded(dispatcher)
    second, b = loaded(dispatcher, vectors(50, 9))
    a.log, b.log, a.name, b.name = order, order, "a", "b"
    with ThreadPoolExecutor(8) as pool, Held(dispatcher) as held:
        jobs = [
            lambda: dispatcher.search(first, vectors(1, 1), 3),
            lambda: dispatcher.search(first, vectors(1, 2), 3),
            lambda: dispatcher.search(second, vectors(1, 3), 3),
            lambda: dispatcher.make(lambda: order.append("made")),
            lambda: dispatcher.search(first, vectors(1, 4), 3),
        ]
        for number, job in enumerate(jobs, 1):
            pool.submit(job)
            held.until(number)
    assert order == ["searched a", "searched b", "made", "searched a"]
    assert (a.calls, b.calls) == ([2, 1], [1])


def test_a_lone_search_waits_for_nobody_and_one_after_shared_ones_for_others() -> None:
    dispatcher = Dispatcher(max_queries=2, max_wait=3600)
    slot, index = loaded(dispatcher)
    dispatcher.search(slot, vectors(1, 0), 3)  # an hour later, were it to wait
    with ThreadPoolExecutor(2) as pool:
        with Held(dispatcher) as held:
            for number in (1, 2):
                pool.submit(dispatcher.search, slot, vectors(1, number), 3)
                held.until(number)
        early = pool.submit(dispatcher.search, slot, vectors(1, 3), 3)
        late = pool.submit(dispatcher.search, slot, vectors(1, 4), 3)
        early.result(), late.result()
    assert index.calls == [1, 2, 2]
    dispatcher.close()


def test_what_a_search_raises_comes_to_all_who_shared_it_and_the_device_goes_on(dispatcher: Dispatcher) -> None:
    slot, index = loaded(dispatcher)
    index.busy.acquire()
    with ThreadPoolExecutor(3) as pool, Held(dispatcher) as held:
        found = [pool.submit(dispatcher.search, slot, vectors(1, seed), 3) for seed in range(3)]
        held.until(3)
    assert all("two threads at once" in str(one.exception()) for one in found)
    with pytest.raises(ZeroDivisionError):
        dispatcher.make(lambda: 1 / 0)
    index.busy.release()
    assert dispatcher.search(slot, vectors(1, 1), 3).rows.shape == (1, 3)


def on_device(dispatcher: Dispatcher, log: list[str], name: str) -> GpuIndex:
    return GpuIndex(
        lambda: LikeGpu(ITEMS, log, name), size=len(ITEMS), dim=8, surplus=1.0, placement="", dispatcher=dispatcher
    )


def test_a_swap_loads_tries_drains_and_frees_in_this_order_in_the_owning_thread(dispatcher: Dispatcher) -> None:
    log: list[str] = []
    live = on_device(dispatcher, log, "old")
    with ThreadPoolExecutor(4) as pool:
        with Held(dispatcher) as held:
            asked = [pool.submit(live.search, vectors(1, seed), 5) for seed in range(3)]
            held.until(3)
            new = pool.submit(on_device, dispatcher, log, "new")
            held.until(4)
        fresh = new.result()
        fresh.search(vectors(1, 1), 5)
        live = fresh  # the flip; nobody refers to the old one once its searches are answered
        assert all(same(one.result(), exact_topk(vectors(1, seed), ITEMS, 5)) for seed, one in enumerate(asked))
        del asked
    gc.collect()
    live.search(vectors(1, 2), 5)
    assert log == ["loaded old", "searched old", "loaded new", "searched new", "freed old", "searched new"]


def test_nothing_is_lost_or_freed_elsewhere_while_threads_search_and_indexes_come_and_go(
    dispatcher: Dispatcher,
) -> None:
    log: list[str] = []
    live = [on_device(dispatcher, log, "0")]
    done = threading.Event()

    def ask(seed: int) -> int:
        answered = 0
        while not done.is_set():
            assert same(live[-1].search(vectors(1, seed), 5), exact_topk(vectors(1, seed), ITEMS, 5))
            answered += 1
        return answered

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, seed) for seed in range(4)]
        for number in range(1, 8):
            live.append(on_device(dispatcher, log, str(number)))
            live.pop(0)
        done.set()
        assert all(one.result() > 0 for one in asking)
    live.clear()
    gc.collect()
    dispatcher.make(lambda: None)
    assert sorted(line for line in log if not line.startswith("searched")) == sorted(
        f"{what} {number}" for number in range(8) for what in ("loaded", "freed")
    )


def test_a_forked_child_is_refused_in_one_line_and_frees_nothing(dispatcher: Dispatcher) -> None:
    log: list[str] = []
    index = on_device(dispatcher, log, "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads, which is what is tried here
        child = os.fork()
    if child == 0:
        try:
            index.search(vectors(1, 1), 3)
        except BadConfig as error:
            del index
            gc.collect()
            os._exit(0 if "start workers by spawn" in str(error) and log == ["loaded a"] else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
