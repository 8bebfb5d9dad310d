"""Who may do what: scopes, and where a request's key is looked up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Literal, Protocol, TypeAlias

from fastapi import Request
from fastapi.security import HTTPBearer

from serving.http.problems import Problem

Scope: TypeAlias = Literal["read", "write", "admin"]  # ask; record events and change items; forget, releases, rules
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
REALM = {"WWW-Authenticate": "Bearer"}

BEARER = HTTPBearer(auto_error=False, description="An API key, see `shortlist keys add`.")


class Keys(Protocol):
    """Knows API keys."""

    @property
    def needed(self) -> bool:
        """Whether a request needs one."""
        ...

    def scopes_of(self, key: str) -> frozenset[Scope] | None:
        """What the bearer of a key may do; None for one that is not known."""
        ...

    def name_of(self, key: str) -> str | None:
        """Whose key it is; None for one that is not known."""
        ...


def needs(scope: Scope) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets a request pass whose key has a scope; every request where none is needed. Raises
    Problem 401 without a known key, 403 for one without the scope."""

    async def permitted(request: Request) -> None:
        keys: Keys | None = request.app.state.keys
        if keys is None or not keys.needed:
            return
        key = _key_of(request)
        if not key:
            raise Problem(
                HTTPStatus.UNAUTHORIZED, "send an API key: Authorization: Bearer KEY; see shortlist keys add",
                headers=REALM,
            )  # fmt: skip
        scopes = keys.scopes_of(key)
        if scopes is None:
            raise Problem(HTTPStatus.UNAUTHORIZED, "this API key is not known, or was revoked", headers=REALM)
        if scope not in scopes:
            raise Problem(
                HTTPStatus.FORBIDDEN, f"this API key has not the scope {scope}; see shortlist keys add --scope {scope}"
            )

    return permitted


def caller_of(request: Request) -> str | None:
    """The name of the key that a request came with; None without a known one."""
    keys: Keys | None = request.app.state.keys
    key = _key_of(request)
    return keys.name_of(key) if keys is not None and key else None


def _key_of(request: Request) -> str:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""
