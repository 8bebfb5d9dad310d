"""`shortlist demo`: the whole pipeline on a generated shop, small enough for two slow cores, and some answers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexing.bundle.atomic_files import writing_to
from indexing.bundle.bundle import Bundle
from retrieval.data.time_units import DAY
from retrieval.errors import BadConfig
from retrieval.sample_shop.vocabulary import Language
from retrieval.sample_shop.write import sample_language, write_sample
from serving.cli.show import console, say, show_answer, show_evaluation, show_seconds
from serving.engine import Engine
from serving.jobs.run import SAMPLE_MARK, Pipeline
from serving.settings import read_settings

SETTINGS = (
    "retrieval.text.examples=1500",
    "retrieval.text.patience=1",
    "retrieval.history.epochs=8",
    "ranking.depth=15",
    "ranking.cross_fit_below=0",
    "ranking.training.examples=1600",
    "ranking.training.valid_pairs=300",
    "ranking.training.evaluations=3",
    "evaluation.rerank_sample=150",
)
SHOPPERS, K, STEPS = 3, 5, 8
LATELY = 7  # days
DEEDS = {
    "view": "viewed",
    "click": "viewed",
    "favourite": "liked",
    "cart": "put into the cart",
    "purchase": "bought",
    "return": "sent back",
}


def show_demo(out: Path, *, language: Language = "en", device: str = "auto") -> None:
    """Write the generated shop below `out` if it is missing, run the pipeline, and show some answers.

    Raises BadConfig where the shop that is there is in another language.
    """
    data, bundle = out / SAMPLE_MARK, out / "bundle"
    if not (data / "items.parquet").exists():
        with writing_to(data):
            write_sample(data, language=language)
    if (found := sample_language(data)) != language:
        raise BadConfig(
            f"{data} holds a generated shop in the language {found}; give another folder: --out {out}-{language}"
        )
    result = Pipeline(
        data, bundle, read_settings(changes=[*SETTINGS, f"evaluation.language={language}"]), "quick", device, say=say
    ).run()
    show_evaluation(result.evaluation, result.report, language)
    show_answers(Engine.of_release(Bundle.open(bundle), result.release, device=device), language)
    show_seconds(result.seconds)
    console().print(f"all data above are generated; report: {result.report}")


def serve_demo(out: Path, *, device: Literal["auto", "cpu", "cuda"] = "auto") -> None:
    """Serve the bundle below `out` on this machine, at any free port where the usual one is taken."""
    from serving.cli.serve import PORT, serve
    from serving.http.server import listen

    try:
        listen("127.0.0.1", PORT).close()
        port = PORT
    except BadConfig:
        port = 0
    serve(out / "bundle", port=port, device=device)


def show_answers(engine: Engine, language: Language = "en") -> None:
    """What three shoppers did and what is recommended to each, one search and one cart."""
    shoppers = busiest(engine, SHOPPERS)
    for user in shoppers:
        show_history(engine, user)
        show_answer(engine.recommend(user_id=user, k=K), f"for {user}", language)
    text = asked_most(engine) or "gift"
    show_answer(engine.search(text, k=K), f"search: {text}", language)
    cart = newest_items(engine, shoppers[0], 1) if shoppers else []
    show_answer(engine.complete_cart(cart, k=K), f"with {'; '.join(engine.titles(cart))} in the cart", language)


def show_history(engine: Engine, user: str) -> None:
    """What a shopper did last, newest first: what happened to each item, and how long before today."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=f"\nwhat {user} did", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    for name in ("when", "did", "title"):
        table.add_column(name, overflow="ellipsis", no_wrap=name != "title")
    for step in last_steps(engine, user):
        table.add_row(days_ago(step.days), ", ".join(step.deeds), step.title)
    console().print(table)


class Step(NamedTuple):
    """What a shopper did with one item on one day, `days` before the last day of the data."""

    days: int
    title: str
    deeds: tuple[str, ...]


def last_steps(engine: Engine, user: str, n: int = STEPS) -> list[Step]:
    """The last `n` steps of a shopper, newest first; a step holds all that happened to an item on a day."""
    store, events = engine.state.user_store, events_of(engine, user)
    deeds: dict[tuple[int, int], list[str]] = {}
    for at in events[::-1]:
        row, days = int(store.timeline.item[at]), int(store.today - 1 - store.timeline.time[at] // DAY)
        kind = store.timeline.kinds[store.timeline.kind[at]]
        deeds.setdefault((days, row), []).insert(0, DEEDS.get(kind, kind))
    steps = list(deeds.items())[:n]
    titles = engine.titles(engine.state.version.ids_of(np.array([row for (_, row), _ in steps], np.int64)))
    return [
        Step(days, title, tuple(dict.fromkeys(done))) for ((days, _), done), title in zip(steps, titles, strict=True)
    ]


def days_ago(days: int) -> str:
    """
    >>> days_ago(0), days_ago(1), days_ago(12)
    ('today', '1 day ago', '12 days ago')
    """
    return f"{days} day{'s' * (days > 1)} ago" if days else "today"


def busiest(engine: Engine, n: int) -> list[str]:
    """The shopper with the most events of each of n equal parts of the list, of those who came lately if any did."""
    store = engine.state.user_store
    counts = np.diff(store.timeline.offsets)
    last = store.timeline.time[np.maximum(store.timeline.offsets[1:] - 1, 0)]
    counts = counts + counts.max(initial=0) * (last >= (store.today - LATELY) * DAY)
    parts = np.array_split(np.arange(len(counts)), n)
    return [str(store.user_ids[int(part[np.argmax(counts[part])])].as_py()) for part in parts if len(part)]


def asked_most(engine: Engine) -> str | None:
    """The query that led to the most events, or None where nobody searched."""
    store = engine.state.user_store
    asked = store.timeline.query[store.timeline.query >= 0]
    return store.query_texts[int(np.bincount(asked).argmax())] if len(asked) else None


def newest_items(engine: Engine, user: str, n: int) -> list[str]:
    """The newest items of a shopper's events, newest first, each once."""
    rows = engine.state.user_store.timeline.item[events_of(engine, user)]
    return engine.state.version.ids_of(np.array(list(dict.fromkeys(rows[::-1].tolist()))[:n], np.int64))


def events_of(engine: Engine, user: str) -> NDArray[np.int64]:
    """Where a shopper's events with an item of the index are in the timeline, oldest first; int64 [n_events]."""
    store = engine.state.user_store
    code = store.code(user)
    assert code is not None
    at = np.arange(store.timeline.offsets[code], store.timeline.offsets[code + 1])
    return at[store.timeline.item[at] >= 0]
