"""Stage 2: what is searched for, and what was meant by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from serving.answering.batch import Batch, Queries
from serving.answering.deadline import Deadline

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState


def read_query(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
    """Reads `requests` and `spellcheck`, writes `queries`."""
    typed = list(batch.requests.texts)
    return batch.having(queries=read(state, typed) if batch.spellcheck else Queries(typed, typed, [""] * len(typed)))


def as_typed(state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch | None:
    """The batch with its queries as they are; None where none would be corrected."""
    typed = list(batch.requests.texts)
    return batch.having(queries=Queries(typed, typed, [""] * len(typed))) if batch.spellcheck and any(typed) else None


def read(state: ReleaseState, texts: Sequence[str]) -> Queries:
    """Queries with words that no item has taken for those that were meant, where a release knows its items' words."""
    if state.spelling is None or not any(texts):
        return Queries(texts, texts, [""] * len(texts))
    readings = [state.spelling.read(text) for text in texts]
    meant = [reading.meant if reading.in_doubt else "" for reading in readings]
    return Queries(texts, [reading.text for reading in readings], meant)
