"""The commands that ask the live release: recommend, search, similar, cart, one request or many; why-not."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from retrieval.errors import BadRequest
from serving.cli.ask_many import AllItems, AllUsers, Items, Out, Queries, Users, answer_file, asks_many
from serving.cli.options import (
    AllVariants,
    AnswerLanguage,
    AsJson,
    AudienceOption,
    Bundle,
    DeadlineMs,
    Device,
    Diversity,
    Explain,
    ExplainFully,
    Filter,
    FilterSeen,
    History,
    K,
    NoRerank,
    NoSpellcheck,
    Page,
    User,
    audience_of,
)
from serving.cli.show import show_answer, show_json
from serving.cli.show_why import show_explanations, show_why_not

if TYPE_CHECKING:
    from serving.engine import Engine
    from serving.request import Answer, Filters
    from serving.texts.catalogue import Language

TaskOption: TypeAlias = Literal["recommend", "search", "similar", "complete_cart"]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module to `shortlist`."""
    for command in (recommend, search, similar, cart):
        app.command()(command)
    app.command("why-not")(why_not)


def recommend(
    bundle: Bundle,
    user: User = None,
    history: History = None,
    k: K = 10,
    filter_: Filter = None,
    filter_seen: FilterSeen = None,
    no_rerank: NoRerank = False,
    deadline_ms: DeadlineMs = None,
    explain: Explain = False,
    explain_fully: ExplainFully = False,
    diversity: Diversity = 0.0,
    all_variants: AllVariants = False,
    page: Page = None,
    audience: AudienceOption = None,
    device: Device = "auto",
    users: Users = None,
    everyone: AllUsers = False,
    out: Out = None,
    as_json: AsJson = False,
    language: AnswerLanguage = None,
) -> None:
    """Recommend items to a shopper, to anyone with a given history of items, or to many shoppers at once."""
    why = explained(explain, explain_fully)
    alone = {"--user": user, "--history": history, "--deadline-ms": deadline_ms, "--explain": why}
    many = asks_many(users, everyone, out, "--users", {**alone, "--language": language})
    if user is None and history is None and not many:
        raise BadRequest("recommend: give --user USER or --history ITEM,ITEM; for many --users FILE or --all")
    items, filters = item_ids(history), filters_of(filter_)
    known = audience_of(audience)
    engine = opened(bundle, device)
    if many:
        ask = partial(
            engine.recommend_many, k=k, filters=filters, filter_seen=filter_seen, rerank=not no_rerank,
            diversity=diversity, one_per_group=not all_variants, page=page, audience=known, show_progress=True,
        )  # fmt: skip
        answer_file(engine, "user_id", ask, users, out, as_json=as_json)
        return
    answer = engine.recommend(
        user_id=user,
        history=items,
        k=k,
        filters=filters,
        filter_seen=filter_seen,
        rerank=not no_rerank,
        deadline_ms=deadline_ms,
        explain=why,
        diversity=diversity,
        one_per_group=not all_variants,
        page=page,
        audience=known,
    )
    show(answer, f"for {user or history}", as_json, language, explained_by=engine if why else None)


def search(
    bundle: Bundle,
    text: Annotated[str | None, typer.Argument(help="The query.")] = None,
    user: User = None,
    history: History = None,
    k: K = 10,
    filter_: Filter = None,
    filter_seen: FilterSeen = None,
    no_rerank: NoRerank = False,
    deadline_ms: DeadlineMs = None,
    explain: Explain = False,
    explain_fully: ExplainFully = False,
    diversity: Diversity = 0.0,
    all_variants: AllVariants = False,
    page: Page = None,
    audience: AudienceOption = None,
    no_spellcheck: NoSpellcheck = False,
    device: Device = "auto",
    queries: Queries = None,
    out: Out = None,
    as_json: AsJson = False,
    language: AnswerLanguage = None,
) -> None:
    """Search for items; with --user or --history the results are personalised. Many queries come from a file."""
    why = explained(explain, explain_fully)
    alone = {"TEXT": text, "--user": user, "--history": history, "--deadline-ms": deadline_ms, "--explain": why}
    many = asks_many(queries, False, out, "--queries", {**alone, "--language": language})
    if text is None and not many:
        raise BadRequest("search: give the query; for many --queries FILE")
    items, filters = item_ids(history), filters_of(filter_)
    known = audience_of(audience)
    engine = opened(bundle, device)
    if many or text is None:
        ask = partial(
            engine.search_many, k=k, filters=filters, filter_seen=filter_seen, rerank=not no_rerank,
            diversity=diversity, one_per_group=not all_variants, spellcheck=not no_spellcheck, page=page,
            audience=known, show_progress=True,
        )  # fmt: skip
        answer_file(engine, "query", ask, queries, out, as_json=as_json)
        return
    answer = engine.search(
        text,
        user_id=user,
        history=items,
        k=k,
        filters=filters,
        filter_seen=filter_seen,
        rerank=not no_rerank,
        deadline_ms=deadline_ms,
        explain=why,
        diversity=diversity,
        one_per_group=not all_variants,
        page=page,
        audience=known,
        spellcheck=not no_spellcheck,
    )
    show(answer, f"search: {text}", as_json, language, explained_by=engine if why else None)


def similar(
    bundle: Bundle,
    item: Annotated[str | None, typer.Argument(help="An item id.")] = None,
    k: K = 10,
    filter_: Filter = None,
    explain: Explain = False,
    diversity: Diversity = 0.0,
    all_variants: AllVariants = False,
    page: Page = None,
    audience: AudienceOption = None,
    device: Device = "auto",
    items: Items = None,
    every: AllItems = False,
    out: Out = None,
    as_json: AsJson = False,
    language: AnswerLanguage = None,
) -> None:
    """Find the items most similar to an item, or to each of many."""
    many = asks_many(items, every, out, "--items", {"ITEM": item, "--explain": explain, "--language": language})
    if item is None and not many:
        raise BadRequest("similar: give an item id; for many --items FILE or --all")
    filters = filters_of(filter_)
    known = audience_of(audience)
    engine = opened(bundle, device)
    if many or item is None:
        ask = partial(
            engine.similar_many,
            k=k,
            filters=filters,
            diversity=diversity,
            one_per_group=not all_variants,
            page=page,
            audience=known,
            show_progress=True,
        )
        answer_file(engine, "item_id", ask, items, out, as_json=as_json)
        return
    answer = engine.similar(
        item,
        k=k,
        filters=filters,
        explain=explain,
        diversity=diversity,
        one_per_group=not all_variants,
        page=page,
        audience=known,
    )
    show(answer, f"similar to {item}", as_json, language, explained_by=engine if explain else None)


def cart(
    bundle: Bundle,
    items: Annotated[str, typer.Argument(metavar="ITEM,ITEM", help="The item ids in the cart.")],
    user: User = None,
    k: K = 10,
    filter_: Filter = None,
    filter_seen: FilterSeen = None,
    no_rerank: NoRerank = False,
    deadline_ms: DeadlineMs = None,
    explain: Explain = False,
    explain_fully: ExplainFully = False,
    diversity: Diversity = 0.0,
    all_variants: AllVariants = False,
    page: Page = None,
    audience: AudienceOption = None,
    device: Device = "auto",
    as_json: AsJson = False,
    language: AnswerLanguage = None,
) -> None:
    """Find the items that best complete a cart."""
    why = explained(explain, explain_fully)
    cart, filters = item_ids(items) or [], filters_of(filter_)
    known = audience_of(audience)
    engine = opened(bundle, device)
    answer = engine.complete_cart(
        cart,
        user_id=user,
        k=k,
        filters=filters,
        filter_seen=filter_seen,
        rerank=not no_rerank,
        deadline_ms=deadline_ms,
        explain=why,
        diversity=diversity,
        one_per_group=not all_variants,
        page=page,
        audience=known,
    )
    show(answer, f"cart: {items}", as_json, language, explained_by=engine if why else None)


def why_not(
    bundle: Bundle,
    item: Annotated[str, typer.Argument(help="The id of the item that is missed.")],
    query: Annotated[str | None, typer.Option("--query", help="The query of the request.")] = None,
    user: User = None,
    history: History = None,
    task: Annotated[
        TaskOption | None,
        typer.Option(help="What is asked for; --history is then the cart, or the item.  [default: by the query]"),
    ] = None,
    k: K = 10,
    filter_: Filter = None,
    filter_seen: FilterSeen = None,
    no_rerank: NoRerank = False,
    diversity: Diversity = 0.0,
    all_variants: AllVariants = False,
    page: Page = None,
    audience: AudienceOption = None,
    no_spellcheck: NoSpellcheck = False,
    device: Device = "auto",
    as_json: AsJson = False,
    language: AnswerLanguage = None,
) -> None:
    """Say why an item is not among those that a request is answered with, and what would bring it in."""
    from serving.request import Request

    request = Request(
        task=task,
        user_id=user,
        history=item_ids(history),
        query=query,
        k=k,
        filters=filters_of(filter_),
        filter_seen=filter_seen,
        rerank=not no_rerank,
        diversity=diversity,
        one_per_group=not all_variants,
        page=page,
        audience=audience_of(audience),
        spellcheck=not no_spellcheck,
    )
    found = opened(bundle, device).why_not(request, item)
    if as_json:
        show_json(found.to_dict(language or "en"))
    else:
        show_why_not(found, language or "en")


def opened(bundle: Path, device: str) -> Engine:
    """An engine for one answer: the live release as it is now."""
    from serving.engine import Engine

    return Engine.open(bundle, device=device, auto_reload=False)


def show(
    answer: Answer, title: str, as_json: bool, language: Language | None, *, explained_by: Engine | None = None
) -> None:
    """An answer on stdout, and why its items stand where they do, where `explained_by` answered."""
    if as_json:
        show_json(answer.to_dict(language))
        return
    read = language or "en"
    show_answer(answer, title, read)
    if explained_by is not None:
        from serving.answering.explaining.contributions import about_contributions

        show_explanations(answer, about_contributions(explained_by.state.facts, read), read)


def item_ids(text: str | None) -> list[Any] | None:
    """Ids separated by commas, or a JSON list where an id contains one or where events stand among them, each a list of
    its own; None without a text.

    >>> item_ids("a, b"), item_ids('["a,b", 7, ["c", "view", null]]'), item_ids("")
    (['a', 'b'], ['a,b', '7', ['c', 'view', None]], [])
    """
    if text is None:
        return None
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise BadRequest(f"{text}: is not a JSON list of item ids ({error})") from error
        return [item if isinstance(item, list) else str(item) for item in found]
    return [part.strip() for part in text.split(",") if part.strip()]


def explained(explain: bool, fully: bool) -> bool | Literal["full"]:
    """How much is to be said of why items stand where they do."""
    return "full" if fully else explain


def filters_of(texts: list[str] | None) -> Filters | None:
    """What passes every filter; None without any.

    >>> filters_of(["price < 20", "brand = Acme or on_sale = true"])
    [[('price', '<', 20), ('brand', '=', 'Acme')], [('price', '<', 20), ('on_sale', '=', True)]]
    """
    from indexing.version.filters import all_of

    return all_of(texts or ())
