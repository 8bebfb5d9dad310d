"""The first tab in a real browser: asking, what moved, explanations, why not, the switches."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from serving.engine import Engine

pytestmark = pytest.mark.slow
Open = Callable[..., Any]
PICTURE = "<svg xmlns='http://www.w3.org/2000/svg' width='4' height='4'/>"


def bodies(page: Any, path: str = "/v1/batch") -> list[dict[str, Any]]:
    """What the page asks from now on, as it grows."""
    found: list[dict[str, Any]] = []
    page.on("request", lambda asked: found.append(json.loads(asked.post_data)) if asked.url.endswith(path) else None)
    return found


def settled(page: Any) -> None:
    """Waits until nothing is asked any more."""
    page.wait_for_timeout(400)
    page.wait_for_selector("#answer[aria-busy=false]")


def test_it_begins_with_recommendations_for_anyone_with_price_stock_and_a_drawn_picture(
    open_page: Open, address: str
) -> None:
    page = open_page(address)
    page.wait_for_selector(".card")
    assert page.locator(".card").count() == 12
    first = page.locator(".card").first
    assert first.locator("svg.drawn").count() == 1
    assert float(first.locator(".price").inner_text()) > 0
    assert first.locator(".stock").inner_text() in ("In stock", "Sold out")
    assert page.locator("#notes").inner_text().startswith("Popular items")


def test_a_shopper_is_found_by_id_as_it_is_typed_and_its_history_shown(
    open_page: Open, address: str, engine: Engine
) -> None:
    page = open_page(address)
    asked = bodies(page)
    field = page.get_by_role("combobox", name="Shopper, by id")
    field.click()
    field.fill("shopper-0000")
    page.wait_for_selector("[role=option]")
    assert page.locator("[role=option]").all_inner_texts()[0] == "shopper-00000"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".events li")
    settled(page)
    assert asked[-1]["requests"][0]["user_id"] == "shopper-00000"
    assert page.locator("#asked").inner_text() == "Recommended for shopper-00000"


def test_a_history_built_by_clicking_stands_in_for_a_shopper(open_page: Open, address: str) -> None:
    page = open_page(address)
    asked = bodies(page)
    page.wait_for_selector(".card")
    title = page.locator(".card .title").first.inner_text()
    page.locator(".card").first.get_by_role("button", name="History").click()
    settled(page)
    assert len(asked[-1]["requests"][0]["history"]) == 1
    assert "user_id" not in asked[-1]["requests"][0]
    assert page.locator("#who .chips li span").inner_text() == title
    page.get_by_role("button", name="Clear this history").click()
    settled(page)
    assert "history" not in asked[-1]["requests"][0]


def test_results_come_as_a_search_is_typed_and_stale_answers_are_dropped(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.wait_for_selector(".card")
    held: list[Any] = []

    def hold(route: Any) -> None:
        query = route.request.post_data_json["requests"][0].get("query", "")
        held.append(route) if query == "soap" else route.continue_()

    page.route("**/v1/batch", hold)
    page.fill("#query", "soap")
    page.wait_for_timeout(500)
    page.fill("#query", "soap 100 g")
    settled(page)
    (slow,) = held
    slow.fulfill(json={"answers": 2 * [told([], release="stale")]})
    page.wait_for_timeout(300)
    assert page.locator(".card").count() > 0
    assert page.locator("#live-name").inner_text() != "stale"
    assert page.locator("#asked").inner_text() == "Search for “soap 100 g”"


def test_a_cart_is_completed_by_what_is_not_in_it(open_page: Open, address: str) -> None:
    page = open_page(address)
    asked = bodies(page)
    page.wait_for_selector(".card")
    for place in (0, 1):
        page.locator(".card").nth(place).get_by_role("button", name="Cart").click()
    page.get_by_role("button", name="What completes this cart?").click()
    settled(page)
    request = asked[-1]["requests"][0]
    assert (request["task"], len(request["items"])) == ("complete_cart", 2)
    assert page.locator("#asked").inner_text() == "Completes the cart"
    page.get_by_role("button", name="Back to the shopper").click()
    settled(page)
    assert asked[-1]["requests"][0]["task"] == "recommend"


def test_both_orders_stand_side_by_side_with_a_line_for_each_item_that_is_in_both(
    open_page: Open, address: str
) -> None:
    page = open_page(address)
    page.wait_for_selector(".card")
    order = ["c", "a", "d"]
    final = [hit(name, place) for name, place in zip(order, (3, 1, 9), strict=True)]
    answers = [told(final), told([hit("a", 1), hit("b", 2), hit("c", 3)])]
    page.route("**/v1/batch", lambda route: route.fulfill(json={"answers": answers}))
    page.fill("#query", "anything")
    settled(page)
    assert page.locator(".card .move.up .sr").first.inner_text() == "up 2, from place 3 of retrieval"
    page.click("#as-moves")
    left, right = page.locator(".column").all()
    titles = [title.split()[0].strip(",") for title in left.locator(".row-title").all_inner_texts()]
    assert titles == ["a", "b", "c", "d"]
    assert left.locator(".gone .row-title").text_content() == "b, not in the answer"
    assert left.locator(".gap").inner_text() == "5 more"
    assert right.locator(".row-title").all_inner_texts() == order
    assert page.locator(".links path").count() == 3


def test_an_explanation_tells_places_sources_and_reasons_of_the_item(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.fill("#query", "soap")
    page.wait_for_selector("#asked:text('soap')")
    settled(page)
    title = page.locator(".card .title").nth(1).inner_text()
    page.locator(".card .title").nth(1).click()
    page.wait_for_selector("#detail .steps")
    dialog = page.locator("#detail")
    assert dialog.locator("h2").inner_text() == title
    assert {"What each source gave", "Its place after each step"} <= set(dialog.locator("h3").all_inner_texts())
    assert "matches: soap" in dialog.locator(".reasons").inner_text().lower()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_why_not_takes_an_item_by_its_id_and_tells_what_would_bring_it_in(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.wait_for_selector(".card")
    field = page.get_by_role("combobox", name="Item, by title or id")
    field.fill("item-00100")
    page.wait_for_selector("[role=option]")
    assert "item-00100" in page.locator("[role=option]").first.inner_text()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".why")
    assert page.locator(".why .change, .why .terms").count() > 0
    field.fill("no such item")
    page.get_by_role("button", name="Ask why not").click()
    page.wait_for_selector(".why .stage:text('unknown')")


def test_every_switch_reaches_the_request(open_page: Open, address: str) -> None:
    page = open_page(address)
    asked = bodies(page)
    page.wait_for_selector(".card")
    page.get_by_role("switch", name="Rerank").uncheck()
    page.get_by_role("switch", name="Rules").uncheck()
    page.get_by_label("Filters").fill("price < 20")
    page.get_by_label("Deadline").fill("250")
    page.get_by_label("Page").fill("home")
    page.get_by_label("Audience").fill("country = DE, member = true, age=30, nothing")
    page.get_by_label("Diversity").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    settled(page)
    request = asked[-1]["requests"][0]
    found = {name: request[name] for name in ("rerank", "rules", "filters", "deadline_ms", "diversity")}
    assert found == {"rerank": False, "rules": False, "filters": "price < 20", "deadline_ms": 250, "diversity": 0.2}
    assert request["page"] == "home"
    assert request["audience"] == {"country": "DE", "member": True, "age": 30}
    assert all(float(price) < 20 for price in page.locator(".price").all_inner_texts())


def test_a_wrong_filter_is_told_in_the_words_of_the_server(open_page: Open, address: str) -> None:
    page = open_page(address, expected=("status of 400",))
    page.wait_for_selector(".card")
    page.get_by_label("Filters").fill("colour < 20")
    page.wait_for_selector("#error .fault")
    assert "colour" in page.locator("#error").inner_text()
    page.get_by_label("Filters").fill("")
    page.wait_for_selector(".card")
    assert page.locator("#error .fault").count() == 0


def test_what_a_deadline_cut_is_told_as_a_warning(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.wait_for_selector(".card")
    cut = {**told([hit("a", 1)]), "notes": ["searched for soap", "had no time to rerank"], "degraded": ["rerank"]}
    page.route("**/v1/batch", lambda route: route.fulfill(json={"answers": [cut, cut]}))
    page.get_by_label("Deadline").fill("1")
    page.wait_for_selector(".note.warn")
    assert page.locator(".note:not(.warn)").all_inner_texts() == ["Searched for soap"]
    assert page.locator(".note.warn").all_inner_texts() == ["Had no time to rerank"]


def test_stage_timings_are_drawn_and_written(open_page: Open, address: str) -> None:
    page = open_page(address)
    page.wait_for_selector(".timings")
    assert page.locator(".timing-bar span").count() >= 2
    assert "retrieve" in page.locator(".timings figcaption").inner_text()


def test_a_picture_of_the_shop_is_shown_where_it_comes_over_https_and_drawn_otherwise(
    open_page: Open, address: str
) -> None:
    page = open_page(address, expected=("https://pictures.example/", "net::ERR", "Failed to load"))

    def pictured(route: Any) -> None:
        route.abort() if "gone" in route.request.url else route.fulfill(content_type="image/svg+xml", body=PICTURE)

    page.route("https://pictures.example/**", pictured)
    images = {
        "a": "https://pictures.example/a.svg",
        "b": "http://pictures.example/b.png",
        "c": "javascript:alert(1)",
        "d": "https://pictures.example/gone.png",
    }
    answer = told([hit(name, place) for place, name in enumerate(images, 1)])
    items = [{"item_id": name, "image": url} for name, url in images.items()]
    page.route("**/v1/batch", lambda route: route.fulfill(json={"answers": [answer, answer]}))
    page.route("**/v1/items?**", lambda route: route.fulfill(json={"items": items}))
    page.fill("#query", "pictures")
    page.wait_for_selector("img.picture")
    settled(page)
    assert [card.locator("svg.drawn").count() for card in page.locator(".card").all()] == [0, 1, 1, 1]
    assert page.locator(".card img").get_attribute("src") == images["a"]


def hit(name: str, place: int) -> dict[str, object]:
    return {"item_id": name, "title": name, "score": 1.0, "retrieval_rank": place, "sources": []}


def told(hits: list[dict[str, object]], release: str = "r") -> dict[str, object]:
    empty: dict[str, object] = {"degraded": [], "reranked": [], "notes": [], "rules": "", "timings_ms": {}}
    return {"items": hits, "release": release, "index_revision": 1, **empty}
