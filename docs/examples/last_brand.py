"""A source of candidates: items of the brand that the user took last."""

import numpy as np

from retrieval.sources.protocols import RequestBatch, SparseScores
from retrieval.sources.registry import ReleaseParts, SourceSpec, register_source
from retrieval.topk import CSR


class LastBrand:
    """Scores every item of the brand of the item taken last with 1."""

    def __init__(self, brands: list[str | None]) -> None:
        names, self.brand_of = np.unique([brand or "" for brand in brands], return_inverse=True)
        sizes = np.bincount(self.brand_of, minlength=len(names) + 1)  # and no brand at all, for users without a history
        self.items_of = CSR(np.concatenate(([0], np.cumsum(sizes))), np.argsort(self.brand_of, kind="stable"))

    def read(self, requests: RequestBatch) -> SparseScores:
        taken = requests.taken  # the rows of each user's items, oldest first
        brand = np.full(taken.n_lists, self.items_of.n_lists - 1)
        known = np.diff(taken.indptr) > 0
        brand[known] = self.brand_of[taken.rows[taken.indptr[1:][known] - 1]]
        lists = self.items_of.select(brand)
        return SparseScores(lists, np.ones(len(lists.rows), np.float32))


def last_brand(parts: ReleaseParts) -> LastBrand:
    return LastBrand(parts.column("brand").to_pylist())


register_source(
    SourceSpec(
        name="last_brand",
        about="items of the brand that the user took last",
        make=last_brand,
        available=lambda parts: parts.column("brand") is not None,
        counts_for=lambda case: case.order != "search",
        follows_updates=True,
    )
)
