"""The drawing of recall against queries a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.reporting.charts import NAMES, STAND_INS, standing_alone
from serving.reporting.pareto_chart import IndexPoint, Pareto, front

KINDS = {"HNSW32": [IndexPoint(0.9, 900.0), IndexPoint(0.99, 300.0)], "Flat": [IndexPoint(1.0, 40.0)]}


def test_the_front_holds_what_nothing_beats() -> None:
    rng = np.random.default_rng(0)
    points = [IndexPoint(*pair) for pair in rng.random((60, 2)).tolist()]
    kept = front(points)

    def beaten(point: IndexPoint, by: Sequence[IndexPoint]) -> bool:
        return any(one != point and one.recall >= point.recall and one.per_second >= point.per_second for one in by)

    assert set(kept) == {point for point in points if not beaten(point, points)}


def test_a_page_colours_the_drawing_and_its_text_is_text() -> None:
    svg = Pareto(KINDS, 100).svg()
    assert "recall@100 against exact search" in svg
    assert "HNSW32" in svg
    assert "chosen" not in svg
    assert all(stand_in not in svg for stand_in in STAND_INS)
    assert "var(--ink)" in svg


def test_what_was_chosen_is_named_beside_the_target() -> None:
    svg = Pareto(KINDS, 100, chosen=("HNSW32 at ef_search 512", KINDS["HNSW32"][1]), target=0.95).svg()
    assert "chosen: HNSW32 at ef_search 512" in svg
    assert "wanted: 0.95" in svg


def test_a_drawing_that_stands_alone_needs_no_page() -> None:
    drawing = Pareto(KINDS, 10)
    assert not any(f"var(--{name})" in standing_alone(drawing.svg()) for name in NAMES)
    assert drawing.png().startswith(b"\x89PNG")
