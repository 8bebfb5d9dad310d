"""A bundle behind HTTP on a thread, for a browser to look at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from http_servers import running
from serving.engine import Engine
from serving.http.access import Keys
from serving.http.server import Served

MARKUP = '<img src=x onerror="window.broken=1"><script>window.broken=1</script> & "soap" \'oak\' <b>desk</b>'
MARKED = "marked-1"  # an item whose every text is STANDIN, which `with_markup` makes markup of
STANDIN = "StandsForMarkup"  # markup of a catalogue is taken out as it is read
SECOND = "20260105T000000-0000abcd"  # the live one of two releases


@contextmanager
def serving(bundle: Path, *, keys: Keys | None = None) -> Iterator[str]:
    """The address of a server of a bundle, on a free port of this machine."""
    with Engine.open(bundle, device="cpu") as engine, running(Served(path=bundle, keys=keys).app(engine)) as address:
        yield address


def now(**changes: object) -> dict[str, object]:
    """What `GET /v1/now` tells, some of it changed."""
    one = {
        "at": time.time(),
        "task": "search",
        "status": 200,
        "ms": 12.5,
        "items": 10,
        "degraded": [MARKUP],
        "reranked": ["features"],
        "release": SECOND,
        "timings_ms": {"encode": 5.0, "retrieve": 2.5},
    }
    refused = {**one, "status": 429, "items": 0, "degraded": [], "reranked": [], "timings_ms": {}}
    figures = {
        "requests_per_s": 41.5,
        "p50_ms": 11.25,
        "p99_ms": 48.5,
        "degraded": 0.25,
        "empty": 0.0,
    }
    return {"window_s": 60.0, **figures, "recent": [one, refused], **changes}
