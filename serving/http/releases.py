"""The releases of a bundle, for callers who look at them and move between them."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Self

from fastapi import FastAPI

from indexing.bundle.bundle import Bundle
from serving.engine import Engine
from serving.http.problems import Problem
from serving.jobs.bundle_parts import user_name
from serving.jobs.bundle_status import releases_of

MOVES = 100  # the newest moves that are told
LONGEST_OPENING, LOOK = 120.0, 0.02  # seconds that a release may take to answer, and between looks whether it does


class BundleReleases:
    """The releases of a bundle that an engine answers from."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._bundle, self._engine = bundle, engine

    @classmethod
    def of(cls, app: FastAPI) -> Self:
        """Those of an application. Raises Problem 501 for one that has an engine alone."""
        if (found := getattr(app.state, "releases", None)) is None:
            raise Problem(HTTPStatus.NOT_IMPLEMENTED, "this application knows one release; run shortlist serve BUNDLE")
        releases: Self = found
        return releases

    def listed(self) -> dict[str, Any]:
        """Every release, oldest first, and who made which live."""
        path = self._bundle.rollback_path()
        return {
            "live": self._bundle.current_id(),
            "rollback_to": path[-2] if len(path) > 1 else None,
            "answering": self._engine.release.id,
            "releases": [asdict(one) for one in releases_of(self._bundle)],
            "moves": [asdict(move) for move in self._bundle.moves()[-MOVES:]],
        }

    def activate(self, release: str, caller: str | None = None) -> dict[str, Any]:
        """Make a release live, at the wish of the one whose key it is. Raises Problem 404 for one that is not there,
        BadBundle for one that is not intact."""
        if release not in {one.id for one in self._bundle.releases()}:
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no release {release}; GET /v1/releases lists them")
        before = self._bundle.current_id()
        return self._answering(self._bundle.activate(release, **_author(caller)).id, before)

    def roll_back(self, caller: str | None = None) -> dict[str, Any]:
        """Make the release before live again, see `activate`. Raises Problem 409 where there is none."""
        if len(self._bundle.rollback_path()) < 2:
            raise Problem(HTTPStatus.CONFLICT, "there is no release to go back to; GET /v1/releases lists them")
        before = self._bundle.current_id()
        return self._answering(self._bundle.rollback(**_author(caller)).id, before)

    def _answering(self, live: str, before: str | None) -> dict[str, Any]:
        """Told once a release that is live answers, or cannot, or takes too long, or another is live."""
        end = time.monotonic() + LONGEST_OPENING
        self._engine.refresh()
        while self._engine.release.id != live == self._bundle.current_id() and time.monotonic() < end:
            time.sleep(LOOK)  # several workers answer from it together
        return {"live": live, "before": before, "answering": self._engine.release.id}


def _author(caller: str | None) -> dict[str, str]:
    """Who moves: the name of a key, the user who runs the server where none is needed; and when."""
    return {"who": f"{caller or user_name()}, by the server", "at": datetime.now(UTC).isoformat(timespec="seconds")}
