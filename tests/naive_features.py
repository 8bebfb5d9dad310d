"""Every feature of a candidate by plain loops over events and words, for tests to compare with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from feature_shops import PARTS, SOURCES, FeatureShop
from ranking.features.item_words import idf
from retrieval.data.time_units import DAY, HOUR
from retrieval.text.analysis import Analyzer
from retrieval.text.analysis.measures import is_measure, is_number

NAN = math.nan
MEANS = {"purchase": "take", "add_to_cart": "cart", "favourite": "like", "view": "look", "return": "return"}


class Event(NamedTuple):
    """An event of a shopper: the item's row, what it means, when."""

    item: int
    does: str
    time: int


class Naive:
    """The features of one request's candidates."""

    def __init__(self, shop: FeatureShop, line: int) -> None:
        self.facts, self.shortlists, self.line = shop.facts, shop.shortlists, line
        self.now = int(shop.shortlists.now[line])
        self.own = self._own()
        timeline = shop.facts.timeline
        self.all = [
            Event(*event)
            for event in zip(
                timeline.item.tolist(), map(self._does, timeline.kind.tolist()), timeline.time.tolist(), strict=True
            )
            if event[0] >= 0
        ]
        self.rows = shop.shortlists.rows[line].tolist()
        self.items = shop.facts.items.to_pylist()

    def _does(self, kind: int) -> str:
        return MEANS.get(self.facts.timeline.kinds[kind], "other") if kind >= 0 else "other"

    def _own(self) -> list[Event]:
        events, at = self.shortlists.events, self.line
        part = slice(events.items.indptr[at], events.items.indptr[at + 1])
        kinds = [self._does(kind) for kind in events.kinds[part].tolist()]
        return [
            Event(*one)
            for one in zip(events.items.rows[part].tolist(), kinds, events.times[part].tolist(), strict=True)
        ]

    def of(self, place: int) -> Mapping[str, float]:
        """The features of the candidate at a place; of a pad none."""
        row = self.rows[place]
        groups: Sequence[Callable[[int, int], Mapping[str, float]]] = (
            self.sources, self.towers, self.popularity, self.own_events, self.due, self.tastes, self.prices,
            self.together, self.cosines, self.ratings, self.request, self.query, self.bm25,
        )  # fmt: skip
        return {name: value for group in groups for name, value in group(row, place).items()}

    def sources(self, row: int, place: int) -> Mapping[str, float]:
        found = {}
        for name in ("fused", *SOURCES):
            scores = self.shortlists.fused if name == "fused" else self.shortlists.scores.get(name)
            if scores is None:
                found |= {f"{name}_{kind}": NAN for kind in ("score", "rank", "gap")}
                continue
            listed = [float(s) for s, r in zip(scores[self.line], self.rows, strict=True) if r >= 0]
            own = float(scores[self.line, place])
            above, tied = sum(s > own for s in listed), sum(s == own for s in listed)
            spread = statistics.pstdev(listed)
            found |= {
                f"{name}_score": own,
                f"{name}_rank": math.log2(1 + above + (tied - 1) / 2),
                f"{name}_gap": (max(listed) - own) / spread if spread > 1e-9 else 0.0,
            }
        return found

    def towers(self, row: int, place: int) -> Mapping[str, float]:
        item, user = self.facts.vectors_at(np.array([row]))[0], self.shortlists.vectors[self.line]
        return {f"tower_{name}": float(user[part] @ item[part]) for name, part in PARTS.items()}

    def popularity(self, row: int, place: int) -> Mapping[str, float]:
        takings = self.facts.figures.takings
        found = {"takings": math.log1p(takings[row] if row < len(takings) else 0)}
        taken = [event.time for event in self.all if event.item == row and event.does == "take"]
        looked = [e.time for e in self.all if e.item == row and e.does in ("cart", "like", "look")]

        def within(times: list[int], days: float) -> int:
            return sum(self.now - days * DAY <= time < self.now for time in times)

        counts = {days: within(taken, days) for days in (1, 3, 7, 14, 30, 90)}
        found |= {f"takings_{days}d": math.log1p(count) for days, count in counts.items()}
        found["takings_until_now"] = math.log1p(within(taken, 1e6))
        found["trend"] = math.log((counts[7] / 7 + 0.1) / (counts[30] / 30 + 0.1))
        before = [time for time in taken if time < self.now]
        found["age"] = math.log1p((self.now - min(before)) / DAY) if before else NAN
        found["looks_30d"] = math.log1p(within(looked, 30))
        found["conversion"] = math.log((counts[30] + 1) / (within(looked, 30) + 10))
        return found

    def visit(self) -> list[Event]:
        found: list[Event] = []
        after = self.now
        for event in reversed(self.own):
            if after - event.time > HOUR:
                break
            found.insert(0, event)
            after = event.time
        return found

    def own_events(self, row: int, place: int) -> Mapping[str, float]:
        names = {"taken": "take", "carted": "cart", "liked": "like", "looked": "look", "returned": "return"}
        own = [event for event in self.own if event.item == row]
        found = {f"own_{name}": math.log1p(sum(e.does == does for e in own)) for name, does in names.items()}
        visit = self.visit()
        found["own_days"] = math.log1p(max(self.now - own[-1].time, 0) / DAY) if own else NAN
        found["own_visit"] = math.log1p(sum(event.item == row for event in visit))
        start = len(self.own) - len(visit)

        def carted(first: int, last: int) -> float:
            puts = [i for i, e in enumerate(self.own) if e.item == row and e.does == "cart" and first <= i < last]
            ends = [i for i, e in enumerate(self.own) if e.item == row and e.does in ("take", "return")]
            return float(max(puts, default=-1) > max(ends, default=-1))

        given = self.shortlists.carts
        cart = given.rows[given.indptr[self.line] : given.indptr[self.line + 1]].tolist()
        found["in_cart"] = max(carted(start, len(self.own)), float(row in cart))
        found["left_in_cart"] = carted(0, start)
        found["last_was_look"] = float(bool(own) and own[-1].does == "look")
        return found

    def due(self, row: int, place: int) -> Mapping[str, float]:
        times = sorted(event.time for event in self.own if event.item == row and event.does == "take")
        figures = self.facts.figures
        of_item = float(figures.gap[row]) if row < len(figures.gap) else NAN
        distinct = len(set(times))
        since = max(self.now - times[-1], 0) / DAY if times else NAN
        own_gap = (times[-1] - times[0]) / DAY / (distinct - 1) if distinct > 1 else NAN
        gap = of_item if math.isnan(own_gap) else own_gap
        over = NAN if math.isnan(since + gap) else math.log((since + 1) / (gap + 1))
        return {
            "taken_before": float(bool(times)),
            "times_taken": math.log1p(distinct),
            "days_since_taken": math.log1p(since) if times else NAN,
            "item_gap": NAN if math.isnan(of_item) else math.log1p(of_item),
            "own_gap": NAN if math.isnan(own_gap) else math.log1p(own_gap),
            "overdue": over,
            "off_rhythm": abs(over),
        }

    def tastes(self, row: int, place: int) -> Mapping[str, float]:
        brand = self._brand(row)
        leaf, parent = self._category(-1, row), self._category(0, row)
        every = [self._category(at, row)[0] for at in range(len(self.items[row]["category"] or []))]
        if len(every) == 1:
            every = every * 2
        return {
            "leaf_share": leaf[0],
            "parent_share": parent[0],
            "category_mean_share": statistics.fmean(every) if every else NAN,
            "leaf_recent_share": leaf[1],
            "leaf_events_ago": leaf[2],
            "parent_events_ago": parent[2],
            "brand_share": brand[0],
            "brand_recent_share": brand[1],
            "brand_events_ago": brand[2],
        }

    def _category(self, which: int, row: int) -> tuple[float, float, float]:
        names = self.items[row]["category"]
        if not names or not self.own:
            return NAN, NAN, NAN
        return self._shares([names[which] in (self.items[one.item]["category"] or []) for one in self.own])

    def _brand(self, row: int) -> tuple[float, float, float]:
        name = self.items[row]["brand"]
        if name is None or not self.own:
            return NAN, NAN, NAN
        return self._shares([self.items[one.item]["brand"] == name for one in self.own])

    def _shares(self, held: list[bool]) -> tuple[float, float, float]:
        held = held[::-1]
        at = [n for n, one in enumerate(held) if one]
        return len(at) / len(held), sum(n < 10 for n in at) / min(len(held), 10), math.log1p(at[0]) if at else NAN

    def prices(self, row: int, place: int) -> Mapping[str, float]:
        def log_price(item: int) -> float:
            price = self.items[item]["price"]
            return math.log(price) if price else NAN

        def median(values: Sequence[float]) -> float:
            known = [value for value in values if not math.isnan(value)]
            return statistics.median(known) if known else NAN

        own = log_price(row)
        usual = own - median([log_price(event.item) for event in self.own if event.does == "take"])
        known = [p for event in self.own if not math.isnan(p := log_price(event.item))]
        last = own - known[-1] if known else NAN
        return {
            "price_to_usual": usual,
            "price_off_usual": abs(usual),
            "price_to_last": last,
            "price_off_last": abs(last),
            "price_to_list": own - median([log_price(one) for one in self.rows if one >= 0]),
        }

    def together(self, row: int, place: int) -> Mapping[str, float]:
        found = {}
        for name in ("together", "after"):
            matrix = self.facts.similarities[name]().toarray()
            newest = [event.item for event in reversed(self.own)]
            values = [float(matrix[i, row]) if max(i, row) < len(matrix) else 0.0 for i in newest]
            for last in (1, 3, 10):
                found[f"{name}_sum_{last}"] = math.log1p(sum(values[:last]))
                if last > 1:
                    found[f"{name}_max_{last}"] = math.log1p(max(values[:last], default=0.0))
        return found

    def cosines(self, row: int, place: int) -> Mapping[str, float]:
        found = {}
        for name in ("content", "identity"):
            vectors = self.facts.vectors_at(np.arange(len(self.items)))[:, PARTS[name]].astype(np.float64)
            unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            values = [float(unit[event.item] @ unit[row]) for event in reversed(self.own)]
            for last in (1, 3, 10):
                found[f"{name}_cosine_mean_{last}"] = statistics.fmean(values[:last]) if values else NAN
                if last > 1:
                    found[f"{name}_cosine_max_{last}"] = max(values[:last]) if values else NAN
        return found

    def ratings(self, row: int, place: int) -> Mapping[str, float]:
        figures = self.facts.figures
        if row >= len(figures.rating):
            return {"rating": NAN, "ratings": 0.0}
        return {"rating": float(figures.rating[row]), "ratings": math.log1p(figures.ratings[row])}

    def request(self, row: int, place: int) -> Mapping[str, float]:
        given = self.shortlists.carts
        cart = given.indptr[self.line + 1] - given.indptr[self.line]
        put = sum(event.does in ("cart", "take") for event in self.visit())
        return {
            "history_length": math.log1p(len(self.own)),
            "taken_length": math.log1p(sum(event.does == "take" for event in self.own)),
            "basket_size": math.log1p(put + cart),
            "days_since_event": math.log1p(max(self.now - self.own[-1].time, 0) / DAY) if self.own else NAN,
            "hour": self.now % DAY / HOUR,
            "weekday": float((self.now // DAY + 3) % 7),
        }

    def query(self, row: int, place: int) -> Mapping[str, float]:
        text = self.shortlists.corrected[self.line]
        query, title = Analyzer().stems(text), Analyzer().stems(self.items[row]["title"])
        found = {
            "query_length": math.log1p(len(query)),
            "query_corrected": float(text != self.shortlists.typed[self.line]),
        }
        names = (
            "words_in_title", "title_in_words", "numbers_matched", "numbers_missed", "measures_matched",
            "measures_missed", "brand_named", "phrase_in_title", "first_words", "pairs_in_title",
        )  # fmt: skip
        if not query:
            return found | dict.fromkeys(names, NAN)
        asked, has, pairs = set(query), set(title), set(pairwise(query))
        of_title = set(pairwise(title))
        numbers, sizes = set(filter(is_number, asked)), set(filter(is_measure, asked))
        counted = {pair for pair in pairs if pair[0] in numbers and pair[1] not in sizes}
        brand = set(Analyzer().stems(self.items[row]["brand"] or ""))
        values = (
            len(asked & has) / len(asked),
            len(asked & has) / max(1, len(has)),
            len(numbers & has),
            len(numbers - has),
            len(sizes & has) + len(counted & of_title),
            len(sizes - has) + len(counted - of_title),
            bool(brand) and brand <= asked,
            f" {' '.join(query)} " in f" {' '.join(title)} ",
            len(asked & set(title[: len(query) + 2])) / len(asked),
            len(pairs & of_title) / max(1, len(pairs)),
        )
        return found | dict(zip(names, map(float, values), strict=True))

    def bm25(self, row: int, place: int) -> Mapping[str, float]:
        query = set(Analyzer().stems(self.shortlists.corrected[self.line]))

        def text(item: Mapping[str, object], name: str) -> list[str]:
            if name == "title":
                return Analyzer().stems(str(item["title"]))
            parts = [item["brand"] or "", " ".join(item["category"] or ()), item["description"] or ""]  # type: ignore[call-overload]
            return Analyzer().stems(" ".join(parts))

        found = {}
        for name in ("title", "fields"):
            usual = max(1.0, statistics.fmean(len(text(item, name)) for item in self.items))
            own, total = text(self.items[row], name), 0.0
            for word in query:
                times, length = own.count(word), len(own) / usual
                holding = self.facts.items_with
                assert holding is not None
                weight = idf(word, holding, len(self.items))
                total += weight * times / (times + 1.5 * (0.25 + 0.75 * length))
            found[f"{name}_bm25"] = total if query else NAN
        return found
