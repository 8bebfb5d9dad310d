"""The second and the third tab in a real browser, and the API key that they may need."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from indexing.bundle.bundle import Bundle
from page_server import SECOND, now, serving
from serving.http.keys import KeyFile, add_key

pytestmark = pytest.mark.slow
Open = Callable[..., Any]


@pytest.fixture
def own_bundle(page_bundle: Path, tmp_path: Path) -> Path:
    """A copy whose releases a test moves between."""
    return Path(shutil.copytree(page_bundle, tmp_path / "bundle"))


@pytest.fixture
def own_address(own_bundle: Path) -> Iterator[str]:
    with serving(own_bundle) as address:
        yield address


def test_the_bundle_tells_gates_quality_slices_index_sources_and_features(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.get_by_role("tab", name="Bundle").click()
    page.wait_for_selector(".releases")
    titles = page.locator("#panel-bundle .block h2").all_inner_texts()
    assert titles[:5] == ["Releases", "Gates", "Quality", "Index", "Sources"]
    assert titles[5].startswith("Features")
    assert page.locator(".gate").count() > 0
    assert page.locator(".curve circle").count() >= 1
    page.get_by_role("combobox", name="Task").select_option(label="Searching the whole catalogue")
    assert "BM25" in page.get_by_role("region", name="Searching the whole catalogue").inner_text()
    assert page.locator(".shares li").count() > 3


def test_releases_tell_which_is_live_where_a_roll_back_leads_and_who_activated_them(
    open_page: Open, address: str
) -> None:
    page = open_page(address)
    page.get_by_role("tab", name="Bundle").click()
    page.wait_for_selector(".releases")
    live, before = page.locator(".release").all()
    assert (SECOND in live.inner_text(), "Live" in live.inner_text()) == (True, True)
    assert "Roll back goes here" in before.inner_text()
    page.get_by_text("Who activated what").click()
    log = page.locator(".moves-log li")
    assert (log.count(), SECOND in log.first.inner_text()) == (2, True)


def test_a_roll_back_asks_first_and_does_nothing_where_it_is_cancelled(
    open_page: Open, own_address: str, own_bundle: Path
) -> None:
    page = open_page(own_address)
    posted: list[str] = []
    page.on("request", lambda asked: posted.append(asked.url) if asked.url.endswith("rollback") else None)
    page.get_by_role("tab", name="Bundle").click()
    page.get_by_role("button", name="Roll back…").click()
    dialog = page.get_by_role("dialog", name="Roll back?")
    assert dialog.get_by_role("button", name="Cancel").evaluate("node => node === document.activeElement")
    for leave in (lambda: dialog.get_by_role("button", name="Cancel").click(), lambda: page.keyboard.press("Escape")):
        leave()
        assert not dialog.is_visible()
        page.get_by_role("button", name="Roll back…").click()
    assert (posted, Bundle.open(own_bundle).current_id()) == ([], SECOND)
    dialog.get_by_role("button", name="Roll back").click()
    page.wait_for_selector(f".release:not(.is-live):has-text('{SECOND}')")
    assert len(posted) == 1
    assert Bundle.open(own_bundle).current_id() != SECOND


def test_what_fails_in_a_roll_back_is_told_in_its_dialog(open_page: Open, address: str) -> None:
    page = open_page(address, expected=("status of 503",))
    problem = {"status": 503, "detail": "another process writes", "request_id": "r1"}
    page.route("**/v1/releases/rollback", lambda route: route.fulfill(status=503, json=problem))
    page.get_by_role("tab", name="Bundle").click()
    page.get_by_role("button", name="Roll back…").click()
    dialog = page.get_by_role("dialog", name="Roll back?")
    dialog.get_by_role("button", name="Roll back").click()
    dialog.get_by_role("alert").get_by_text("Another process writes.").wait_for()
    assert "r1" in dialog.inner_text()


def test_now_is_asked_for_again_while_it_is_shown_and_not_after(open_page: Open, address: str) -> None:
    page = open_page(address, stub_now=False)
    calls: list[int] = []

    def told(route: Any) -> None:
        calls.append(1)
        route.fulfill(json=now(requests_per_s=40.0 + len(calls)))

    page.route("**/v1/now", told)
    assert calls == []
    page.get_by_role("tab", name="Now").click()
    page.wait_for_selector(".tile")
    assert page.locator(".tile dd:first-of-type").all_inner_texts() == ["41", "11.3 ms", "48.5 ms", "25.0 %", "0.0 %"]
    assert page.locator(".recent tbody tr").count() == 2
    page.wait_for_selector(".tile dd:text('42')")
    page.get_by_role("tab", name="Shop").click()
    seen = len(calls)
    page.wait_for_timeout(2_500)
    assert len(calls) == seen


def test_a_key_is_asked_for_kept_for_the_tab_alone_and_asked_for_again_where_it_is_wrong(
    open_page: Open, own_bundle: Path, tmp_path: Path
) -> None:
    keys = tmp_path / "keys.json"
    key, _ = add_key(keys, "page", ("read",), now=lambda: datetime(2026, 1, 2, tzinfo=UTC))
    with serving(own_bundle, keys=KeyFile(keys)) as address:
        page = open_page(address, expected=("status of 401", "status of 403"))
        dialog = page.get_by_role("dialog", name="This server asks for an API key")
        dialog.get_by_label("API key").fill("sl_wrong")
        dialog.get_by_role("button", name="Use this key").click()
        dialog.get_by_text("is not known").wait_for()
        dialog.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        page.wait_for_selector(".card")
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        page.get_by_role("switch", name="Rules").uncheck()
        page.locator("#error").get_by_text("scope admin").wait_for()
        page.get_by_role("button", name="Forget key").click()
        page.wait_for_selector("#key[open]")
        assert page.evaluate("sessionStorage.length") == 0
