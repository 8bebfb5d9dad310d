"""Whether a shop's gate could show that a reranker helps, before minutes are spent on training one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ranking.ordering.gate import DETECTABLE
from serving.settings import RankConfig
from serving.shop import Shop

DEVIATION = 0.25  # of the change of a request's nDCG@10 by reranking: .2 to .3 on our data sets


def gate_can_tell(shop: Shop, config: RankConfig, *, say: Callable[[str], None]) -> bool:
    """Whether the shop's gate could show that a reranker helps; a line says so if not, where one is wanted."""
    why = why_unprovable(shop, config)
    if why is not None and config.enabled:
        say(why)
    return why is None


def why_unprovable(shop: Shop, config: RankConfig) -> str | None:
    """Why no gate of the shop could show that a reranker helps, in a line for the user; None where one could, or where
    none is asked for."""
    shoppers = 0 if shop.events is None else len(np.unique(shop.events.folds["gate"].user))
    queries = 0 if shop.judgements is None else len(shop.judgements.folds["gate"])
    largest = max(shoppers, queries)
    if config.gate == "no" or largest >= config.min_gate:
        return None
    gates = [f"{shoppers:,} shoppers"] if shop.events is not None else []
    gates += [f"{queries:,} judged queries"] if shop.judgements is not None else []
    shown = f"a change of nDCG@10 below {detectable_change(largest):.2f}" if largest else "anything"
    return (
        f"ranker: left out, for a gate of {' and '.join(gates)} cannot show {shown}; judge more queries, or set "
        "ranking.min_gate lower"
    )


def detectable_change(n: int) -> float:
    """The mean change of nDCG@10 that n shoppers or queries show in 4 cases of 5; infinite for none.

    >>> round(detectable_change(50), 3), detectable_change(0)
    (0.099, inf)
    """
    return DETECTABLE * DEVIATION / float(np.sqrt(n)) if n else float("inf")
