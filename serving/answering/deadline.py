"""How long the stages of a request take, how long is left, and how many pairs a cross-encoder reads in a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from statistics import median

MIN_PAIRS = 2  # places that can change their order
COLD_START_PAIRS = 4  # read where nothing is known yet of how long they take
OBSERVED_CALLS = 5  # whose median tells how long the next one takes
PROBE_EVERY = 10  # calls in a row without time, after which one is tried all the same
OBSERVED_STAGES = 9  # runs of a stage that tell how long the next one takes
RETRY_STAGE = 200  # runs of a stage in a row that were left out, after which it is tried all the same
QUICKEST = 1e-3  # milliseconds a pair: nothing is quicker
LATE_SHARE = 0.01  # of the answers may be late
MARGIN_STEP, MOST_MARGIN = 1.0, 20.0  # milliseconds
MARGIN_SHARE = 0.5  # of a deadline at most
DEADLINE_SHARE = 0.8  # of the time that is left: calls differ, and the answer has to be put together


class Deadline:
    """The milliseconds that each stage of one call has taken, and how many are left of `deadline_ms` from now on.

    Without `deadline_ms` the time is only measured. `reserved_ms` are kept for the stages that have to run later, and
    `margin_ms`, at most MARGIN_SHARE of the deadline, for what no estimate foresees. `slowdown` tells how many times as
    long work takes now as it would for a caller alone; estimates are of the latter.
    """

    def __init__(self, deadline_ms: float | None = None, slowdown: Callable[[], float] = lambda: 1.0) -> None:
        self.timings_ms: dict[str, float] = {}
        self.reserved_ms = self.margin_ms = 0.0
        self._deadline_ms, self._begun, self.slowdown = deadline_ms, time.perf_counter(), slowdown

    def timer(self) -> Callable[[], float]:
        """Tells how many milliseconds of work there were since now, as a caller alone would have needed for it."""
        begun, slowdown = self.spent_ms, self.slowdown()
        return lambda: 2 * (self.spent_ms - begun) / (slowdown + self.slowdown())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times what happens inside; a stage that is entered more than once is timed as the sum."""
        begun = time.perf_counter()
        yield
        spent = (time.perf_counter() - begun) * 1000
        self.timings_ms[name] = round(self.timings_ms.get(name, 0.0) + spent, 3)

    @property
    def left(self) -> Callable[[], float] | None:
        """Tells at each call how many milliseconds of work are left but for those reserved; None without a deadline."""
        if (deadline_ms := self._deadline_ms) is None:
            return None
        planned = deadline_ms - min(self.margin_ms, MARGIN_SHARE * deadline_ms)
        return lambda: (planned - self.spent_ms) / self.slowdown() - self.reserved_ms

    @property
    def late_ms(self) -> float | None:
        """How many milliseconds after the deadline it is now, below 0 before it. None without a deadline, and where it
        is past twice over: that one could not be kept."""
        if self._deadline_ms is None or (late := self.spent_ms - self._deadline_ms) > self._deadline_ms:
            return None
        return late

    @property
    def spent_ms(self) -> float:
        """Milliseconds since it was made."""
        return (time.perf_counter() - self._begun) * 1000


class LatencyModel:
    """How long a cross-encoder lately took for a pair, and so how many pairs it reads within a time.

    The estimate is the median over the last calls, whatever their size, so that it contains the fixed cost of a call;
    asked again and again for the same time, it converges to calls of that length. Safe to use from many threads.
    """

    def __init__(self) -> None:
        self._per_pair: tuple[float, ...] = ()  # milliseconds, the newest last
        self._refused = 0  # calls in a row for which too few pairs fitted

    def observe(self, pairs: int, milliseconds: float) -> None:
        """Takes note of one call."""
        if pairs:
            self._per_pair = (*self._per_pair[1 - OBSERVED_CALLS :], max(milliseconds / pairs, QUICKEST))

    def pairs_within(self, milliseconds: float) -> int:
        """How many pairs are read within a time; COLD_START_PAIRS where no call was observed.

        Of calls for which fewer than MIN_PAIRS would fit, every PROBE_EVERY-th gets MIN_PAIRS all the same: one slow
        call must not switch reranking off for good.
        """
        if milliseconds <= 0:
            return 0
        if not self._per_pair:
            return COLD_START_PAIRS
        found = int(DEADLINE_SHARE * milliseconds / median(self._per_pair))
        self._refused = self._refused + 1 if found < MIN_PAIRS else 0
        if self._refused < PROBE_EVERY:
            return found
        self._refused = 0
        return MIN_PAIRS


class StageTimes:
    """How long each stage of a release lately took, in milliseconds, and which of its failures are known. Safe to use
    from many threads.

    Times are kept under any name that calls of the same length share. The second longest of the last runs counts, so
    that one slow run changes nothing, and most runs take no longer. `margin_ms` are to be kept beside: what deadlines
    lacked of late. A stage that stays slow and is left out is tried
    again every RETRY_STAGE times, and what it takes then is all that counts.
    """

    def __init__(self) -> None:
        self._times: dict[Hashable, tuple[float, ...]] = {}
        self._left_out: dict[Hashable, int] = {}
        self._failures: set[tuple[str, type[Exception]]] = set()
        self.margin_ms = 0.0

    def ended(self, late_ms: float) -> None:
        """Takes note of how late an answer was. `margin_ms` grows until LATE_SHARE of the answers are late, and falls
        where fewer are: the stochastic approximation of a quantile (Robbins and Monro, 1951)."""
        change = MARGIN_STEP * ((1.0 if late_ms > 0 else 0.0) - LATE_SHARE)
        self.margin_ms = min(MOST_MARGIN, max(0.0, self.margin_ms + change))

    def observe(self, name: Hashable, milliseconds: float) -> None:
        """Takes note of one run."""
        self._times[name] = (*self._times.get(name, ())[1 - OBSERVED_STAGES :], milliseconds)

    def expected(self, name: Hashable) -> float:
        """How long the next run takes at most, but for rare ones; 0 where nothing is known."""
        known = sorted(self._times.get(name, ()))
        return known[max(len(known) - 2, len(known) // 2)] if known else 0.0

    def fits(self, name: Hashable, milliseconds: float) -> bool:
        """Whether the next run is expected to end within a time, with some to spare."""
        if self.expected(name) <= DEADLINE_SHARE * milliseconds:
            self._left_out.pop(name, None)
            return True
        self._left_out[name] = self._left_out.get(name, 0) + 1
        if self._left_out[name] < RETRY_STAGE or milliseconds <= 0:
            return False
        self._left_out.pop(name, None)
        self._times.pop(name, None)
        return True

    def fails_anew(self, stage: str, error: Exception) -> bool:
        """Whether this kind of failure of a stage has not been noted before; notes it."""
        known, failure = self._failures, (stage, type(error))
        if failure in known:
            return False
        known.add(failure)
        return True
