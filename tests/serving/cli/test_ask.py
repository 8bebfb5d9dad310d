"""The commands that ask for items: one grammar of options and of filters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engine_changes import with_groups
from serving.cli import ask
from serving.cli.app import app
from serving.engine import Engine
from serving.request import Filters, Request

SHARED = ("--k", "--filter", "--device", "--json")
RERANKED = (
    "--all-variants",
    "--user",
    "--no-rerank",
    "--deadline-ms",
    "--filter-seen",
    "--keep-seen",
    "--explain",
    "--explain-fully",
)


def shortlist(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="shortlist")


def answered(*arguments: str | Path) -> dict[str, list[dict[str, object]]]:
    done = shortlist(*arguments, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("recommend", (*RERANKED, "--history")),
        ("search", (*RERANKED, "--history", "--no-spellcheck")),
        ("cart", RERANKED),
        ("why-not", ("--query", "--user", "--history", "--task", "--no-rerank", "--filter-seen")),
        ("similar", ("--explain", "--all-variants")),
    ],
)
def test_the_same_thing_is_the_same_option_in_every_command(command: str, more: tuple[str, ...]) -> None:
    told = shortlist(command, "--help").stdout
    assert [option for option in (*SHARED, *more) if f" {option}" not in told.replace("|", " ").replace("/", " ")] == []


@pytest.mark.parametrize(
    ("texts", "filters"),
    [
        (["price < 20"], [("price", "<", 20)]),
        (["price < 20", "price > 5 or in_stock = false"], "price < 20 and (price > 5 or in_stock = false)"),
        (['[["price", "<", 20]]'], '[["price", "<", 20]]'),
    ],
)
def test_filters_are_the_same_on_the_shell_in_python_and_in_json(
    bundle_path: Path, engine: Engine, texts: list[str], filters: Filters
) -> None:
    options = [part for text in texts for part in ("--filter", text)]
    found = answered("search", bundle_path, "red mug", "-k", "7", *options)
    expected = engine.search("red mug", k=7, filters=filters).items
    assert [hit["item_id"] for hit in found["items"]] == [hit.item_id for hit in expected]
    assert expected != engine.search("red mug", k=7).items


@pytest.mark.parametrize(
    ("text", "named"),
    [("price <", "at character 8 is the end"), ("[3", "is no JSON"), ("colour = red", "no column colour; they have: ")],
)
def test_a_wrong_filter_is_one_line_that_names_the_place(bundle_path: Path, text: str, named: str) -> None:
    done = shortlist("similar", bundle_path, "item-00001", "--filter", text, "--device", "cpu")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert named in done.stderr


def test_what_was_taken_is_left_out_or_kept_as_asked(bundle_path: Path, engine: Engine) -> None:
    history = "item-00001,item-00002"
    asked = ("recommend", bundle_path, "--history", history, "-k", "120")
    kept = {str(hit["item_id"]) for hit in answered(*asked, "--keep-seen")["items"]}
    left = {str(hit["item_id"]) for hit in answered(*asked, "--filter-seen")["items"]}
    assert kept - left == set(history.split(","))


def test_a_deadline_is_given_in_milliseconds(bundle_path: Path) -> None:
    assert answered("cart", bundle_path, "item-00001", "--deadline-ms", "1e6")["items"]
    refused = shortlist("cart", bundle_path, "item-00001", "--deadline-ms", "0", "--device", "cpu")
    assert refused.exit_code == 2
    assert "give milliseconds above 0" in refused.stderr


def test_recommend_wants_someone() -> None:
    told = shortlist("recommend", "nowhere")
    assert told.exit_code == 2
    assert told.stderr == "error: recommend: give --user USER or --history ITEM,ITEM; for many --users FILE or --all\n"


def test_an_answer_is_explained_where_it_is_asked(bundle_path: Path, engine: Engine) -> None:
    asked = ("search", bundle_path, "red mug", "--no-rerank", "--device", "cpu", "-k", "3")
    plain, told = shortlist(*asked), shortlist(*asked, "--explain")
    assert told.exit_code == 0, told.stderr
    assert "place after" not in plain.stdout
    assert told.stdout.count("place after  retrieval ") == 3
    assert "matches: " in told.stdout
    assert "搜索词" in shortlist(*asked, "--explain", "--language", "zh").stdout
    first = engine.search("red mug", k=3, rerank=False, explain=True).items[0].explanation
    assert first is not None
    reasons = answered("search", bundle_path, "red mug", "--no-rerank", "-k", "3", "--explain")["items"][0][
        "explanation"
    ]
    assert reasons["reasons"] == [reason.text() for reason in first.reasons]  # type: ignore[index]


def test_why_not_names_the_stage_and_a_change_that_brings_the_item_in(bundle_path: Path, engine: Engine) -> None:
    item = engine.search("red mug", k=9, rerank=False).items[8].item_id
    asked = ("why-not", bundle_path, item, "--query", "red mug", "--no-rerank", "-k", "4", "--device", "cpu")
    told = shortlist(*asked)
    assert told.exit_code == 0, told.stderr
    assert "Retrieval puts it at place 9" in told.stdout
    assert "Ask with k=9: it then stands at place 9." in told.stdout
    found = json.loads(shortlist(*asked, "--json").stdout)
    assert (found["stage"], found["change"]["fields"]) == ("retrieval", {"k": 9})
    cart = shortlist("why-not", bundle_path, item, "--task", "complete_cart", "--history", item, "--device", "cpu")
    assert "It came with the request" in cart.stdout
    unknown = shortlist("why-not", bundle_path, "nothing", "--user", "nobody", "--device", "cpu")
    assert unknown.stdout.startswith("nothing\n  why     No item has the id nothing.")


def test_a_history_on_the_shell_may_hold_events(bundle_path: Path, engine: Engine) -> None:
    items = [hit.item_id for hit in engine.recommend(k=3).items]
    history = [items[0], [items[1], "view", "2026-01-31T12:00"], [items[2], "cart", None]]
    found = answered("recommend", bundle_path, "--history", json.dumps(history), "--no-rerank")
    expected = engine.recommend(history=history, rerank=False).items
    assert [hit["item_id"] for hit in found["items"]] == [hit.item_id for hit in expected]
    wrong = shortlist("cart", bundle_path, json.dumps(history), "--device", "cpu")
    assert wrong.exit_code == 2
    assert "complete_cart is asked with item ids alone" in wrong.stderr


def test_all_variants_of_a_product_are_shown_where_they_are_asked_for(
    engine: Engine, bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grouped = Engine(with_groups(engine.state, lambda row: "product" if row < 100 else None))
    monkeypatch.setattr(ask, "opened", lambda *_: grouped)
    one, every = (answered("search", bundle_path, "red mug", "-k", "40", *more) for more in ((), ("--all-variants",)))
    assert [hit["item_id"] for hit in every["items"]] == [
        hit.item_id for hit in grouped.search("red mug", k=40, one_per_group=False).items
    ]
    assert one != every


def test_rules_that_moved_an_item_are_named_beside_it(bundle_path: Path, tmp_path: Path) -> None:
    from shutil import copytree

    bundle = copytree(bundle_path, tmp_path / "bundle")
    plain = shortlist("search", bundle, "red mug", "-k", "5", "--device", "cpu")
    item = answered("search", bundle, "red mug", "-k", "5")["items"][4]["item_id"]
    (bundle / "rules.toml").write_text(f'[[rule]]\nname = "front"\nkind = "pin"\nitems = ["{item}"]\n')
    moved = shortlist("search", bundle, "red mug", "-k", "5", "--device", "cpu")
    assert (plain.exit_code, moved.exit_code) == (0, 0)
    assert "front" not in plain.stdout
    (row,) = (line for line in moved.stdout.splitlines() if "front" in line)
    assert str(item) in row


def test_a_full_explanation_is_an_option_of_its_own(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def search(self: Engine, text: str, **options: object) -> object:
        asked.append(options["explain"])
        return Engine.answer(self, Request(query=text))

    monkeypatch.setattr(Engine, "search", search)
    for option in ("--explain", "--explain-fully"):
        assert shortlist("search", bundle_path, "mug", option, "--device", "cpu").exit_code == 0
    assert asked == [True, "full"]
