"""Filters of requests as masks over the rows of an index version; those of late are remembered."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from indexing.filters import Dnf, parse_filters
from indexing.version import IndexVersion
from retrieval.topk import Mask
from serving.requests import Filters

REMEMBERED = 32  # masks, one byte an item each


class FilterMasks:
    """The masks of one version. Safe to use from many threads."""

    def __init__(self, version: IndexVersion) -> None:
        self._version = version
        self._masks = OrderedDict[Dnf, Mask]()
        self._lock = Lock()

    def of(self, filters: Filters | None) -> Mask | None:
        """The rows that a request's filters allow, bool [size], read-only; None: all.

        Raises BadRequest, naming the column or the operator, for what cannot be filtered by.
        """
        if not filters:
            return None
        wanted = parse_filters(filters, self._version.stored.schema)
        with self._lock:
            if wanted in self._masks:
                self._masks.move_to_end(wanted)
                return self._masks[wanted]
        mask = self._version.by_row(wanted.mask(self._version.stored))
        mask.setflags(write=False)
        with self._lock:
            self._masks[wanted] = mask
            while len(self._masks) > REMEMBERED:
                self._masks.popitem(last=False)
        return mask
