"""The releases of a bundle, for callers who look at them and move between them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from indexing.bundle.bundle import Bundle
from serving.engine import Engine
from serving.jobs.bundle_parts import user_name
from serving.jobs.bundle_status import releases_of

MOVES = 100  # the newest moves that are told


class BundleReleases:
    """The releases of a bundle that an engine answers from."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._bundle, self._engine = bundle, engine

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

    def activate(self, release: str) -> dict[str, Any]:
        """Make a release live. Raises BadBundle for one that is not there or not intact."""
        before = self._bundle.current_id()
        live = self._bundle.activate(release, **_author())
        self._engine.refresh()
        return {"live": live.id, "before": before}

    def roll_back(self) -> dict[str, Any]:
        """Make the release before live again. Raises BadBundle where there is none."""
        before = self._bundle.current_id()
        live = self._bundle.rollback(**_author())
        self._engine.refresh()
        return {"live": live.id, "before": before}


def _author() -> dict[str, str]:
    return {"who": f"{user_name()}, by the server", "at": datetime.now(UTC).isoformat(timespec="seconds")}
