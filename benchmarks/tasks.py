"""What is asked of every retriever that recommends: the test requests, with seen items removed and kept, by slice."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval.baselines import Baseline, histories, targets_of
from retrieval.beyond import head_items
from retrieval.errors import BadData
from retrieval.events import Events
from retrieval.requests import Requests
from retrieval.split import EventSplit
from retrieval.topk import CSR, Mask
from serving.evaluate import Task
from serving.shop import Shop
from serving.slices import request_slices

BANDS = 4  # of price, each with a quarter of the items


def event_side(shop: Shop) -> tuple[Events, EventSplit]:
    """The events of a shop and their split. Raises BadData where there are none."""
    if shop.data.events is None or shop.events is None:
        raise BadData("the data set has no events, and this recommends; add events.parquet")
    return shop.data.events, shop.events


def recommend_tasks(shop: Shop, stages: Mapping[str, Baseline]) -> dict[str, Task]:
    """Both ways of asking for the test requests, with the slices of every evaluation."""
    events, split = event_side(shop)
    requests, found = split.folds["test"], {}
    taken = histories(events, requests, split.target_events)
    counts = training_counts(shop)
    for mode, exclude in (("seen_removed", taken), ("seen_kept", None)):
        targets = targets_of(requests) if exclude is None else targets_of(requests).without(exclude)
        found[mode] = Task(
            targets=targets,
            stages={name: stage.places(targets, exclude=exclude) for name, stage in stages.items()},
            users=requests.user,
            slices=request_slices(events, requests, targets, counts, taken if exclude is None else None),
        )
    return found


def training_counts(shop: Shop) -> NDArray[np.int64]:
    """Training targets of each item, int64 [n_items]."""
    events, split = event_side(shop)
    return np.bincount(events.item[split.train_target], minlength=shop.data.n_items)


def item_slices(items: pa.Table, counts: NDArray[np.int64], targets: CSR) -> dict[str, Mask]:
    """Targets by what they are, bool [n_targets]: the head that makes up half of all sales, the tail, price bands."""
    head = head_items(counts)[targets.rows]
    found = {"head": head, "tail": ~head}
    prices = prices_of(items)
    if np.isfinite(prices).any():
        edges = np.nanquantile(prices, np.linspace(0, 1, BANDS + 1)[1:-1])
        bands = np.searchsorted(edges, prices[targets.rows])
        known = np.isfinite(prices[targets.rows])
        found |= {f"price_{band + 1}_of_{BANDS}": known & (bands == band) for band in range(BANDS)}
    return found


def event_slices(events: Events, requests: Requests, targets: CSR) -> dict[str, Mask]:
    """Targets by the last thing that their shopper did before, bool [n_targets]; none where there is one kind only."""
    before = requests.end > events.offsets[requests.user]
    last = np.where(before, events.kind[np.maximum(requests.end - 1, 0)], -1)[targets.owners]
    kinds = [code for code in range(len(events.kinds)) if (last == code).any()]
    return {f"after_{events.kinds[code]}": last == code for code in kinds} if len(kinds) > 1 else {}


def prices_of(items: pa.Table) -> NDArray[np.float64]:
    """float64 [n_items], nan where an item has none."""
    if "price" not in items.column_names:
        return np.full(items.num_rows, np.nan)
    found: NDArray[np.float64] = items["price"].cast(pa.float64()).to_numpy()
    return found


def groups_of(items: pa.Table, column: str) -> NDArray[np.int64] | None:
    """The code of each item's first value of a column of names, int64 [n_items], -1 where it has none; None where no
    item has one."""
    if column not in items.column_names:
        return None
    values = items[column].combine_chunks()
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        lengths = pc.fill_null(pc.list_value_length(values), 0)
        values = pc.list_element(pc.if_else(pc.greater(lengths, 0), values, pa.scalar([None], values.type)), 0)
    codes = pc.dictionary_encode(values).indices
    found: NDArray[np.int64] = pc.fill_null(codes, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return found if (found >= 0).any() else None
