"""What is answered where a stage has no time or fails: each stage's way out of it, and how the answer says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from retrieval.errors import BadRequest
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

Stage: TypeAlias = "Callable[[ReleaseState, Batch, Deadline], Batch]"

NO_TIME = "no time"
FAILED = "failed"
QUEUE_FULL = "queue full"

log = logging.getLogger(__name__)


class QueueFull(Exception):
    """More callers wait for a model than its queue holds; the caller goes on without it."""


@dataclass(frozen=True, kw_only=True)
class Otherwise:
    """A stage without one `part`, as an answer's `degraded` names it.

    `without` gives the batch as it goes on, or None where the part has nothing to do with it. `in_time`: whether a
    deadline may leave the part out; a stage that cuts itself to the time that is left says no. `depends_on` tells
    calls apart that take very different times.
    """

    part: str
    without: Callable[[ReleaseState, Batch, Deadline], Batch | None]
    in_time: bool = True
    depends_on: Callable[[ReleaseState, Batch], Hashable] = lambda state, batch: None


@dataclass(frozen=True)
class InTime:
    """Runs the stages of one call, leaving out what has no time and what fails.

    `ways` are those of each stage, tried in turn; a stage that has none always runs, and its errors are the caller's.
    So is BadRequest, whatever raises it.
    """

    ways: Mapping[Stage, Sequence[Otherwise]]
    stages: Sequence[Stage]

    def run(self, stage: Stage, state: ReleaseState, batch: Batch, deadline: Deadline) -> Batch:
        """One stage, or what goes on without it."""
        ways, times, key = self.ways.get(stage, ()), state.stage_times, self._key(stage, state, batch)
        deadline.reserved_ms = 0.0 if deadline.left is None else self._needed_after(stage, state, batch)
        if ways and ways[0].in_time and (left := deadline.left) is not None and not times.fits(key, left()):
            worked = deadline.timer()
            if (found := ways[0].without(state, _noted(batch, ways[0], NO_TIME), deadline)) is not None:
                times.observe(_instead(key), worked())
                return found
        return self._tried(stage, state, batch, deadline, key)

    def _tried(
        self, stage: Stage, state: ReleaseState, batch: Batch, deadline: Deadline, key: tuple[Hashable, ...]
    ) -> Batch:
        worked = deadline.timer()
        try:
            found = stage(state, batch, deadline)
        except BadRequest:
            raise
        except Exception as error:
            return self._instead_of(error, stage, state, batch, deadline)
        if deadline.left is not None:
            state.stage_times.observe(key, worked())
        return found

    def _instead_of(
        self, error: Exception, stage: Stage, state: ReleaseState, batch: Batch, deadline: Deadline
    ) -> Batch:
        """The batch without what failed; raises the error where nothing can stand in."""
        full = isinstance(error, QueueFull)
        if not full and state.stage_times.fails_anew(stage.__name__, error):
            log.warning("%s fails and is left out: %r", stage.__name__, error, exc_info=error)
        for way in self.ways.get(stage, ()):
            try:
                found = way.without(state, _noted(batch, way, QUEUE_FULL if full else FAILED), deadline)
            except BadRequest:
                raise
            except Exception as other:
                if state.stage_times.fails_anew(f"{stage.__name__}, without {way.part}", other):
                    log.warning("%s without %s fails, too: %r", stage.__name__, way.part, other, exc_info=other)
                continue  # the next way leaves out more
            if found is not None:
                return found
        raise error

    def _needed_after(self, stage: Stage, state: ReleaseState, batch: Batch) -> float:
        """The milliseconds that later stages need at least: those without a way out, of others the way out."""
        needed = 0.0
        for later in self.stages[self.stages.index(stage) + 1 :]:
            key = self._key(later, state, batch)
            expected = state.stage_times.expected(key)
            if ways := self.ways.get(later, ()):
                expected = min(expected, state.stage_times.expected(_instead(key))) if ways[0].in_time else 0.0
            needed += expected
        return needed

    def _key(self, stage: Stage, state: ReleaseState, batch: Batch) -> tuple[Hashable, ...]:
        """What tells how long a stage takes: the task, how many requests there are, what the stage depends on."""
        ways = self.ways.get(stage, ())
        more = ways[0].depends_on(state, batch) if ways else None
        return (stage.__name__, batch.task.name, len(batch).bit_length(), more)


def _instead(key: tuple[Hashable, ...]) -> tuple[Hashable, ...]:
    """The name under which the time of a stage's way out is kept."""
    return (*key, "instead")


def _noted(batch: Batch, way: Otherwise, why: str) -> Batch:
    """The batch, and in it what was left out and why."""
    return batch.having(degraded=(*batch.degraded, f"{way.part}: {why}"))
