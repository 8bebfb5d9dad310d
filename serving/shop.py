"""A data set with its splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.data.dataset import DataSet, load
from retrieval.data.recorded import RecordedEvents
from retrieval.data.split import EventSplit, JudgementSplit, split_events, split_judgements
from retrieval.data.timeline import Timeline
from retrieval.errors import BadData
from retrieval.metrics.baselines import targets_of
from retrieval.text.analysis import Analyzer, Language
from retrieval.text.rendering import ItemTexts
from retrieval.topk import CSR
from serving.settings import DataConfig

REPEATS_MATTER = 0.05  # share of targets bought before, above which seen items are answered by default


@dataclass(frozen=True)
class Shop:
    """A data set, split."""

    data: DataSet
    events: EventSplit | None
    judgements: JudgementSplit | None

    @classmethod
    def open(
        cls,
        folder: Path,
        config: DataConfig,
        *,
        now: datetime,
        rejected: Path | None = None,
        like: Sequence[str] | None = None,
        catalogue_alone: bool = False,
        recorded: RecordedEvents | None = None,
    ) -> Shop:
        """Read, validate and split a data set; raises BadData in one line. Bad rows are written to `rejected`. What was
        `recorded` is read beside the files, see `retrieval.data.dataset.load`.

        `like` are the item ids of an index, whose row order the items then take. `catalogue_alone`: events and
        judgements may be missing.
        """
        data = load(
            folder,
            max_bad=config.max_bad,
            max_unknown=config.max_unknown,
            rejected=rejected,
            now=now,
            require_interactions=not catalogue_alone,
            recorded=recorded,
        )
        if config.language != "auto":
            data = replace(data, language=Language(config.language, "as data.language says"))
        data = data if like is None else in_order(data, like, folder)
        events = None
        if data.has_recommend:
            events = split_events(
                data, kind=config.split, target_events=config.target_events, min_rating=config.min_rating
            )
        return cls(data, events, split_judgements(data) if data.has_search else None)

    @property
    def language(self) -> str:
        """The language of the catalogue, ISO 639-1, as the settings or else its titles tell; `none`: not known."""
        return self.data.language.code

    @cached_property
    def analyzer(self) -> Analyzer:
        """Reads the words of the shop's texts."""
        return Analyzer.of_catalogue(self.language, ItemTexts(self.data.items))

    @property
    def target_events(self) -> tuple[str, ...]:
        """The kinds of events to predict."""
        return () if self.events is None else self.events.target_events

    def split_lines(self) -> list[str]:
        """What is predicted, and the splits, described in a line each."""
        lines = []
        if self.events is not None:
            lines.append(f"target events: {self.events.predicted}")
            sizes = ", ".join(f"{name} {len(fold):,}" for name, fold in self.events.folds.items())
            lines.append(f"split of events: {self.events.kind}, {self.events.reason}; requests: {sizes}")
        if self.judgements is not None:
            sizes = ", ".join(f"{name} {len(fold):,}" for name, fold in self.judgements.folds.items())
            lines.append(f"split of judgements: {self.judgements.reason}; queries: {sizes}")
        return lines

    def fold_sizes(self) -> dict[str, int]:
        """Requests and queries of each fold."""
        sizes: dict[str, int] = {}
        if self.events is not None:
            sizes |= {name: len(fold) for name, fold in self.events.folds.items()}
        if self.judgements is not None:
            sizes |= {f"queries {name}": len(fold) for name, fold in self.judgements.folds.items()}
        return sizes

    def shoppers_buy_again(self) -> bool:
        """Whether shoppers take items again: more than REPEATS_MATTER of the ranker's targets were taken before."""
        if self.events is None or self.data.events is None:
            return False
        requests = self.events.folds["ranker_train"]
        timeline, position = Timeline.from_events(self.data.events)
        taken = timeline.codes_of(self.target_events)
        seen = timeline.items_before(requests.user, position[requests.end], taken)
        return repeat_share(seen, targets_of(requests)) > REPEATS_MATTER

    def judged(self, queries: NDArray[np.integer]) -> tuple[CSR, NDArray[np.float32]]:
        """The judged rows and grades of queries, in their order."""
        assert self.data.judgements is not None
        judged = self.data.judgements
        place = np.full(int(judged.query.max(initial=-1)) + 1, -1, np.int64)
        known = queries[queries < len(place)]
        place[known] = np.flatnonzero(queries < len(place))
        at = place[judged.query]
        order = np.argsort(at, kind="stable")
        order = order[at[order] >= 0]
        counts = np.bincount(at[order], minlength=len(queries))
        indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        return CSR(indptr, judged.item[order].astype(np.int64)), judged.grade[order]

    def query_texts(self, queries: NDArray[np.integer]) -> list[str]:
        """The texts of queries."""
        assert self.data.queries is not None
        return [self.data.queries.texts[query] for query in queries]

    def titles(self, rows: Sequence[int] | NDArray[np.int64]) -> list[str]:
        """Titles of items by row; negative rows are left out."""
        kept = np.asarray(rows, np.int64)
        found: list[str] = self.data.items["title"].take(kept[kept >= 0]).to_pylist()
        return found


def in_order(data: DataSet, ids: Sequence[str], folder: Path) -> DataSet:
    """The data set with its items in the order of `ids`; BadData where they are not the same items."""
    row_of = {item_id: row for row, item_id in enumerate(data.item_ids)}
    rows = np.fromiter((row_of.get(item_id, -1) for item_id in ids), np.int64, len(ids))
    if len(ids) != data.n_items or (rows < 0).any():
        raise BadData(
            f"{folder}: its {data.n_items:,} items differ from the {len(ids):,} of the bundle's index; first run: "
            f"shortlist index build BUNDLE --data {folder}"
        )
    place = np.empty(len(rows), np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    return replace(
        data,
        items=data.items.take(rows),
        item_ids=tuple(ids),
        events=data.events and replace(data.events, item=place[data.events.item]),
        judgements=data.judgements and replace(data.judgements, item=place[data.judgements.item]),
        relations=data.relations
        and replace(data.relations, item=place[data.relations.item], related=place[data.relations.related]),
    )


def repeat_share(seen: CSR, targets: CSR) -> float:
    """The share of targets that occur in their request's history."""
    n = int(max(seen.rows.max(initial=0), targets.rows.max(initial=0))) + 1
    known = np.isin(targets.owners * n + targets.rows, seen.owners * n + seen.rows)
    return float(known.mean()) if len(known) else 0.0
