"""Events that tests record."""

from __future__ import annotations

from serving.live.events import RecordedEvent

SECOND = 1_000_000


def event(
    number: int, user: str = "ann", item: str = "mug", kind: str = "view", *, time: int | None = None
) -> RecordedEvent:
    """The event of a number: its id, and its second since 1970 unless a `time` (microseconds) is given."""
    return RecordedEvent(f"e{number}", user, item, kind, number * SECOND if time is None else time)
