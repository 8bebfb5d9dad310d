"""A WSGI app as a shop would write it for `gunicorn --preload`: one engine, opened before the workers are forked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from fork_answers import answer, opened

engine = opened(*os.environ["FORK_APP_OPEN"].split(":"))
if os.environ.get("FORK_APP_WARM"):
    answer(engine, 0)  # the parent answers before it forks


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """The answer to request number N for the path /N, and who gave it."""
    found = answer(engine, int(environ["PATH_INFO"].strip("/")))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"worker": os.getpid(), "answer": found}).encode("utf-8")]
