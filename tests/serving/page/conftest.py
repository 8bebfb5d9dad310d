"""The page in a real browser, over a small bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from indexing.bundle.bundle import Bundle
from page_server import MARKED, SECOND, STANDIN, now, serving
from serving.engine import Engine
from serving.http.live_items import LiveItems

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


@pytest.fixture(scope="session")
def page_bundle(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases, and an item whose title, category, brand and description are STANDIN."""
    path = Path(shutil.copytree(bundle_path, tmp_path_factory.mktemp("page") / "bundle"))
    bundle = Bundle.open(path)
    live = bundle.current()
    bundle.record(replace(live, id=SECOND, created="2026-01-05T00:00:00+00:00", who="nightly", why=STANDIN))
    bundle.activate(SECOND, who=STANDIN, at=datetime(2026, 1, 5, tzinfo=UTC).isoformat())
    item = {"item_id": MARKED, "title": STANDIN, "description": STANDIN, "category": [STANDIN], "brand": STANDIN}
    with Engine.open(path, device="cpu") as engine:
        LiveItems(bundle, engine).update([{**item, "price": 4.5, "in_stock": False}], [])
    return path


@pytest.fixture(scope="session")
def address(page_bundle: Path) -> Iterator[str]:
    """A server that nobody changes the releases of."""
    with serving(page_bundle) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens the page of a server. At the end nothing has been said in its console, no policy was broken, and nothing
    was asked of another host."""
    contexts, faults = [], []

    def opened(address: str, *, stub_now: bool = True, expected: tuple[str, ...] = (), **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)

        def said(text: str) -> None:
            if not any(one in text for one in expected):
                faults.append(text)

        page.on("console", lambda message: said(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said(f"error: {error}"))
        page.on("request", lambda asked: None if asked.url.startswith(address) else said(f"asked {asked.url}"))
        if stub_now:
            page.route("**/v1/now", lambda route: route.fulfill(json=now()))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
