"""Embedded retrieval calls: open a bundle, ask for items."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from retrieval.encoders.runtime import RuntimeName
from serving.answering.release_state import Clock, ReleaseState
from serving.answering.reloader import ReleaseReloader
from serving.answering.stages import Stages
from serving.answering.user_context import Histories
from serving.answering.user_store import Shoppers
from serving.request import Answer, Filters, Request


class Engine:
    """Answers requests from the live release of a bundle. Safe to call from many threads, and after a fork.

    Open it once and keep it: `Engine.open(path)`. Updates of the index are answered within a second of their end, and a
    release that becomes live once it is open beside the one before, which goes on answering meanwhile. Every answer
    comes whole from one release and one state of its index, and names both.
    """

    def __init__(self, source: ReleaseState | ReleaseReloader) -> None:
        self._source = source

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        runtime: RuntimeName = "openvino",
        auto_reload: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> Engine:
        """The live release of a bundle, with its updates; `auto_reload=False` keeps it as it is now.

        `runtime` is what runs the encoder and the cross-encoder on CPUs, openvino or torch; on CUDA it is torch.
        `clock` gives seconds and never goes back. Raises BadConfig for options that are not known or do not go
        together; BadBundle, CorruptBundle or StaleArtefact, by name.
        """
        bundle = Bundle.open(Path(path))
        open_live = partial(ReleaseState.live, bundle, device=device, precision=precision, runtime=runtime)
        state = open_live()
        return cls(ReleaseReloader(bundle, state, open_live, clock) if auto_reload else state)

    @classmethod
    def of_release(
        cls,
        bundle: Bundle,
        release: Release,
        *,
        device: str = "auto",
        precision: str = "auto",
        runtime: RuntimeName = "openvino",
    ) -> Engine:
        """Any release of a bundle, live or not, as it was built; it follows nothing."""
        return cls(ReleaseState.of_release(bundle, release, device=device, precision=precision, runtime=runtime))

    def recommend(
        self,
        *,
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        query: str | None = None,
        k: int = 10,
        filter_seen: bool | None = None,
        rerank: bool = True,
        filters: Filters | None = None,
        deadline_ms: float | None = None,
        spellcheck: bool = True,
    ) -> Answer:
        """The k best items for a shopper, known by `user_id` or by the item ids of a `history`, oldest first.

        With a query it is a personalised search. An unknown user or an empty history is answered by what is popular;
        unknown items of a history are passed over; k beyond the catalogue gives the whole catalogue. What was fallen
        back to is said in the answer, and under `degraded` what a deadline, in milliseconds, left no time for.
        `filters`, `filter_seen` and `deadline_ms` as `Request` takes them. Raises BadRequest for a k below 1 and for
        filters that the items do not have.
        """
        return self.answer(
            Request(
                user_id=user_id,
                history=history,
                query=query,
                k=k,
                filter_seen=filter_seen,
                rerank=rerank,
                filters=filters,
                deadline_ms=deadline_ms,
                spellcheck=spellcheck,
            )
        )

    def search(
        self,
        text: str,
        *,
        user_id: str | None = None,
        history: Sequence[str] | None = None,
        k: int = 10,
        filter_seen: bool | None = False,
        rerank: bool = True,
        filters: Filters | None = None,
        deadline_ms: float | None = None,
        spellcheck: bool = True,
    ) -> Answer:
        """The k best items for a query, leaning towards what the shopper likes, if one is given.

        A word that no item has is taken for the one that was probably meant, unless `spellcheck` is false; the answer's
        `corrected_query` tells. An empty query is a recommendation.
        """
        return self.recommend(
            user_id=user_id, history=history, query=text, k=k, filter_seen=filter_seen, rerank=rerank, filters=filters,
            deadline_ms=deadline_ms, spellcheck=spellcheck,
        )  # fmt: skip

    def similar(self, item_id: str, *, k: int = 10, filters: Filters | None = None) -> Answer:
        """The k items nearest to an item, itself left out; popular ones for an item that is not known."""
        return self.state.similar(Request(history=[item_id], k=k, filters=filters))

    def complete_cart(
        self,
        items: Sequence[str],
        *,
        user_id: str | None = None,
        k: int = 10,
        rerank: bool = True,
        filters: Filters | None = None,
        deadline_ms: float | None = None,
    ) -> Answer:
        """The k items that best go on from a cart of item ids; what is in it is never answered.

        Items that the shopper took before are left out as in a recommendation.
        """
        request = Request(user_id=user_id, history=items, k=k, rerank=rerank, filters=filters, deadline_ms=deadline_ms)
        clock = Clock(deadline_ms)
        return self.state.complete_cart(request, clock)

    def answer(self, request: Request) -> Answer:
        """Any request."""
        clock = Clock(request.deadline_ms)
        return self.state.answer(request, clock)

    def titles(self, items: Sequence[str]) -> list[str]:
        """The titles of items; an unknown one has none and is left out."""
        return self.state.titles(items)

    def refresh(self) -> None:
        """Look for updates and for another live release now, and return when what was found is answered from.

        Requests need no such call: they look twice a second by themselves.
        """
        if isinstance(self._source, ReleaseReloader):
            self._source.refresh()

    @property
    def state(self) -> ReleaseState:
        """What is answered from now. It never changes, and a caller may keep it."""
        return self._source.newest() if isinstance(self._source, ReleaseReloader) else self._source

    @property
    def release(self) -> Release:
        """The release that is answered from now."""
        return self.state.release

    @property
    def stages(self) -> Stages:
        """The stages of an answer, as they are now."""
        return self.state.stages

    @property
    def shoppers(self) -> Shoppers:
        """What is known of shoppers now."""
        return self.state.shoppers

    @property
    def histories(self) -> Histories:
        """How who asks is read now."""
        return self.state.histories
