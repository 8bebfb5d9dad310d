"""Embedded retrieval calls: open a bundle, ask for items."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from retrieval.encoders.runtime import RuntimeName, RuntimeOptions
from retrieval.errors import BadRequest
from serving.answering import pipeline
from serving.answering.deadline import Deadline
from serving.answering.forked import FORK_GUARD
from serving.answering.in_time.shared_batches import Callers
from serving.answering.in_time.shared_models import sharing
from serving.answering.live.forget import Forgotten
from serving.answering.live.overlay import LiveShoppers
from serving.answering.many import Asked, ForAll, ManyRequests, answer_many
from serving.answering.release_state import ReleaseState
from serving.answering.reloader import ReleaseReloader, ReleaseSwitch
from serving.audit.log import AuditLog
from serving.live.events import EventDetails, now, recorded_event, recorded_events
from serving.request import Answer, Audience, DiversityMethod, Explain, Filters, Given, Request
from serving.rules.watch import RULES_FILE, RulesWatch
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

    def __init__(
        self,
        source: ReleaseState | ReleaseReloader,
        live: LiveShoppers | None = None,
        callers: Callers | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self._source: ReleaseState | ReleaseReloader | None = source
        self._live, self._audit = live, audit
        self._callers = callers or Callers()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        runtime: RuntimeName = "openvino",
        auto_reload: bool = True,
        events: str | Path | None = None,
        share_batches: bool = True,
        audit: AuditLog | None = None,
        clock: Callable[[], float] = time.monotonic,
        rules: str | Path | None = None,
        wall_clock: Callable[[], float] = time.time,
        switch: ReleaseSwitch | None = None,
    ) -> Engine:
        """Open the live release of a bundle, with its updates; `auto_reload=False` keeps it as it is now.

        `runtime` runs the encoder and the cross-encoder on CPUs, openvino or torch; on CUDA torch does. `clock` gives
        monotonic seconds. Raises BadConfig for unknown or incompatible options, and BadBundle, CorruptBundle or
        StaleArtefact for a bundle that cannot be answered from.

        `events` is where `record` keeps events and where those of other processes are read: a file, or a `redis://` URL
        for several machines; by default `live/events.sqlite` in the bundle. Nothing is made before the first event.
        `audit` keeps requests and answers, those of batch calls apart.

        `rules` is a TOML file of merchandising rules, by default `rules.toml` in the bundle where there is one; their
        dates are compared with `wall_clock`, seconds since 1970, UTC. Raises BadConfig, with all faults and their
        lines, for rules that cannot be used. A file that becomes so later leaves those before it in force, see
        `rules_error`.

        With `share_batches` requests of several threads at the same time share batches of the text encoder and of the
        cross-encoder; a request waits at most 2 ms for others, and a single one never. Where 64 wait for a model
        already, a request is answered without it, and its `degraded` says so.

        `switch` lets several processes answer from another release at the same moment; without one, each does as soon
        as it has it open.

        May be called before or after a fork. Opened before it, for several worker processes, the files are read once
        and the workers start sooner.
        """
        bundle = Bundle.open(Path(path))
        options = RuntimeOptions(device=device, precision=precision, runtime=runtime)
        live, callers = LiveShoppers.of(bundle, events, *([] if audit is None else [audit])), Callers()

        def open_live(*, like: ReleaseState | None = None) -> ReleaseState:
            state = live.prepare(ReleaseState.live(bundle, options, like=like))
            return sharing(state, callers) if share_batches else state

        state = FORK_GUARD.run(open_live)
        file = bundle.path / RULES_FILE if rules is None else Path(rules)
        watch = RulesWatch.open(file, state.version, state.analyzer, required=rules is not None, now=wall_clock)
        state = replace(state, rules=watch.over(state.version, state.analyzer))
        reloader = ReleaseReloader(bundle, state, open_live, clock, watch, switch)
        return cls(reloader if auto_reload else state, live, callers, audit)

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
        if self._live is not None:
            FORK_GUARD.run(self._live.close)

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
        page: str | None = None,
        audience: Audience | None = None,
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
                user_id=user_id, history=history, query=query, k=k, filter_seen=filter_seen, rerank=rerank,
                filters=filters, deadline_ms=deadline_ms, spellcheck=spellcheck, explain=explain, diversity=diversity,
                diversify_by=diversify_by, one_per_group=one_per_group, page=page, audience=audience,
            )
        )  # fmt: skip

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
        page: str | None = None,
        audience: Audience | None = None,
    ) -> Answer:
        """The k best items for a query, personalised where a shopper or a history is given.

        Words that no item contains are corrected, unless `spellcheck` is false; the answer's `corrected_query` is then
        what was searched for. Where a correction is in doubt both words are searched for, and `also_searched` is the
        corrected query. An empty query is a recommendation.
        """
        return self.recommend(
            user_id=user_id, history=history, query=text, k=k, filter_seen=filter_seen, rerank=rerank, filters=filters,
            deadline_ms=deadline_ms, spellcheck=spellcheck, explain=explain, diversity=diversity,
            diversify_by=diversify_by, one_per_group=one_per_group, page=page, audience=audience,
        )  # fmt: skip

    def similar(
        self, item_id: str, *, k: int = 10, filters: Filters | None = None, explain: Explain = False,
        diversity: float = 0.0, diversify_by: DiversityMethod = "mmr", one_per_group: bool = True,
        page: str | None = None, audience: Audience | None = None,
    ) -> Answer:  # fmt: skip
        """The k items most similar to an item, itself and, unless `one_per_group` is false, its variants left out;
        popular ones for an unknown item."""
        return self.answer(
            Request(
                task="similar", history=[item_id], k=k, filters=filters, explain=explain, diversity=diversity,
                diversify_by=diversify_by, one_per_group=one_per_group, page=page, audience=audience,
            )
        )  # fmt: skip

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
        page: str | None = None,
        audience: Audience | None = None,
    ) -> Answer:
        """The k items that best complete a cart of item ids, none of them in it.

        Items that the shopper took before are left out as in a recommendation, or as `filter_seen` says.
        """
        return self.answer(
            Request(
                task="complete_cart", user_id=user_id, history=items, k=k, filter_seen=filter_seen, rerank=rerank,
                filters=filters, deadline_ms=deadline_ms, explain=explain, diversity=diversity,
                diversify_by=diversify_by, one_per_group=one_per_group, page=page, audience=audience,
            )
        )  # fmt: skip

    def recommend_many(
        self, users: Asked, *, show_progress: bool = False, **options: Unpack[ForAll]
    ) -> Iterator[pa.RecordBatch]:
        """What `recommend` answers to each of many shoppers, as record batches of one row a hit, in their order.

        `users` are ids: any iterable of strings, a pyarrow array, or a table or RecordBatchReader with a column
        `user_id`. `options` are arguments of `recommend`, for all of them. The columns are `user_id`, `rank` (from 1),
        `item_id`, `score`, `fallbacks` and `degraded`; the schema's metadata name the release, which answers all of
        them. A few hundred shoppers at a time are read, answered and forgotten. `show_progress` shows a bar on stderr.
        Raises BadRequest as `recommend` does, and for ids that are no text.
        """
        return answer_many(self.state, ManyRequests("user_id", users, Request(**options)), show_progress=show_progress)

    def search_many(
        self, queries: Asked, *, show_progress: bool = False, **options: Unpack[ForAll]
    ) -> Iterator[pa.RecordBatch]:
        """What `search` answers to each of many queries; see `recommend_many`. The column of the queries is `query`; a
        table may name the shopper who asks beside it, as `user_id`."""
        template = Request(**{"filter_seen": False, "query": "", **options})  # type: ignore[arg-type]
        return answer_many(self.state, ManyRequests("query", queries, template), show_progress=show_progress)

    def similar_many(
        self, items: Asked, *, show_progress: bool = False, **options: Unpack[ForAll]
    ) -> Iterator[pa.RecordBatch]:
        """What `similar` answers to each of many items; see `recommend_many`. `item_id` is the item that was asked for,
        `similar_item_id` one that is similar to it."""
        template = Request(task="similar", **options)
        return answer_many(self.state, ManyRequests("item_id", items, template), show_progress=show_progress)

    def answer(self, request: Request, *, state: ReleaseState | None = None) -> Answer:
        """Any request, answered from the newest state, or from one that `state` gave before."""
        deadline = Deadline(request.deadline_ms, self._callers.slowdown)  # the time to look for what is newer counts
        with self._callers.one_more():
            return FORK_GUARD.run(lambda: self._answer(request, deadline, state))

    def _answer(self, request: Request, deadline: Deadline, state: ReleaseState | None) -> Answer:
        state = state or self.state
        batch = pipeline.answer_batch(state, request, deadline, degrade=True)
        if self._audit is not None:
            self._audit.keep(state, request, batch)
        return batch.answers[0]

    def why_not(self, request: Request, item_id: str, *, state: ReleaseState | None = None) -> WhyNot:
        """Why an item is not among the k answered, whatever the reason: which stage lost it, by how much, and the
        smallest change of the request that would bring it in. From the newest state, or one that `state` gave before.
        """
        return FORK_GUARD.run(lambda: why_not(state or self.state, request, item_id))

    def record(
        self, user_id: str, item_id: str, event: str, timestamp: object = None, **details: Unpack[EventDetails]
    ) -> bool:
        """Keep an event of a shopper; False where it was kept before. Once this has returned, no crash loses it.

        It counts for the next request, in every process that has the same store open, and a shopper who is not in the
        release begins with it. `event` is the kind, as in the data; one by which things are given back undoes the last
        purchase of the item. `timestamp`: a datetime or an ISO 8601 text (UTC without a zone), or seconds since 1970;
        None: now; events may be late. `details` may be, as in events.parquet, `quantity`, `price`, `basket_id`, `query`
        and `rating`; and `event_id`: an event whose id is kept already is not kept again. Without one, an event that
        equals a kept one in everything is not. What the release does not know counts from the first that knows it.
        Raises BadRequest, naming the argument, for what is no event, and BadBundle where it cannot be written.
        """
        given = {"user_id": user_id, "item_id": item_id, "event": event, "timestamp": timestamp, **details}
        return self._recording().record([recorded_event(given, now())]) == 1

    def record_many(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Keep several events at once, each a mapping of the arguments of `record`; returns how many are new.

        All or none: BadRequest names the first that is no event, counted from 0, and then nothing is kept.
        """
        return self._recording().record(recorded_events(events, now()))

    def forget(self, user_id: str) -> Forgotten:
        """Remove a user: the recorded events, what the bundle's releases hold, and what is in memory.

        The live release is published anew without the user, older ones are removed where any holds the user, and later
        ones leave out what the user did up to now, whatever the data set still has; a hash of the id stays stored.
        Raises BadBundle where another process writes to the bundle: forget the user again then.
        """
        found = self._recording().forget(user_id, now())
        self.refresh()
        self.state.forget()
        return found

    def warm_up(self) -> None:
        """Answer a request that goes through every model, so that the first shopper does not wait for them."""
        FORK_GUARD.run(lambda: pipeline.warm_up(self.state))

    def titles(self, items: Sequence[str]) -> list[str]:
        """The titles of items; unknown ones are left out."""
        return self.state.titles(items)

    def refresh(self) -> None:
        """Look for updates, for another live release and for new events now; return once they answer.

        Without this call requests look twice a second by themselves.
        """
        source = self._open_source()
        if isinstance(source, ReleaseReloader):
            source.refresh()
        self._with_live(at_once=True)

    @property
    def state(self) -> ReleaseState:
        """What answers now. It is immutable, and a caller may keep it."""
        return self._with_live()

    def _with_live(self, *, at_once: bool = False) -> ReleaseState:
        source, live = self._open_source(), self._live
        state = source.newest() if isinstance(source, ReleaseReloader) else source
        return state if live is None else FORK_GUARD.run(lambda: live.over(state, at_once=at_once))

    @property
    def rules_error(self) -> str:
        """What is wrong with the rules file as it is now, whose former rules stay in force; empty where nothing is."""
        source = self._open_source()
        return source.rules_error if isinstance(source, ReleaseReloader) else ""

    @property
    def release(self) -> Release:
        """The release that answers now."""
        return self.state.release

    def _recording(self) -> LiveShoppers:
        self._open_source()
        if self._live is None:
            raise BadRequest("this engine answers as its release was built, and keeps no events; use Engine.open(path)")
        return self._live

    def _open_source(self) -> ReleaseState | ReleaseReloader:
        if self._source is None:
            raise BadRequest("this engine is closed; open another one with Engine.open(path)")
        return self._source
