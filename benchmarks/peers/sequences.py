"""Histories as peers read them: item rows in the order of time, without returned items."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.data.events import Events
from retrieval.data.requests import Requests
from retrieval.data.split import EventSplit
from retrieval.metrics.baselines import histories
from retrieval.topk import CSR, Mask

Rows = NDArray[np.int64]


class Sequences(NamedTuple):
    """Training events of each user, oldest first."""

    items: CSR
    is_target: Mask  # bool [len(items.rows)]: events that may be predicted


class Windows(NamedTuple):
    """Windows of sequences, padded with -1 at the front, and the next item at each position."""

    items: Rows  # [n, longest]
    targets: Rows  # [n, longest] -1 where there is nothing to predict

    def __len__(self) -> int:
        return len(self.items)


def training_sequences(events: Events, split: EventSplit) -> Sequences:
    """The training events of each user."""
    kept = split.train & ~events.is_return()
    lists = CSR(events.offsets, events.item.astype(np.int64)).where(kept)
    return Sequences(lists, split.train_target[kept])


def request_histories(events: Events, requests: Requests) -> CSR:
    """The items before each request, oldest first."""
    kinds = [kind for kind in events.kinds if kind not in return_kinds(events)]
    return histories(events, requests, kinds)


def return_kinds(events: Events) -> set[str]:
    """The kinds of events that are returns."""
    return {events.kinds[code] for code in np.unique(events.kind[events.is_return()])}


def training_windows(sequences: Sequences, longest: int) -> Windows:
    """Every event but a user's first as a target once, in windows of at most `longest` events, cut from the end."""
    lists = sequences.items
    starts, inputs = lists.indptr[:-1], np.maximum(np.diff(lists.indptr) - 1, 0)
    counts = -(-inputs // longest)
    user = np.repeat(np.arange(len(starts)), counts)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    at = (starts + inputs)[user][:, None] - nth[:, None] * longest - np.arange(longest, 0, -1)
    present = at >= starts[user][:, None]
    here, after = np.where(present, at, 0), np.where(present, at + 1, 0)
    known = present & sequences.is_target[after]
    found = Windows(np.where(present, lists.rows[here], -1), np.where(known, lists.rows[after], -1))
    useful = known.any(axis=1)
    return Windows(found.items[useful], found.targets[useful])


def pad_histories(lists: CSR, longest: int) -> Rows:
    """The last `longest` rows of each list, int64 [n, longest], padded with -1 at the front."""
    at = lists.indptr[1:, None] - np.arange(longest, 0, -1)
    present = at >= lists.indptr[:-1, None]
    return np.where(present, np.append(lists.rows, -1)[np.where(present, at, -1)], -1)
