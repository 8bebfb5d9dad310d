"""Asks the engine, and tells its answers as JSON: limits, cursors and entity tags."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from indexing.version.filters import lists_of
from retrieval.errors import BadRequest
from serving.engine import Engine
from serving.http.options import Limits
from serving.http.problems import Problem
from serving.request import Answer, Request
from serving.texts.catalogue import Language

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState

KEPT, RELEASES_KEPT, KEPT_FOR = 16, 2, 600.0  # states that cursors may come back to, of releases; for so many seconds
Place = tuple[str, int]  # a release and the revision of its index


class Cursor(NamedTuple):
    """Where an answer goes on: how many items were answered, from which release, of which request."""

    release: str
    revision: int
    after: int
    request: str

    def token(self) -> str:
        """As text that callers send back."""
        return base64.urlsafe_b64encode(json.dumps(list(self)).encode()).decode()

    @classmethod
    def of(cls, token: str) -> Cursor:
        """Raises Problem 400 for what is none."""
        try:
            release, revision, after, request = json.loads(base64.urlsafe_b64decode(token.encode()))
            if not (isinstance(release, str) and isinstance(request, str)):
                raise ValueError
            return cls(release, int(revision), max(0, int(after)), request)
        except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
            raise Problem(HTTPStatus.BAD_REQUEST, "cursor is none; send next_cursor of the answer before") from None


@dataclass
class RecentStates:
    """The states that answered of late, so that what follows an answer comes from the same release."""

    _states: OrderedDict[Place, tuple[float, ReleaseState]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def keep(self, state: ReleaseState) -> None:
        """Keep a state that answers."""
        now = time.monotonic()
        with self._lock:
            self._states[_place(state)] = now, state
            self._states.move_to_end(_place(state))
            while self._too_many() or next(iter(self._states.values()))[0] < now - KEPT_FOR:
                self._states.popitem(last=False)

    def drop_gone(self, is_recorded: Callable[[str], bool]) -> None:
        """Let go of releases that the bundle has no more: they may hold shoppers who were forgotten."""
        with self._lock:
            for place in [place for place in self._states if not is_recorded(place[0])]:
                del self._states[place]

    def at(self, place: Place) -> ReleaseState | None:
        """The state of a release at a revision, None where it is not kept any more."""
        with self._lock:
            return self._states.get(place, (0.0, None))[1]

    def _too_many(self) -> bool:
        return len(self._states) > KEPT or len({release for release, _ in self._states}) > RELEASES_KEPT


class Answering:
    """An engine that is asked within limits. `is_recorded` says whether its bundle still has a release."""

    def __init__(
        self, engine: Engine, limits: Limits, is_recorded: Callable[[str], bool] = lambda release: True
    ) -> None:
        self.engine, self.limits, self._is_recorded = engine, limits, is_recorded
        self._recent = RecentStates()

    def keep_newest(self) -> None:
        """Look for what is newer, and keep it: a cursor of what another process answered may come to this one."""
        self._recent.keep(self.engine.state)
        self._recent.drop_gone(self._is_recorded)

    def checked(self, request: Request) -> Request:
        """A request within the limits, and with the time that the server has at most. Raises BadRequest."""
        limits = self.limits
        if request.k > limits.k:
            raise BadRequest(f"k is {request.k}; this server answers {limits.k:,} items at most")
        if len(request.events) > limits.history:
            raise BadRequest(f"the history has {len(request.events):,} events; send the newest {limits.history:,}")
        if request.filters and (conditions := sum(map(len, lists_of(request.filters)))) > limits.filters:
            raise BadRequest(f"the filters come to {conditions:,} conditions; send {limits.filters:,} at most")
        most = limits.timeout_s * 1_000
        return request if request.deadline_ms is None or request.deadline_ms <= most else replace(
            request, deadline_ms=most
        )  # fmt: skip

    def answer(self, request: Request, cursor: str | None = None, *, rules: bool = True) -> tuple[Answer, str | None]:
        """The answer to a request, or what follows the one before, and the cursor to what follows this one. Without
        `rules` no merchandising rule holds. Raises Problem 410 where the release of a cursor is not open any more."""
        request = self.checked(request)
        if cursor is None:
            state, after = self.engine.state, 0
            self._recent.keep(state)
        else:
            state, after = self._continued(Cursor.of(cursor), _digest(request, rules))
        wanted = replace(request, k=after + request.k)
        if wanted.k > self.limits.k:
            raise BadRequest(f"a cursor leads to {self.limits.k:,} items at most; ask with filters for others")
        answer = self.engine.answer(wanted, state=ruled(state, rules))
        more = len(answer.items) == wanted.k and wanted.k + request.k <= self.limits.k
        follows = Cursor(*_place(state), wanted.k, _digest(request, rules)).token() if more else None
        return replace(answer, items=answer.items[after:]), follows

    def _continued(self, cursor: Cursor, asked: str) -> tuple[ReleaseState, int]:
        if cursor.request != asked:
            raise BadRequest("this cursor is of another request; send the same one with it")
        self._recent.drop_gone(self._is_recorded)
        place, newest = (cursor.release, cursor.revision), self.engine.state
        state = newest if _place(newest) == place else self._recent.at(place)
        if state is None:
            raise Problem(HTTPStatus.GONE, f"release {cursor.release} answers no more; ask again without a cursor")
        return state, cursor.after


def answer_json(answer: Answer, language: Language | None, follows: str | None) -> dict[str, Any]:
    """An answer as callers get it."""
    return {**answer.to_dict(language), "next_cursor": follows}


def entity_tag(told: Mapping[str, Any]) -> str:
    """The tag of an answer, a weak one: the same for two that differ in their timings or their encoding alone."""
    lasting = {name: value for name, value in told.items() if name != "timings_ms"}
    return f'W/"{blake2b(json.dumps(lasting).encode(), digest_size=12).hexdigest()}"'


def has_tag(tag: str, if_none_match: str) -> bool:
    """Whether a caller has what a tag stands for, by the header If-None-Match.

    >>> has_tag('W/"ab"', '"cd", "ab"'), has_tag('W/"ab"', "*"), has_tag('W/"ab"', '"cd"')
    (True, True, False)
    """
    tags = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return bool(tags & {"*", tag.removeprefix("W/")})


def _place(state: ReleaseState) -> Place:
    return state.release.id, state.version.revision


def ruled(state: ReleaseState, rules: bool) -> ReleaseState:
    """A state with the merchandising rules in force, or without any."""
    return state if rules or state.rules is None else replace(state, rules=None)


def _digest(request: Request, rules: bool) -> str:
    """Tells a request from others."""
    told = {name: value for name, value in vars(request).items() if name in Request.__dataclass_fields__}
    return blake2b(repr((sorted(told.items()), rules)).encode("utf-8", "replace"), digest_size=12).hexdigest()
