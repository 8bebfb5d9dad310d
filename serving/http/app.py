"""The application: an engine, its resources, and what stands around each request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from indexing.bundle.bundle import Bundle
from serving import __version__
from serving.engine import Engine
from serving.http.access import Keys
from serving.http.admission import Admission
from serving.http.answers import Answering
from serving.http.live_items import LiveItems
from serving.http.middleware import Around
from serving.http.observing.observing import Observing
from serving.http.openapi import PROBLEMS, describe
from serving.http.options import Limits
from serving.http.problems import add_problems
from serving.http.releases import BundleReleases
from serving.http.routes import answers, contents, events, health, items, now, page, releases, rules, users, why

GZIP_FROM, GZIP_LEVEL = 4_000, 4  # bytes, more than ten items have; and 1 to 9: it is the event loop that compresses
CHANGES_WAITING = 16


def make_app(
    engine: Engine,
    bundle: Bundle | None = None,
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    observing: Observing | None = None,
    every_start: Sequence[Callable[[FastAPI], object]] = (),
    only_local: bool = False,
) -> FastAPI:
    """An ASGI application over an engine, which stays open when the application ends.

    Without the `bundle` that the engine answers from nothing can be changed but what shoppers did.
    Without `keys` every request is permitted; with `only_local`, as long as no key is needed, those alone that were
    sent to a name of this machine. `observing` is told of every request; `every_start` is called with the
    application before its first.
    """
    limits, observing = limits or Limits(), observing or Observing()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for call in every_start:
            call(app)
        observing.metrics.queue(0, 0)
        yield
        app.state.admission.close()
        app.state.changes.close()
        for observer in observers:
            observer.close()

    observers = observing.observers
    app = FastAPI(
        title="shortlist",
        version=__version__,
        description="Recommendations, searches, similar items and carts, from one release each.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses=PROBLEMS,
        middleware=[
            Middleware(
                Around,
                limits=limits,
                observers=observers,
                only_local=lambda: only_local and not (keys is not None and keys.needed),
            ),
            Middleware(GZipMiddleware, minimum_size=GZIP_FROM, compresslevel=GZIP_LEVEL),
        ],
    )
    app.state.answering = Answering(engine, limits, *([] if bundle is None else [bundle.is_recorded]))
    app.state.admission = Admission(limits, observing.metrics.queue)
    app.state.changes = Admission(
        replace(limits, running=1, waiting=CHANGES_WAITING, timeout_s=limits.change_timeout_s)
    )
    app.state.keys, app.state.observing = keys, observing
    if bundle is not None:
        app.state.live_items = LiveItems(bundle, engine)
        app.state.releases = BundleReleases(bundle, engine)
    add_problems(app)
    for resources in (answers, why, events, items, users, rules, releases, contents, now, health, page):
        app.include_router(resources.router)
    describe(app)
    return app
