"""Filters of requests as masks over the rows of an index version; those of late are remembered."""

from __future__ import annotations

from indexing.version.filters import Dnf, parse_filters
from indexing.version.index_version import IndexVersion
from retrieval.topk import Mask
from serving.request import Filters

REMEMBERED = 32  # masks, one byte an item each


class FilterMasks:
    """The masks of one version. Safe to use from many threads."""

    def __init__(self, version: IndexVersion) -> None:
        self._version = version
        self._masks: dict[Dnf, Mask] = {}

    def of(self, filters: Filters | None) -> Mask | None:
        """The rows that a request's filters allow, bool [size], not to be written to; None: all.

        Raises BadRequest, naming the column or the operator, for what cannot be filtered by.
        """
        if not filters:
            return None
        wanted = parse_filters(filters, self._version.stored.schema)
        mask = self._masks.get(wanted)
        if mask is None:
            mask = self._version.by_row(wanted.mask(self._version.stored))
            if len(self._masks) >= REMEMBERED:
                self._masks.clear()
            self._masks[wanted] = mask
        return mask

    def forget(self) -> None:
        """Keeps none of them."""
        self._masks.clear()
