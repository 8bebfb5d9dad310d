"""A WSGI app as a shop would write it for `gunicorn --preload`: one engine, opened before the workers are forked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from fork_answers import answer, opened

engine = opened(*os.environ["FORK_APP_OPEN"].split(":"))
REQUESTS = 25
# where the parent answers before it forks, what it does
parents = [answer(engine, number) for number in range(REQUESTS if os.environ.get("FORK_APP_WARM") else 0)]


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """The answer to request number N for the path /N, and who gave it."""
    number = int(environ["PATH_INFO"].strip("/"))
    found = {"worker": os.getpid(), "answer": answer(engine, number), "parents": parents[number : number + 1]}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode("utf-8")]
