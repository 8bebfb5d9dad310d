"""One line of an audit log: a request, how it was answered, and by what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from retrieval.data.time_units import SECOND
from retrieval.errors import BadData
from serving.request import Answer, Request

if TYPE_CHECKING:
    from serving.answering.batch import Batch
    from serving.answering.release_state import ReleaseState

PERSONAL = ("user_id", "history", "query", "audience")  # fields of a request that may tell who asks
CURRENT, ROTATED = "audit.jsonl", "audit-*.jsonl"  # the file that is written to, and those before it


class AuditRecord(BaseModel):
    """What is kept of one request.

    `at` is its time, microseconds since 1970, UTC; `user` a keyed hash of the shopper's id, empty without one. `asked`
    are the fields of the request that tell nothing of a person and are not at their defaults, `inputs` the others, None
    where they are not kept. `features` are those of the answered items, by name, where features ordered and inputs are
    kept; None stands for a missing value.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: int
    user: str = ""
    asked: Mapping[str, Any]
    inputs: Mapping[str, Any] | None = None
    release: str
    index_revision: int
    rules: str = ""
    items: Sequence[str]
    scores: Sequence[float]
    reranked: Sequence[str] = ()
    fallbacks: Sequence[str] = ()
    degraded: Sequence[str] = ()
    timings_ms: Mapping[str, float] = {}
    features: Mapping[str, Sequence[float | None]] | None = None

    @property
    def task(self) -> str:
        """What was asked for."""
        return str(self.asked["task"])

    def request(self) -> Request:
        """The request as it came; without `inputs`, of nobody for nothing."""
        return Request.of({**self.asked, **(self.inputs or {})})


def record_of(state: ReleaseState, request: Request, batch: Batch, *, at: int, user: str, inputs: bool) -> AuditRecord:
    """The record of an answered request, a batch of one; with `inputs`, what it takes to ask again."""
    answer: Answer = batch.answers[0]
    given = {one.name: getattr(request, one.name) for one in fields(Request) if one.name not in PERSONAL}
    defaults = {one.name: one.default for one in fields(Request)} | {"task": None}
    asked = {name: value for name, value in given.items() if value != defaults[name]}
    return AuditRecord(
        at=at,
        user=user,
        asked=asked,
        inputs=inputs_of(state, request, batch) if inputs else None,
        release=answer.release,
        index_revision=answer.index_revision,
        rules=answer.rules,
        items=[hit.item_id for hit in answer.items],
        scores=[round(float(hit.score), 6) for hit in answer.items],
        reranked=answer.reranked,
        fallbacks=answer.fallbacks,
        degraded=answer.degraded,
        timings_ms=answer.timings_ms,
        features=features_of(batch) if inputs else None,
    )


def inputs_of(state: ReleaseState, request: Request, batch: Batch) -> dict[str, Any]:
    """What tells who asked for what. Events of a shopper that were recorded since the release's data stand in the
    history, so that the request can be asked again when there are more."""
    found = {name: getattr(request, name) for name in PERSONAL if getattr(request, name) is not None}
    if request.history is None and state.user_contexts.has_recorded(request.user_id):
        events, users = batch.users.events, batch.users
        kinds = [users.kinds[code] if code >= 0 else None for code in events.kinds.tolist()]
        times = [time / SECOND for time in events.times.tolist()]
        found["history"] = list(zip(state.version.ids_of(events.items.rows), kinds, times, strict=True))
    return found


def features_of(batch: Batch) -> dict[str, list[float | None]] | None:
    """The features of the answered items by name, None where no ranker read any."""
    scored, order = batch.scored, batch.order
    if scored is None or scored.features is None or order is None:
        return None
    places = scored.places[0, order.places[0, order.shown(0, batch.k)]]
    values = scored.features[0, places].astype(float)
    columns = [[None if value != value else value for value in column] for column in values.T.tolist()]  # nan: missing
    return dict(zip(scored.ranker.names, columns, strict=True))


def read_records(path: Path) -> Iterator[AuditRecord | None]:
    """The records of a log's folder, oldest first, or of one of its files; None for a line that is none. Raises BadData
    where there is no log."""
    files = [*sorted(path.glob(ROTATED)), path / CURRENT] if path.is_dir() else [path]
    files = [file for file in files if file.is_file()]
    if not files:
        raise BadData(f"{path} holds no audit log; name the folder that Engine.open(..., audit=AuditLog(FOLDER)) has")
    for file in files:
        with file.open("rb") as lines:
            for line in lines:
                try:
                    yield AuditRecord.model_validate_json(line)
                except ValidationError:
                    yield None
