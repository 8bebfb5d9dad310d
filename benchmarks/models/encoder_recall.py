"""The effect of the text encoder's runtime and precision on search: recall of judged queries over the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.intervals import mean_intervals
from benchmarks.models.throughput import ENCODE_RUNNERS, REFERENCE, EncodeRunner
from benchmarks.result_lines import Line
from indexing.bundle.bundle import Bundle
from retrieval.errors import BadData
from retrieval.metrics.ranking import Values, recall_at
from retrieval.text.rendering import item_texts
from retrieval.topk import exact_topk
from retrieval.towers.serving import TEXT
from serving.cli.options import settings_of
from serving.cli.show import say
from serving.internals import Shop, index_ids, recorded_settings, relevant_rows

K = 100
RESAMPLES = 2_000
FEW = 500  # items of a quick run
HELD_OUT = ("ranker_valid", "gate", "test")  # folds that the towers were not trained on


@dataclass(frozen=True)
class EncoderRecallRun:
    """A bundle, whose text encoder encodes all items (FEW if `quick`) and the judged queries of its data set."""

    bundle: Path
    data: Path
    device: str = "auto"
    quick: bool = False

    def lines(self) -> Iterator[Line]:
        """Recall@100 of each runner by exact search, and its change from the first runner, paired by query, with the 95
        % bootstrap interval: for the test queries, and for all queries that the towers were not trained on. The int8
        runner encodes items only; queries are bf16, as served. Raises BadData without judged queries."""
        bundle = Bundle.open(self.bundle)
        release = bundle.current()
        settings = settings_of(base=recorded_settings(bundle))
        shop = Shop.open(self.data, settings.data, now=datetime.now(UTC), like=index_ids(bundle, release))
        if shop.judgements is None:
            raise BadData(f"{self.data} has no judgements.parquet, which the recall of search needs")
        queries = {name: shop.judgements.folds[name] for name in HELD_OUT}
        folds = {"test": queries["test"], "all held out": np.concatenate([queries[name] for name in HELD_OUT])}
        folder = bundle.path_of("towers", release.towers) / TEXT
        found: dict[str, dict[str, Values]] = {fold: {} for fold in folds}
        texts = item_texts(shop.data.items)[: FEW if self.quick else None]
        for name, (of_queries, of_items) in self._encoders(folder).items():
            say(f"-- {name}: {len(texts):,} items")
            read_items = of_items.open(folder, self.device)
            read = read_items if of_queries is of_items else of_queries.open(folder, self.device)
            items = read_items(texts)
            for fold, rows in folds.items():
                targets = relevant_rows(*shop.judged(rows))
                targets = targets.where(targets.rows < len(items))
                hits = exact_topk(read(shop.query_texts(rows)), items, min(K, len(items)))
                found[fold][name] = recall_at(hits, targets, K)
        for fold, ways in found.items():
            yield from _lines(fold, ways)

    def _encoders(self, folder: Path) -> Mapping[str, tuple[EncodeRunner, EncodeRunner]]:
        """The runners by name, each as a pair: for queries and for items. Of our float32 runners only the fastest."""
        available = {way.name: way for way in ENCODE_RUNNERS if way.is_available(folder, self.device)}
        # with the same vectors as openvino, but slower
        same = {REFERENCE, "torch"} if "openvino" in available else {REFERENCE}
        return {
            name: (available["bf16"] if name == "int8" else way, way)
            for name, way in available.items()
            if name not in same
        }


def _lines(fold: str, ways: Mapping[str, Values]) -> Iterator[Line]:
    first = next(iter(ways.values()))
    for name, recall in ways.items():
        change, low, high = (
            float(bound[0]) for bound in mean_intervals((recall - first)[:, None], None, resamples=RESAMPLES)
        )
        known = recall[~np.isnan(recall)]
        summary = {"n": float(len(known)), "mean": float(known.mean()), "change": change, "low": low, "high": high}
        yield Line(measured="encode, search", labels={"way": name, "queries": fold}, unit="share", summary=summary)
