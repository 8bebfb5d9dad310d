"""A folder of towers is opened again as it was, and one that is stale, torn or of another version is named."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_towers import CONFIG, some_histories
from retrieval.errors import BadBundle, CorruptBundle, StaleArtefact
from retrieval.topk import Vectors
from retrieval.towers.serving import HEAD, HISTORY, Towers, read_config, write_config

pytestmark = pytest.mark.usefixtures("one_thread")


def test_kept_graphs_serve_the_next_opening(folder: Path, graphs: Path, towers: Towers, item_vectors: Vectors) -> None:
    assert {path.name for path in graphs.glob("*.xml")} == {"encoder.xml", "history.xml"}
    batch = some_histories([5, 2], 5)
    again = Towers.open(folder, device="cpu", cache=graphs)
    np.testing.assert_allclose(
        again.user.histories(batch, item_vectors), towers.user.histories(batch, item_vectors), atol=1e-6
    )
    assert again.fingerprint == towers.fingerprint


@settings(max_examples=50, deadline=None)
@given(
    edges=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    names=st.lists(st.text(max_size=5), max_size=4),
    ids=st.lists(st.text(max_size=5), max_size=4),
    has_history=st.booleans(),
)
def test_a_config_survives_its_json(
    tmp_path_factory: pytest.TempPathFactory, edges: list[float], names: list[str], ids: list[str], has_history: bool
) -> None:
    config = replace(
        CONFIG,
        features={"price_edges": edges, "categories": names},
        item_ids=tuple(ids),
        kinds=tuple(names),
        history=CONFIG.history if has_history else {},
    )
    folder = tmp_path_factory.mktemp("config")
    write_config(folder, config)
    assert read_config(folder) == config


def test_towers_of_another_rendering_are_stale(folder: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(folder, tmp_path / "towers")
    write_config(broken, replace(CONFIG, rendering="0123456789abcdef"))
    with pytest.raises(StaleArtefact, match="run: shortlist train towers") as caught:
        Towers.open(broken, device="cpu")
    assert str(broken) in str(caught.value)
    assert "0123456789abcdef" in str(caught.value)


@pytest.mark.parametrize("missing", ["towers.json", HEAD, HISTORY])
def test_a_missing_part_is_named(folder: Path, tmp_path: Path, missing: str) -> None:
    broken = shutil.copytree(folder, tmp_path / "towers")
    (broken / missing).unlink()
    with pytest.raises(BadBundle, match=missing):
        Towers.open(broken, device="cpu")


@pytest.mark.parametrize("part", [HEAD, HISTORY])
def test_a_torn_part_is_named(folder: Path, tmp_path: Path, part: str) -> None:
    broken = shutil.copytree(folder, tmp_path / "towers")
    (broken / part).write_bytes((broken / part).read_bytes()[:100])
    with pytest.raises(CorruptBundle, match=part):
        Towers.open(broken, device="cpu")


@pytest.mark.parametrize(
    "change", [{"novelty": 1}, {"item_ids": None}, {"kinds": 3}, "not json", {"history": {"longest": 5}}]
)
def test_a_config_of_another_version_is_named(folder: Path, tmp_path: Path, change: dict[str, object] | str) -> None:
    broken = shutil.copytree(folder, tmp_path / "towers")
    about = broken / "towers.json"
    text = change if isinstance(change, str) else json.dumps(json.loads(about.read_text("utf-8")) | change)
    about.write_text(text, "utf-8")
    with pytest.raises(BadBundle, match=r"towers\.json is not"):
        Towers.open(broken, device="cpu")
