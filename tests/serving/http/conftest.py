"""Applications over the tiny release, and what asks them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from indexing.bundle.bundle import Bundle
from serving.engine import Engine
from serving.http.app import make_app


@pytest.fixture(scope="session")
def app(engine: Engine) -> FastAPI:
    """An application over the engine of all tests, which changes nothing."""
    made = make_app(engine)
    made.state.ready = True
    return made


@pytest.fixture(scope="session")
def http(app: FastAPI) -> TestClient:
    """Asks it."""
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


@pytest.fixture
def own_engine(own_bundle: Path) -> Iterator[Engine]:
    """An engine over a bundle that may be changed."""
    with Engine.open(own_bundle, device="cpu") as engine:
        yield engine


@pytest.fixture
def own_app(own_engine: Engine, own_bundle: Path) -> FastAPI:
    """An application that may change it."""
    made = make_app(own_engine, Bundle.open(own_bundle))
    made.state.ready = True
    return made


@pytest.fixture
def own_http(own_app: FastAPI) -> TestClient:
    """Asks it."""
    return TestClient(own_app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
