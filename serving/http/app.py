"""The application: an engine, its resources, and what stands around each request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from serving import __version__
from serving.engine import Engine
from serving.http.access import Keys
from serving.http.admission import Admission
from serving.http.answers import Answering
from serving.http.middleware import Around, Observer
from serving.http.options import Limits
from serving.http.problems import ProblemBody, add_problems
from serving.http.routes import answers, events, health, items, page, releases, rules, users, why

GZIP_FROM = 1_000  # bytes
PROBLEMS = {
    status: {"model": ProblemBody, "content": {"application/problem+json": {}}, "description": what}
    for status, what in {
        400: "The request is wrong; `detail` says what to change.",
        401: "There is no API key, or it is not known.",
        403: "The API key has not the scope for this.",
        413: "The body is too large.",
        429: "The server is full; see `Retry-After`.",
        503: "The bundle cannot be read or written now.",
        504: "There was no answer in time.",
    }.items()
}


def make_app(
    engine: Engine,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    observers: Sequence[Observer] = (),
    every_start: Sequence[Callable[[FastAPI], object]] = (),
    only_local: bool = False,
) -> FastAPI:
    """An ASGI application over an engine, which stays open when the application ends.

    Without `keys` every request is permitted; with `only_local`, as long as no key is needed, those alone that were
    sent to a name of this machine. `observers` are told of every request; `every_start` is called with the
    application before its first.
    """
    limits = limits or Limits()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for call in every_start:
            call(app)
        yield
        app.state.admission.close()

    app = FastAPI(
        title="shortlist",
        version=__version__,
        description="Recommendations, searches, similar items and carts, from one release each.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=PROBLEMS,  # type: ignore[arg-type]
        middleware=[
            Middleware(
                Around,
                limits=limits,
                observers=tuple(observers),
                only_local=lambda: only_local and not (keys is not None and keys.needed),
            ),
            Middleware(GZipMiddleware, minimum_size=GZIP_FROM),
        ],
    )
    app.state.answering = Answering(engine, limits)
    app.state.admission = Admission(limits)
    app.state.keys = keys
    add_problems(app)
    for resources in (answers, why, events, items, users, rules, releases, health, page):
        app.include_router(resources.router)
    return app
