"""What a server answers beside what an engine does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Updated(NamedTuple):
    """What an update of the live index did. `number` counts the updates since the index was built."""

    release: str
    number: int
    upserted: int
    new: int  # of those, items that the index did not have
    embedded: int  # of those, items whose text went through the encoder
    deleted: int
    unknown: int  # ids to delete that are not in the index
    set_aside: int  # items that break a rule of the data contract


class RulesInForce(NamedTuple):
    """The merchandising rules by which the server answers. `error` is what is wrong with their file as it is now."""

    version: str  # empty: there are none
    file: str
    rules: tuple[Mapping[str, Any], ...]
    error: str


class CheckedRules(NamedTuple):
    """What a check of a rules file found; with `faults` it would not be used."""

    version: str
    rules: tuple[Mapping[str, Any], ...]
    faults: tuple[str, ...]
    contradictions: tuple[str, ...]
    warnings: tuple[str, ...]


class Releases(NamedTuple):
    """Every release, oldest first. `moves` are who made which live, and when."""

    live: str | None
    rollback_to: str | None  # what a roll back makes live; None: there is none
    answering: str  # the live one, once it is open
    releases: tuple[Mapping[str, Any], ...]
    moves: tuple[Mapping[str, Any], ...]


class Moved(NamedTuple):
    """The release that is live now, the one before, and the one that answers: the live one, unless it cannot be
    opened."""

    live: str
    before: str | None
    answering: str
