"""Every error that a user can cause. Each message says what was wrong, where, and what to do."""

from __future__ import annotations


class ShortlistError(Exception):
    """Base of all errors that a user can cause; a command prints its one line and exits with `exit_code`."""

    exit_code = 2


class BadData(ShortlistError):
    """A data set breaks the contract: a missing column, a wrong type, too many bad rows."""


class BadConfig(ShortlistError):
    """A setting is unknown or has an impossible value."""


class BadRequest(ShortlistError):
    """A request with an impossible argument: a negative k, a query that is not text."""


class BadBundle(ShortlistError):
    """A bundle or one of its parts is missing or cannot be read."""


class CorruptBundle(BadBundle):
    """A file of a release differs from its checksum."""


class StaleArtefact(BadBundle):
    """Two parts of a release do not belong together: they were made by different models or versions."""


class MissingDependency(ShortlistError):
    """An optional package is needed; the message holds the line that installs it."""


class GateRefused(ShortlistError):
    """A release was staged but not published: it failed a gate."""

    exit_code = 3


class Regressed(ShortlistError):
    """A measurement is worse than an earlier one by more than is allowed."""

    exit_code = 3
