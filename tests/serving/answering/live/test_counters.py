"""What was recorded since a release counts as if the release had held it, but for days of which nothing is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ranking.features.facts import ShopFacts
from retrieval.data.time_units import DAY
from retrieval.data.timeline import Timeline
from serving.answering.live.counters import TAIL, LiveCounters, popularity
from serving.engine import Engine
from serving.live.events import RecordedEvent
from serving.live.sqlite_store import SqliteStore

Line = tuple[int, str, int]  # item row, kind, time
WINDOWS = np.array([1, 3, 7, 30]) * DAY


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    found = SqliteStore(tmp_path / "events.sqlite")
    yield found
    found.close()


def counted(engine: Engine, store: SqliteStore, lines: Sequence[Line]) -> LiveCounters:
    """Counters after events of new shoppers, one each, came in one by one."""
    state = engine.state
    counters = LiveCounters(store, 0, state.user_store, state.settings.targets)
    ids = state.version.ids_of(np.array([row for row, _, _ in lines]))
    events = [
        RecordedEvent(f"e{at}", f"new {at}", item, kind, time)
        for at, (item, (_, kind, time)) in enumerate(zip(ids, lines, strict=True))
    ]
    store.append(events)
    for stored in store.since(0, len(events)):
        counters.add(state.version, [stored])
    return counters


def held(engine: Engine, lines: Sequence[Line]) -> ShopFacts:
    """The shop as features read it where the release holds the same events."""
    known = engine.state.user_store.timeline
    rows, kinds, times = zip(*lines, strict=True)
    timeline = Timeline(
        item=np.concatenate([known.item, rows]).astype(np.int32),
        query=np.concatenate([known.query, [-1] * len(rows)]).astype(np.int32),
        kind=np.concatenate([known.kind, [known.kinds.index(kind) for kind in kinds]]).astype(np.int16),
        time=np.concatenate([known.time, times]).astype(np.int64),
        offsets=np.concatenate([known.offsets, known.offsets[-1] + 1 + np.arange(len(rows))]),
        kinds=known.kinds,
    )
    return engine.state.facts.with_timeline(timeline)


def windows(facts: ShopFacts, now: int) -> NDArray[np.int64]:
    """Takings and looks of every item in the days before a time."""
    rows = np.arange(facts.n_items)
    return np.array(
        [events.before(rows, now - days) for events in (facts.taken, facts.looked) for days in (0, *WINDOWS)]
    )


def test_features_count_what_was_recorded(engine: Engine, store: SqliteStore) -> None:
    begin = engine.state.user_store.today * DAY
    rng = np.random.default_rng(3)
    kinds, times = (
        rng.choice(["purchase", "view"], 60).tolist(),
        rng.integers(begin - 5 * DAY, begin + DAY, 60).tolist(),
    )
    lines = list(zip(rng.integers(20, size=60).tolist(), kinds, times, strict=True))
    lines.append((0, "purchase", begin + DAY - 1))  # on the next day, so that no day is left out
    counters = counted(engine, store, lines)
    facts, wanted = counters.facts(engine.state.facts, engine.state.version), held(engine, lines)
    assert counters.now == begin + DAY == facts.today
    np.testing.assert_array_equal(windows(facts, counters.now), windows(wanted, counters.now))
    rows = np.arange(facts.n_items)
    np.testing.assert_array_equal(facts.taken.earliest(rows), wanted.taken.earliest(rows))


def test_days_of_which_nothing_is_known_are_left_out(engine: Engine, store: SqliteStore) -> None:
    state, silent = engine.state, 100
    begin = state.user_store.today * DAY
    counters = counted(engine, store, [(3, "purchase", begin + silent * DAY + 5)])
    facts, known = counters.facts(state.facts, state.version), state.facts
    rows, day = np.arange(facts.n_items), 7 * DAY
    found = facts.taken.before(rows, counters.now) - facts.taken.before(rows, counters.now - day)
    end = counters.now - silent * DAY
    wanted = known.taken.before(rows, end) - known.taken.before(rows, end - day)
    wanted[3] += 1
    np.testing.assert_array_equal(found, wanted)
    assert found.sum() > 1
    sold, before = counters.takings(state.version), state.user_store.today
    assert (sold.today, sold.shift) == (before + silent + 1, silent)


def test_a_return_takes_its_purchase_out_of_every_window(engine: Engine, store: SqliteStore) -> None:
    begin = engine.state.user_store.today * DAY
    without = counted(engine, store, [(5, "view", begin + 1)])
    before = windows(without.facts(engine.state.facts, engine.state.version), without.now)
    item = engine.state.version.ids_of(np.array([5]))[0]
    bought = RecordedEvent("b", "ann", item, "purchase", begin + 2)
    back = bought._replace(event_id="r", event="return", time=begin + 3)
    other = bought._replace(event_id="x", event="return", time=begin + 4)  # of nothing that is left
    store.append([bought, back, other])
    for stored in store.since(1, 10):
        without.add(engine.state.version, [stored])
    version, known = engine.state.version, engine.state.retriever.popularity
    np.testing.assert_array_equal(windows(without.facts(engine.state.facts, version), begin + 2), before)
    assert popularity(known, without.takings(version)).tolist() == known.tolist()


def test_many_events_are_counted_as_few_are(engine: Engine, store: SqliteStore) -> None:
    """Those that were sorted, and those since."""
    begin, version = engine.state.user_store.today * DAY, engine.state.version
    lines = [(at % 7, "purchase", begin + at) for at in range(TAIL + 50)]
    counters = counted(engine, store, lines[:40])
    counters.facts(engine.state.facts, version).taken.before(np.arange(3), begin)  # sorts them
    ids = version.ids_of(np.arange(7))
    events = [
        RecordedEvent(f"n{at}", f"n {at}", ids[row], "purchase", time) for at, (row, _, time) in enumerate(lines[40:])
    ]
    store.append(events)
    for part in (slice(0, 30), slice(30, None)):
        counters.add(version, store.since(40, 10_000)[part])
        facts = counters.facts(engine.state.facts, version)
        done = lines[: 70 if part.stop else None]
        np.testing.assert_array_equal(windows(facts, counters.now), windows(held(engine, done), counters.now))


def test_what_an_updated_index_knows_counts(engine: Engine, store: SqliteStore) -> None:
    """Rows are looked up for each version, so that an item counts once the index has it."""
    begin, version = engine.state.user_store.today * DAY, engine.state.version
    counters = LiveCounters(store, 0, engine.state.user_store, engine.state.settings.targets)
    store.append([RecordedEvent("e", "ann", "a new item", "purchase", begin)])
    counters.add(version, store.since(0, 10))
    assert len(counters.takings(version).item) == 0
    later = replace(version)
    later.__dict__.update(version.__dict__)
    object.__setattr__(later, "rows_of", lambda ids: np.array([4 if one == "a new item" else -1 for one in ids]))
    assert counters.takings(later).item.tolist() == [4]
