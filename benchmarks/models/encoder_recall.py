"""What the ways of running the text encoder do to search: recall of judged queries over a whole catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.intervals import mean_intervals
from benchmarks.models.throughput import ENCODE_WAYS, THEIRS, EncodeWay
from benchmarks.result_lines import Line
from indexing.bundle.bundle import Bundle
from retrieval.errors import BadData
from retrieval.metrics.ranking import Values, recall_at
from retrieval.text.rendering import item_texts
from retrieval.topk import exact_topk
from retrieval.towers.serving import TEXT
from serving.cli.options import settings_of
from serving.cli.show import say
from serving.evaluation.figures import relevant_rows
from serving.jobs.train_one import index_ids, recorded_settings
from serving.shop import Shop

K = 100
RESAMPLES = 2_000
FEW = 500  # items, in a hurry
HELD_OUT = ("ranker_valid", "gate", "test")  # folds whose queries the towers did not learn from


@dataclass(frozen=True)
class EncoderRecallRun:
    """A bundle and the data set that it was made of: its own text encoder reads all items (FEW if `quick`) and the
    judged queries."""

    bundle: Path
    data: Path
    device: str = "auto"
    quick: bool = False

    def lines(self) -> Iterator[Line]:
        """Of each way recall@100 by its vectors, without an index between, and its change from the first way's, paired
        by query, with the 95 % interval of a bootstrap; of the test queries, and of all that the towers did not learn
        from. In int8 the items alone are read; queries are bf16, as served. Raises BadData without judged queries."""
        bundle = Bundle.open(self.bundle)
        release = bundle.current()
        settings = settings_of(base=recorded_settings(bundle))
        shop = Shop.open(self.data, settings.data, now=datetime.now(UTC), like=index_ids(bundle, release))
        if shop.judgements is None:
            raise BadData(f"{self.data} has no judgements.parquet, so that nobody knows what a search is to find")
        queries = {name: shop.judgements.folds[name] for name in HELD_OUT}
        asked = {"test": queries["test"], "all held out": np.concatenate([queries[name] for name in HELD_OUT])}
        folder = bundle.path_of("towers", release.towers) / TEXT
        found: dict[str, dict[str, Values]] = {fold: {} for fold in asked}
        texts = item_texts(shop.data.items)[: FEW if self.quick else None]
        for name, (of_queries, of_items) in self._encoders(folder).items():
            say(f"-- {name}: {len(texts):,} items")
            read_items = of_items.open(folder, self.device)
            read = read_items if of_queries is of_items else of_queries.open(folder, self.device)
            items = read_items(texts)
            for fold, rows in asked.items():
                targets = relevant_rows(*shop.judged(rows))
                targets = targets.where(targets.rows < len(items))
                hits = exact_topk(read(shop.query_texts(rows)), items, min(K, len(items)))
                found[fold][name] = recall_at(hits, targets, K)
        for fold, ways in found.items():
            yield from _lines(fold, ways)

    def _encoders(self, folder: Path) -> Mapping[str, tuple[EncodeWay, EncodeWay]]:
        """The ways by name, each as what reads queries and what reads items. Float32 is our quickest."""
        there = {way.name: way for way in ENCODE_WAYS if way.there(folder, self.device)}
        same = {THEIRS, "torch"} if "openvino" in there else {THEIRS}  # as the first that is left, and slower
        return {
            name: (there["bf16"] if name == "int8" else way, way) for name, way in there.items() if name not in same
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
