"""A request that has ended, as observers see it: nothing of who asked, or what for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from serving.request import Answer

ANSWERS, EVENTS = "answers", "events"  # names in the state of an ASGI scope


class Answered(NamedTuple):
    """An answer of the engine, and the task that was asked for."""

    task: str
    answer: Answer


class Seen(NamedTuple):
    """A request that has ended.

    `route` is its path with names in place of ids, `ended` seconds since 1970, `answers` what the engine gave, `events`
    how many were recorded, `trace` the headers `traceparent` and `tracestate` that it came with.
    """

    request_id: str
    method: str
    route: str
    status: int
    seconds: float
    ended: float
    answers: Sequence[Answered] = ()
    events: int = 0
    trace: Mapping[str, str] = {}

    @property
    def task(self) -> str:
        """The task of a request, `batch` where it was several, the last part of its route where it was none."""
        return self.answers[0].task if len(self.answers) == 1 else self.route.rpartition("/")[2]

    @property
    def release(self) -> str:
        """The release that answered; empty without an answer."""
        return self.answers[0].answer.release if self.answers else ""

    @property
    def items(self) -> int:
        """How many items were answered."""
        return sum(len(one.answer.items) for one in self.answers)

    @property
    def degraded(self) -> list[str]:
        """What was left out of any of its answers."""
        return list(dict.fromkeys(cut for one in self.answers for cut in one.answer.degraded))

    @property
    def reranked(self) -> list[str]:
        """What ordered any of its answers anew."""
        return list(dict.fromkeys(part for one in self.answers for part in one.answer.reranked))

    @property
    def timings_ms(self) -> dict[str, float]:
        """Milliseconds by stage, of all its answers together."""
        total: dict[str, float] = {}
        for one in self.answers:
            for stage, ms in one.answer.timings_ms.items():
                total[stage] = round(total.get(stage, 0.0) + ms, 3)
        return total


class Observer(Protocol):
    """Is told of every request that has ended, in the thread of the event loop."""

    def ended(self, seen: Seen) -> None:
        """A request has ended."""
        ...

    def close(self) -> None:
        """No further request comes."""
        ...


def note_answers(scope: Mapping[str, Any], *answers: Answered) -> None:
    """Tells observers what the engine answered to the request of a scope."""
    scope["state"][ANSWERS] = answers


def note_events(scope: Mapping[str, Any], n: int) -> None:
    """Tells observers how many events the request of a scope recorded."""
    scope["state"][EVENTS] = n
