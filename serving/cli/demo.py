"""`shortlist demo`: the whole pipeline on a generated shop, small enough for two slow cores, and some answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from indexing.bundle.atomic_files import writing_to
from indexing.bundle.bundle import Bundle
from retrieval.sample_shop.write import write_sample
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
SHOPPERS, K = 3, 5


def show_demo(out: Path, *, device: str = "auto") -> None:
    """Write the generated shop below `out` if it is missing, run the pipeline, and show some answers."""
    data, bundle = out / SAMPLE_MARK, out / "bundle"
    if not (data / "items.parquet").exists():
        with writing_to(data):
            write_sample(data)
    result = Pipeline(data, bundle, read_settings(changes=SETTINGS), "quick", device, say=say).run()
    show_evaluation(result.evaluation, result.report)
    show_answers(Engine.of_release(Bundle.open(bundle), result.release, device=device))
    show_seconds(result.seconds)
    console().print(f"all data above are generated; report: {result.report}")


def show_answers(engine: Engine) -> None:
    """Recommendations for three shoppers, one search and one cart."""
    recent = {user: recent_items(engine, user) for user in busiest(engine, SHOPPERS)}
    for user, items in recent.items():
        titles = engine.titles(items)
        console().print(f"\nshopper {user}, newest first: {'; '.join(reversed(titles))}")
        show_answer(engine.recommend(user_id=user, k=K), f"for {user}")
    text = next(iter(engine.state.user_store.query_texts), "gift")
    show_answer(engine.search(text, k=K), f"search: {text}")
    cart = next(iter(recent.values()), [])[-2:]
    show_answer(engine.complete_cart(cart, k=K), f"with {'; '.join(engine.titles(cart))} in the cart")


def busiest(engine: Engine, n: int) -> list[str]:
    """The shopper with the most events of each of n equal parts of the list."""
    counts = np.diff(engine.state.user_store.timeline.offsets)
    parts = np.array_split(np.arange(len(counts)), n)
    ids = engine.state.user_store.user_ids
    return [str(ids[int(part[np.argmax(counts[part])])].as_py()) for part in parts if len(part)]


def recent_items(engine: Engine, user: str, n: int = 5) -> list[str]:
    """The newest items of a shopper's events, oldest first, each once."""
    code = engine.state.user_store.code(user)
    assert code is not None
    timeline = engine.state.user_store.timeline
    rows = timeline.item[timeline.offsets[code] : timeline.offsets[code + 1]]
    newest = list(dict.fromkeys(rows[rows >= 0][::-1].tolist()))[:n]
    return engine.state.version.ids_of(np.array(newest[::-1], np.int64))
