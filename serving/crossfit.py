"""Two halves of the shoppers, so that every ranker pair comes from a retriever that did not train on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retrieval.requests import Requests, group_targets
from retrieval.train_text import hashed_share
from serving.shop import Shop

REQUESTS_EACH = 2  # of a shopper's last training requests


def halves(shop: Shop) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two complementary masks over the users, bool [n_users], by a stable hash of their ids."""
    first = hashed_share([f"half {user}" for user in shop.data.user_ids], 0.5)
    return first, ~first


def last_training_requests(shop: Shop, users: NDArray[np.bool_], each: int = REQUESTS_EACH) -> Requests:
    """The last `each` training requests of every one of the users, those without a history left out."""
    assert shop.events is not None
    assert shop.data.events is not None
    events, train = shop.data.events, shop.events.train_target
    requests = group_targets(events, train).requests(events, train)
    begins = events.offsets[:-1][requests.user]
    told = requests.select(users[requests.user] & (requests.end > begins))
    order = np.lexsort((-told.end, told.user))
    starts = np.searchsorted(told.user[order], told.user[order], side="left")
    nth = np.arange(len(order)) - starts
    return told.select(np.sort(order[nth < each]))
