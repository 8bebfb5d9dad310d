"""Events that are recorded count for the next request, and a later release takes over from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from same_contexts import assert_same_contexts

from engine_changes import ids, taken
from forking import succeeds_in_child
from retrieval.data.dataset import DataSet
from retrieval.data.time_units import DAY, SECOND
from retrieval.errors import BadBundle, BadRequest
from serving.answering.stages.describe import POPULAR, QUERY_ALONE
from serving.answering.user_context import UserContexts
from serving.engine import Engine
from serving.live.opening import FILE, FOLDER


@pytest.fixture
def live(bundle_path: Path, tmp_path: Path) -> Iterator[Engine]:
    """An engine over the shared bundle, with an empty store of its own."""
    with Engine.open(bundle_path, device="cpu", events=tmp_path / "events.sqlite") as engine:
        yield engine


@pytest.fixture
def later(data: DataSet) -> Callable[[float], float]:
    """Seconds since 1970, so many seconds after midnight after the last event of the data."""
    assert data.events is not None
    midnight = int(data.events.time.max()) // DAY + 1
    return lambda seconds: midnight * DAY / SECOND + seconds


def contexts(engine: Engine, user: str) -> UserContexts:
    return engine.state.user_contexts.of_user(user)


def row(engine: Engine, item: str) -> int:
    return int(engine.state.version.rows_of([item])[0])


def test_nothing_is_made_or_read_before_the_first_event(bundle_path: Path, live: Engine, tmp_path: Path) -> None:
    live.recommend(user_id="ann")
    assert live.state is live.state
    assert live.state.user_contexts.live is None
    assert list(tmp_path.iterdir()) == []
    assert not (bundle_path / FOLDER).exists()


def test_events_lie_in_the_bundle_unless_said_otherwise(own_bundle: Path) -> None:
    with Engine.open(own_bundle, device="cpu") as engine:
        assert engine.record("ann", "no such item", "view")
    assert (own_bundle / FOLDER / FILE).exists()


def test_a_new_shopper_begins_with_the_first_event(live: Engine, data: DataSet) -> None:
    assert live.recommend(user_id="ann").fallbacks == (POPULAR,)
    assert live.search("red mug", user_id="ann").fallbacks == (QUERY_ALONE,)
    assert live.record("ann", data.item_ids[3], "view")
    for answer in (live.recommend(user_id="ann"), live.search("red mug", user_id="ann")):
        assert (answer.fallbacks, answer.degraded) == ((), ())
    assert contexts(live, "ann").behaviour.browsed.rows.tolist() == [row(live, data.item_ids[3])]
    assert live.recommend(user_id="bob").fallbacks == (POPULAR,)


def test_what_is_bought_is_left_out_and_what_is_given_back_is_not(live: Engine, data: DataSet) -> None:
    item, n = data.item_ids[3], data.n_items
    live.record("ann", item, "purchase")
    assert item not in ids(live.recommend(user_id="ann", k=n, filter_seen=True))
    live.record("ann", item, "return")
    assert item in ids(live.recommend(user_id="ann", k=n, filter_seen=True))
    live.record("ann", item, "purchase", quantity=2)
    assert item not in ids(live.recommend(user_id="ann", k=n, filter_seen=True))
    live.record("ann", item, "purchase", quantity=-2)
    assert item in ids(live.recommend(user_id="ann", k=n, filter_seen=True))


def test_a_return_undoes_a_purchase_of_the_release(live: Engine, data: DataSet) -> None:
    assert data.events is not None
    user = int(np.argmax(np.diff(data.events.offsets)))
    name, bought = data.user_ids[user], taken(data, user, live.state.user_contexts.targets)
    item = sorted(bought)[0]
    events = data.events
    mine = slice(events.offsets[user], events.offsets[user + 1])
    times = int(
        (
            events.is_kind(live.state.user_contexts.targets)[mine] & (events.item[mine] == data.item_ids.index(item))
        ).sum()
    )
    for _ in range(times):
        live.record(name, item, "return")
    left = {live.state.version.ids_of(np.array([one]))[0] for one in contexts(live, name).taken.rows}
    assert left == bought - {item}


def test_carts_count_until_the_item_is_bought(live: Engine, data: DataSet) -> None:
    item = data.item_ids[5]
    live.record("ann", item, "cart")
    assert contexts(live, "ann").behaviour.carted.rows.tolist() == [row(live, item)]
    live.record("ann", item, "purchase")
    assert contexts(live, "ann").behaviour.carted.rows.tolist() == []
    assert contexts(live, "ann").taken.rows.tolist() == [row(live, item)]


def test_a_shopper_of_the_release_goes_on(live: Engine, data: DataSet, later: Callable[[float], float]) -> None:
    user = data.user_ids[0]
    before = contexts(live, user)
    live.record(user, data.item_ids[7], "view", later(60), query="Blue  LAMP ")
    after = contexts(live, user)
    assert after.behaviour.history.rows.tolist() == [*before.behaviour.history.rows, row(live, data.item_ids[7])]
    *_, query, item = zip(*(column[0][after.histories.present[0]].tolist() for column in after.histories), strict=True)
    assert after.query_texts[query[1]] == "Blue LAMP"
    assert (item[0], after.kinds[item[2] - 1]) == (row(live, data.item_ids[7]), "view")
    assert after.now.tolist() == [round(later(60) * SECOND) + 1]
    live.recommend(user_id=user)  # the query is read by the towers


def test_recorded_events_are_read_as_those_of_a_release_are(
    live: Engine, data: DataSet, later: Callable[[float], float]
) -> None:
    """The whole history of a shopper, recorded for another one, is read alike."""
    assert data.events is not None
    events, user = data.events, int(np.argmax(np.diff(data.events.offsets)))
    first = [
        {
            "user_id": "ann",
            "item_id": data.item_ids[events.item[at]],
            "event": events.kinds[events.kind[at]],
            "timestamp": events.time[at] / SECOND,
            "query": events.query_texts[events.query[at]] if events.query[at] >= 0 else None,
            "event_id": str(at),
        }
        for at in range(events.offsets[user], events.offsets[user + 1])
    ]
    half = len(first) // 2
    assert live.record_many([*first[half:], *first[:half]]) == len(first)  # late ones as well
    found, wanted = contexts(live, "ann"), contexts(live, data.user_ids[user])
    texts = [[one.query_texts[code] for code in one.histories.queries[0] if code >= 0] for one in (found, wanted)]
    assert texts[0] == texts[1]
    same = found.histories._replace(queries=wanted.histories.queries)
    assert_same_contexts(replace(found, histories=same, query_texts=wanted.query_texts), wanted)


def test_an_event_counts_once(live: Engine, data: DataSet) -> None:
    assert live.record("ann", data.item_ids[3], "view", event_id="one")
    assert not live.record("ann", data.item_ids[3], "view", event_id="one")
    assert live.record_many([{"user_id": "ann", "item_id": data.item_ids[3], "event": "view", "timestamp": 1}] * 2) == 1
    assert len(contexts(live, "ann").behaviour.history.rows) == 2


def test_an_event_that_the_release_holds_counts_once(live: Engine, data: DataSet) -> None:
    assert data.events is not None
    events, user = data.events, 0
    before = contexts(live, data.user_ids[user])
    at = int(events.offsets[user])
    again = (data.user_ids[user], data.item_ids[events.item[at]], events.kinds[events.kind[at]])
    live.record(*again, events.time[at] / SECOND + 0.4)  # another system noted it a little later
    assert contexts(live, data.user_ids[user]).behaviour.history.rows.tolist() == before.behaviour.history.rows.tolist()
    live.record(*again, events.time[at] / SECOND + 1.4)
    assert len(contexts(live, data.user_ids[user]).behaviour.history.rows) == len(before.behaviour.history.rows) + 1


def test_what_the_release_does_not_know_is_kept_and_not_read(live: Engine, data: DataSet) -> None:
    live.record("ann", "no such item", "purchase")
    live.record("ann", data.item_ids[3], "unheard of")
    assert live.recommend(user_id="ann", k=data.n_items).items
    assert contexts(live, "ann").taken.rows.tolist() == []


def test_another_process_reads_what_this_one_records(
    live: Engine, bundle_path: Path, tmp_path: Path, data: DataSet
) -> None:
    live.record("ann", data.item_ids[3], "view")
    with Engine.open(bundle_path, device="cpu", events=tmp_path / "events.sqlite") as other:
        assert other.recommend(user_id="ann").items == live.recommend(user_id="ann").items
        other.record("ann", data.item_ids[9], "purchase")
        assert contexts(live, "ann").taken.rows.tolist() == [row(live, data.item_ids[9])]


def test_a_wrong_event_is_refused_and_nothing_of_its_batch_is_kept(live: Engine, data: DataSet) -> None:
    with pytest.raises(BadRequest, match="event 1: item_id is None"):
        live.record_many([{"user_id": "ann", "item_id": data.item_ids[3], "event": "view"}, {"user_id": "ann"}])
    assert live.recommend(user_id="ann").fallbacks == (POPULAR,)
    assert live.record_many([]) == 0


def test_an_engine_of_any_release_keeps_no_events(engine: Engine, bundle_path: Path) -> None:
    from indexing.bundle.bundle import Bundle

    bundle = Bundle.open(bundle_path)
    with Engine.of_release(bundle, bundle.current(), device="cpu") as one, pytest.raises(BadRequest, match="keeps no"):
        one.record("ann", "mug", "view")


def test_what_is_taken_of_late_becomes_popular(live: Engine, data: DataSet, later: Callable[[float], float]) -> None:
    least = ids(live.recommend(k=data.n_items))[-1]
    before = live.state.retriever.popularity[row(live, least)]
    events = [{"user_id": f"new {n}", "item_id": least, "event": "purchase", "timestamp": later(n)} for n in range(500)]
    live.record_many(events)
    assert live.state.retriever.popularity[row(live, least)] == before + 500
    assert (ids(live.recommend())[0], live.recommend().degraded) == (least, ())
    live.record_many([{**one, "event": "return"} for one in events])
    live.refresh()  # however much there is to count
    assert live.state.retriever.popularity[row(live, least)] == before
    assert ids(live.recommend())[0] != least


def test_a_forked_child_records_and_reads_beside_its_parent(live: Engine, data: DataSet) -> None:
    live.record("ann", data.item_ids[3], "view")
    contexts(live, "ann")

    def child() -> None:
        live.record("bob", data.item_ids[4], "purchase")
        assert contexts(live, "ann").behaviour.history.rows.tolist() == [row(live, data.item_ids[3])]

    assert succeeds_in_child(child)
    assert contexts(live, "bob").taken.rows.tolist() == [row(live, data.item_ids[4])]
    live.record("bob", data.item_ids[5], "purchase")
    assert len(contexts(live, "bob").taken.rows) == 2


def test_an_answer_is_given_where_the_store_cannot_be_read(
    live: Engine, data: DataSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "events.sqlite").write_text("this is no store of events, but a text that is long enough" * 100)
    assert live.recommend(user_id=data.user_ids[0]).items
    assert "answering without" in caplog.text
    with pytest.raises(BadBundle, match=r"events\.sqlite: the store of events cannot be"):
        live.record("ann", data.item_ids[0], "view")


def test_many_shoppers_are_read_as_each_alone(live: Engine, data: DataSet) -> None:
    live.record("ann", data.item_ids[3], "view", query="red mug")
    live.record("bob", data.item_ids[5], "purchase", query="blue lamp")
    users = [data.user_ids[0], "ann", "nobody", "bob", data.user_ids[1]]
    found: dict[str, list[str]] = {one: [] for one in users}
    for batch in live.recommend_many(users, k=5, rerank=False):
        for line in batch.to_pylist():
            found[line["user_id"]].append(line["item_id"])
    assert found == {user: ids(live.recommend(user_id=user, k=5, rerank=False)) for user in users}
