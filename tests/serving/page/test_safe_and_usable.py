"""In a real browser: markup stays text, the policy holds, keys reach all, phones show all, axe-core is content."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from page_server import MARKED, MARKUP, STANDIN, now
from serving.http.routes.page import files

axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

pytestmark = pytest.mark.slow
Open = Callable[..., Any]
TABS = {"Shop": ".card", "Bundle": ".releases", "Now": ".tile"}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}


def too_wide(page: Any) -> int:
    """Pixels by which the page scrolls sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def show(page: Any, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()
    page.wait_for_selector(TABS[tab])


def with_markup(page: Any) -> None:
    """Puts markup in place of its stand-in in whatever the server answers."""

    def changed(route: Any) -> None:
        found = route.fetch()
        route.fulfill(response=found, body=found.text().replace(STANDIN, json.dumps(MARKUP)[1:-1]))

    page.route("**/v1/*", changed)


def find_marked(page: Any) -> Any:
    """The card of the item whose texts are STANDIN."""
    page.get_by_label("Filters").fill(f"item_id = {MARKED}")
    page.fill("#query", "desk")
    page.wait_for_selector(".cards:not(:has(.card + .card))")
    return page.locator(".card")


def test_markup_of_titles_reasons_and_names_is_shown_as_text_everywhere(open_page: Open, address: str) -> None:
    page = open_page(address)
    with_markup(page)
    page.route("**/v1/now", lambda route: route.fulfill(json=now()))
    card = find_marked(page)
    assert card.locator(".title").inner_text() == MARKUP
    for where in ("History", "Cart"):
        card.get_by_role("button", name=where).click()
    page.wait_for_selector("#cart .chips")
    assert page.locator(".chips li > span").all_inner_texts() == [MARKUP, MARKUP]
    page.click("#as-moves")
    assert page.locator(".column .row-title").last.inner_text() == MARKUP
    page.locator("button.row-title").last.click()
    page.wait_for_selector("#detail .steps")
    assert page.locator("#detail h2").inner_text() == MARKUP
    assert page.locator("#detail .facts dd").all_inner_texts().count(MARKUP) == 2  # brand and category
    page.get_by_role("button", name="Similar items").click()
    page.wait_for_selector("#asked:text('Similar to')")
    field = page.get_by_role("combobox", name="Item, by title or id")
    field.fill(MARKED)
    page.wait_for_selector("[role=option]")
    assert page.locator("[role=option] > span").first.inner_text() == MARKUP
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".why strong")
    assert page.locator(".why strong").inner_text() == MARKUP
    show(page, "Bundle")
    assert MARKUP in page.locator(".release").first.inner_text()
    show(page, "Now")
    assert MARKUP in page.locator(".recent").inner_text()
    assert page.evaluate("window.broken === undefined")
    assert page.locator("main script, main b, main img[src=x]").count() == 0


def test_the_policy_keeps_inline_scripts_styles_and_other_hosts_out(open_page: Open, address: str) -> None:
    page = open_page(address, expected=("Content Security Policy", "other.example", "Failed to fetch"))
    page.wait_for_selector(".card")
    page.evaluate(
        """() => {
        const script = document.createElement("script");
        script.textContent = "window.broken = 1";
        document.body.append(script);
        document.body.setAttribute("style", "opacity: 0.5");
        }"""
    )
    assert page.evaluate("[window.broken ?? null, getComputedStyle(document.body).opacity]") == [None, "1"]
    assert page.evaluate("fetch('https://other.example/').then(() => 'sent', () => 'refused')") == "refused"


def test_no_file_of_the_page_makes_markup_of_text_or_names_another_host(address: str) -> None:
    names = ("http://www.w3.org/", "xmlns=")
    for name, (body, _) in files().items():
        text = body.decode()
        assert not [word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(") if word in text], name
        hosts = [part for part in text.split() if "://" in part and not any(one in part for one in names)]
        assert hosts == [], name
        with urllib.request.urlopen(f"{address}/page/{name}") as response:
            assert response.read() == body


def test_the_keyboard_alone_asks_opens_an_item_and_moves_between_tabs(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.wait_for_selector(".card")
    page.keyboard.press("/")
    page.keyboard.type("soap")
    page.wait_for_selector("#asked:text('soap')")
    page.wait_for_selector("#answer[aria-busy=false] .card")
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "[document.activeElement.id, document.activeElement.className, document.activeElement.innerText || '']"
        )
        reached.append(" ".join(at))
        if "title" in at[1]:
            break
    wanted = ("list-1-input", "options", "rerank", "rules", "diversity", "filters", "deadline", "as-cards", "as-moves")
    missing = [
        name for name in wanted if not any(name in one or (name == "options" and "Options" in one) for one in reached)
    ]
    assert missing == []
    page.keyboard.press("Enter")
    page.wait_for_selector("#detail[open]")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "title"
    page.locator("#tab-shop").focus()
    for key, tab in (
        ("ArrowRight", "bundle"),
        ("End", "now"),
        ("ArrowRight", "shop"),
        ("ArrowLeft", "now"),
        ("Home", "shop"),
    ):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.id") == f"tab-{tab}"
        assert page.locator(f"#panel-{tab}").is_visible()


def test_the_focus_stays_where_it_was_when_the_answer_is_drawn_anew(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.wait_for_selector(".card")
    focus = "document.activeElement.dataset.key ?? document.activeElement.id"

    def pressed(key: str) -> str:
        with page.expect_response("**/v1/batch"):
            page.keyboard.press(key)
        page.wait_for_selector("#answer[aria-busy=false]")
        return str(page.evaluate(focus))

    page.locator(".card .add").first.focus()
    before = page.evaluate(focus)
    assert before.startswith("history ")
    assert pressed("Enter") == (before if page.locator(f".card [data-key='{before}']").count() else "asked")
    page.locator(".chips button").first.focus()
    assert pressed("Enter") == "who-title"
    last = page.locator(".card .title").last.get_attribute("data-key")
    page.get_by_role("button", name="Show more").focus()
    assert pressed("Enter") == last
    assert page.locator(".card").count() == 24


def test_what_has_the_focus_is_outlined(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.wait_for_selector(".card")
    for _ in range(30):
        page.keyboard.press("Tab")
        drawn = page.evaluate(
            """() => [document.activeElement, document.activeElement.closest(".card")].some(
                 (node) => node && getComputedStyle(node).outlineStyle !== "none")"""
        )
        assert drawn, page.evaluate("document.activeElement.outerHTML")


def test_a_phone_shows_every_tab_without_scrolling_sideways(open_page: Open, address: str) -> None:
    page = open_page(address, **PHONE)
    find_first = page.locator(".card").first
    find_first.wait_for()
    assert too_wide(page) == 0
    page.click("#as-moves")
    assert too_wide(page) == 0
    page.locator("button.row-title").first.click()
    page.wait_for_selector("#detail .steps")
    assert page.locator("#detail").evaluate("node => node.scrollWidth - node.clientWidth") == 0
    page.keyboard.press("Escape")
    page.click("#as-cards")
    for tab in ("Bundle", "Now"):
        show(page, tab)
        assert too_wide(page) == 0
    show(page, "Shop")
    page.get_by_text("Options", exact=True).click()
    with_markup(page)
    find_marked(page).get_by_role("button", name="Cart").click()
    right = "node => node.getBoundingClientRect().right"
    assert page.locator(".chips button").evaluate(right) <= page.locator("#cart").evaluate(right)
    assert too_wide(page) == 0


@pytest.mark.parametrize("size", ["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_any_tab_or_dialog(open_page: Open, address: str, scheme: str, size: str) -> None:
    page = open_page(address, color_scheme=scheme, reduced_motion="reduce", **(PHONE if size == "phone" else {}))
    page.wait_for_selector(".card")
    seen = {"Shop": serious(page)}
    page.click("#as-moves")
    seen["moves"] = serious(page)
    page.locator("button.row-title").first.click()
    page.wait_for_selector("#detail .steps")
    seen["detail"] = serious(page)
    page.keyboard.press("Escape")
    show(page, "Bundle")
    seen["Bundle"] = serious(page)
    page.get_by_role("button", name="Roll back…").click()
    seen["confirm"] = serious(page)
    page.keyboard.press("Escape")
    show(page, "Now")
    seen["Now"] = serious(page)
    assert {where: found for where, found in seen.items() if found} == {}


def serious(page: Any) -> list[str]:
    """What axe-core holds to be serious or critical, with the first node of each."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:160]} {one['nodes'][0]['failureSummary'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
