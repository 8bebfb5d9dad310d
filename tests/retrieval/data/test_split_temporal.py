"""Windows of time test: when they are chosen, and that nobody's future trains anyone."""

from __future__ import annotations

from itertools import pairwise

from event_rows import DAY, START, Row, bought, dataset, events_of, shop
from retrieval.data.split import EVENT_FOLDS, split_events


def test_temporal_is_chosen_by_itself_and_its_windows_follow_each_other() -> None:
    data = dataset(shop(120, 300))
    split = split_events(data)
    assert split.kind == "temporal"
    assert split.target_events == ("purchase",)
    starts, ends = zip(*(split.windows[name] for name in EVENT_FOLDS), strict=True)
    assert ends[:-1] == starts[1:]
    assert ends[-1] - starts[-1] == 30 * DAY
    for name, (start, end) in split.windows.items():
        times = split.folds[name].time
        assert len(times)
        assert ((times >= start) & (times < end)).all()


def test_a_short_span_tests_on_its_last_part() -> None:
    split = split_events(dataset(shop(200, 40)))
    start, end = split.windows["test"]
    assert 5 * DAY < end - start < 6.1 * DAY


def test_nobodys_future_trains_anyone() -> None:
    data = dataset(shop(120, 300))
    split = split_events(data)
    first_held = split.windows["tower_valid"][0]
    assert (events_of(data).time[split.train] < first_held).all()
    for one, other in pairwise(EVENT_FOLDS):
        assert split.folds[one].time.max() < split.folds[other].time.min()


def test_what_trains_knows_of_no_later_return() -> None:
    rows = shop(120, 300)
    split = split_events(dataset(rows))
    in_train = next(row for row in rows if row[2] == "purchase" and row[3] < split.windows["tower_valid"][0] - 9 * DAY)
    later: Row = (in_train[0], in_train[1], "return", split.windows["test"][1] - 1, None)
    after = split_events(dataset([*rows, later]))
    assert after.train_target.sum() == split.train_target.sum()


def test_an_outlying_date_does_not_stretch_the_windows() -> None:
    rows = shop(120, 300)
    odd: Row = ("u0", "i0", "purchase", START - 30 * 365 * DAY, "odd")
    assert split_events(dataset([*rows, odd])).windows["tower_valid"][0] > START + 200 * DAY


def test_too_few_requests_for_windows_fall_back() -> None:
    split = split_events(dataset(shop(6, 60)))
    assert split.kind == "leave_one_out"
    assert "fewer than 20" in split.reason
    assert not split.windows


def test_positions_instead_of_dates_are_seen() -> None:
    rows = [row for n in range(60) for row in bought(f"u{n}", *(["a", "b", "c"] + ["d"] * (n % 30)), basket=True)]
    split = split_events(dataset(rows))
    assert split.kind == "leave_one_out"
    assert "positions" in split.reason


def test_one_timestamp_for_all_events_works() -> None:
    data = dataset([(row[0], row[1], row[2], START, None) for row in shop(30, 10)])
    assert len(split_events(data).folds["test"]) == 30
    data = dataset([(row[0], row[1], row[2], START, row[4]) for row in shop(30, 10)])
    assert split_events(data).kind == "leave_one_out"
