"""Embedded retrieval calls: open a bundle, ask for items."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from retrieval.encoders.runtime import RuntimeName, RuntimeOptions
from retrieval.errors import BadRequest
from serving.answering import pipeline
from serving.answering.deadline import Deadline
from serving.answering.forked import FORK_GUARD
from serving.answering.many import Asked, ManyRequests, answer_many
from serving.answering.release_state import ReleaseState
from serving.answering.reloader import ReleaseReloader
from serving.request import Answer, DiversityMethod, Explain, Filters, Given, Request
from serving.why_not.find import why_not
from serving.why_not.result import WhyNot

if TYPE_CHECKING:
    import pyarrow as pa


class Engine:
    """Answers requests from the live release of a bundle. Safe to call from many threads, and after a fork.

    Open it once, keep it, and close it when it is no longer needed:

        with Engine.open(path) as engine:
            answer = engine.search("red mug")

    A forked child (of gunicorn --preload, uwsgi, Celery, multiprocessing) answers as its parent does and shares its
    memory maps; it compiles the models again at its first request. A fork waits until requests of other threads are
    answered. A GPU cannot be shared: there each process opens an engine of its own.

    An update of the index is answered from within a second of its end. A new live release is opened beside the one
    before it, which answers until then. Every answer comes from one release at one revision of its index, and names
    both. Of a closed engine every call raises BadRequest.
    """

    def __init__(self, source: ReleaseState | ReleaseReloader) -> None:
        self._source: ReleaseState | ReleaseReloader | None = source

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
        """Open the live release of a bundle, with its updates; `auto_reload=False` keeps it as it is now.

        `runtime` runs the encoder and the cross-encoder on CPUs, openvino or torch; on CUDA torch does. `clock` gives
        monotonic seconds. Raises BadConfig for unknown or incompatible options, and BadBundle, CorruptBundle or
        StaleArtefact for a bundle that cannot be answered from.

        May be called before or after a fork. Opened before it, for several worker processes, the files are read once
        and the workers start sooner.
        """
        bundle = Bundle.open(Path(path))
        options = RuntimeOptions(device=device, precision=precision, runtime=runtime)
        open_live = partial(ReleaseState.live, bundle, options)
        state = FORK_GUARD.run(open_live)
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
        """Open any release of a bundle, live or not, as it was built; nothing is reloaded."""
        options = RuntimeOptions(device=device, precision=precision, runtime=runtime)
        return cls(FORK_GUARD.run(lambda: ReleaseState.of_release(bundle, release, options)))

    def close(self) -> None:
        """Release the models and files, after a reload that is in progress. A second call does nothing.

        Calls that other threads have begun are still answered.
        """
        source, self._source = self._source, None
        if isinstance(source, ReleaseReloader):
            source.close()

    def __enter__(self) -> Self:
        self._open_source()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def recommend(
        self,
        *,
        user_id: str | None = None,
        history: Sequence[Given] | None = None,
        query: str | None = None,
        k: int = 10,
        filter_seen: bool | None = None,
        rerank: bool = True,
        filters: Filters | None = None,
        deadline_ms: float | None = None,
        spellcheck: bool = True,
        explain: Explain = False,
        diversity: float = 0.0,
        diversify_by: DiversityMethod = "mmr",
        one_per_group: bool = True,
    ) -> Answer:
        """The k best items for a shopper, known by `user_id` or by a `history` of item ids, or of (item id, event,
        time), oldest first.

        With a query it is a personalised search. An unknown user or an empty history gets popular items; unknown items
        of a history are ignored; k beyond the catalogue gives the whole catalogue. The answer's `fallbacks` name what
        stood in for what was missing, its `degraded` what did not fit into `deadline_ms`. Of items with the same
        `group_id` one is answered, unless `one_per_group` is false. The arguments are those of
        `Request`. Raises BadRequest for arguments that are out of range, and for filters over columns or values that
        the items do not have.
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
                explain=explain,
                diversity=diversity,
                diversify_by=diversify_by,
                one_per_group=one_per_group,
            )
        )

    def search(
        self,
        text: str,
        *,
        user_id: str | None = None,
        history: Sequence[Given] | None = None,
        k: int = 10,
        filter_seen: bool | None = False,
        rerank: bool = True,
        filters: Filters | None = None,
        deadline_ms: float | None = None,
        spellcheck: bool = True,
        explain: Explain = False,
        diversity: float = 0.0,
        diversify_by: DiversityMethod = "mmr",
        one_per_group: bool = True,
    ) -> Answer:
        """The k best items for a query, personalised where a shopper or a history is given.

        Words that no item contains are corrected, unless `spellcheck` is false; the answer's `corrected_query` is then
        what was searched for. Where a correction is in doubt both words are searched for, and `also_searched` is the
        corrected query. An empty query is a recommendation.
        """
        return self.recommend(
            user_id=user_id, history=history, query=text, k=k, filter_seen=filter_seen, rerank=rerank, filters=filters,
            deadline_ms=deadline_ms, spellcheck=spellcheck, explain=explain, diversity=diversity,
            diversify_by=diversify_by, one_per_group=one_per_group,
        )  # fmt: skip

    def similar(
        self,
        item_id: str,
        *,
        k: int = 10,
        filters: Filters | None = None,
        explain: Explain = False,
        diversity: float = 0.0,
        diversify_by: DiversityMethod = "mmr",
        one_per_group: bool = True,
    ) -> Answer:
        """The k items most similar to an item, itself and, unless `one_per_group` is false, its variants left out;
        popular ones for an unknown item."""
        return self.answer(
            Request(
                task="similar",
                history=[item_id],
                k=k,
                filters=filters,
                explain=explain,
                diversity=diversity,
                diversify_by=diversify_by,
                one_per_group=one_per_group,
            )
        )

    def complete_cart(
        self,
        items: Sequence[str],
        *,
        user_id: str | None = None,
        k: int = 10,
        filter_seen: bool | None = None,
        rerank: bool = True,
        filters: Filters | None = None,
        deadline_ms: float | None = None,
        explain: Explain = False,
        diversity: float = 0.0,
        diversify_by: DiversityMethod = "mmr",
        one_per_group: bool = True,
    ) -> Answer:
        """The k items that best complete a cart of item ids, none of them in it.

        Items that the shopper took before are left out as in a recommendation, or as `filter_seen` says.
        """
        return self.answer(
            Request(
                task="complete_cart",
                user_id=user_id,
                history=items,
                k=k,
                filter_seen=filter_seen,
                rerank=rerank,
                filters=filters,
                deadline_ms=deadline_ms,
                explain=explain,
                diversity=diversity,
                diversify_by=diversify_by,
                one_per_group=one_per_group,
            )
        )

    def recommend_many(
        self,
        users: Asked,
        *,
        k: int = 10,
        filter_seen: bool | None = None,
        rerank: bool = True,
        filters: Filters | None = None,
        diversity: float = 0.0,
        diversify_by: DiversityMethod = "mmr",
        one_per_group: bool = True,
        show_progress: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """What `recommend` answers to each of many shoppers, as record batches of one row a hit, in their order.

        `users` are ids: any iterable of strings, a pyarrow array, or a table or RecordBatchReader with a column
        `user_id`. The columns are `user_id`, `rank` (from 1), `item_id`, `score` and `fallbacks`; the schema's metadata
        name the release, which answers all of them. A thousand shoppers at a time are read, answered and forgotten.
        `show_progress` shows a bar on stderr. Raises BadRequest as `recommend` does, and for ids that are no text.
        """
        template = Request(
            k=k, filter_seen=filter_seen, rerank=rerank, filters=filters, diversity=diversity,
            diversify_by=diversify_by, one_per_group=one_per_group,
        )  # fmt: skip
        return answer_many(self.state, ManyRequests("user_id", users, template), show_progress=show_progress)

    def search_many(
        self,
        queries: Asked,
        *,
        k: int = 10,
        filter_seen: bool | None = False,
        rerank: bool = True,
        filters: Filters | None = None,
        spellcheck: bool = True,
        diversity: float = 0.0,
        diversify_by: DiversityMethod = "mmr",
        one_per_group: bool = True,
        show_progress: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """What `search` answers to each of many queries; see `recommend_many`. The column of the queries is `query`; a
        table may name the shopper who asks beside it, as `user_id`."""
        template = Request(
            query="", k=k, filter_seen=filter_seen, rerank=rerank, filters=filters, spellcheck=spellcheck,
            diversity=diversity, diversify_by=diversify_by, one_per_group=one_per_group,
        )  # fmt: skip
        return answer_many(self.state, ManyRequests("query", queries, template), show_progress=show_progress)

    def similar_many(
        self,
        items: Asked,
        *,
        k: int = 10,
        filters: Filters | None = None,
        diversity: float = 0.0,
        diversify_by: DiversityMethod = "mmr",
        one_per_group: bool = True,
        show_progress: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """What `similar` answers to each of many items; see `recommend_many`. `item_id` is the item that was asked for,
        `similar_item_id` one that is similar to it."""
        template = Request(
            task="similar", k=k, filters=filters, diversity=diversity, diversify_by=diversify_by,
            one_per_group=one_per_group,
        )  # fmt: skip
        return answer_many(self.state, ManyRequests("item_id", items, template), show_progress=show_progress)

    def answer(self, request: Request) -> Answer:
        """Any request."""
        deadline = Deadline(request.deadline_ms)  # the time to look for what is newer counts
        return FORK_GUARD.run(lambda: pipeline.answer(self.state, request, deadline, degrade=True))

    def why_not(self, request: Request, item_id: str) -> WhyNot:
        """Why an item is not among the k answered, whatever the reason: which stage lost it, by how much, and the
        smallest change of the request that would bring it in."""
        return FORK_GUARD.run(lambda: why_not(self.state, request, item_id))

    def titles(self, items: Sequence[str]) -> list[str]:
        """The titles of items; unknown ones are left out."""
        return self.state.titles(items)

    def refresh(self) -> None:
        """Look for updates and for another live release now; return once they answer.

        Without this call requests look twice a second by themselves.
        """
        source = self._open_source()
        if isinstance(source, ReleaseReloader):
            source.refresh()

    @property
    def state(self) -> ReleaseState:
        """What answers now. It is immutable, and a caller may keep it."""
        source = self._open_source()
        return source.newest() if isinstance(source, ReleaseReloader) else source

    @property
    def release(self) -> Release:
        """The release that answers now."""
        return self.state.release

    def _open_source(self) -> ReleaseState | ReleaseReloader:
        if self._source is None:
            raise BadRequest("this engine is closed; open another one with Engine.open(path)")
        return self._source
