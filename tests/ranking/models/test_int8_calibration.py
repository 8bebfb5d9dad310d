"""int8: whole numbers by what real pairs show; OpenVINO computes what torch emulates."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from ranking.models import int8_calibration
from ranking.models.cross_encoder import CrossEncoderScorer, open_cross_encoder
from ranking.models.int8_calibration import calibrate_int8
from retrieval.encoders.int8_file import INT8, holds_int8
from retrieval.encoders.int8_layers import quantisable
from retrieval.errors import BadBundle

pytestmark = pytest.mark.usefixtures("one_thread")

THINGS = ("red mug", "steel drill", "oil", "", "large wood table", "argan hair mask")
PAIRS = [(user, item) for user in THINGS for item in THINGS]


@pytest.fixture(scope="module")
def folder(tiny_ranker_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny ranker, calibrated."""
    copy = tmp_path_factory.mktemp("int8") / "ranker"
    shutil.copytree(tiny_ranker_folder, copy)
    calibrate_int8(copy, PAIRS)
    return copy


def scores(folder: Path, runtime: str, precision: str) -> np.ndarray:
    scorer = CrossEncoderScorer.load(folder, runtime=runtime, device="cpu", precision=precision)  # type: ignore[arg-type]
    return scorer.score(PAIRS)


def test_whole_numbers_keep_the_order(folder: Path) -> None:
    exact, int8 = scores(folder, "torch", "fp32"), scores(folder, "torch", "int8")
    assert not np.array_equal(exact, int8)
    assert np.corrcoef(exact, int8)[0, 1] > 0.99


def test_openvino_computes_what_torch_emulates(folder: Path) -> None:
    emulated = scores(folder, "torch", "int8")
    np.testing.assert_allclose(scores(folder, "openvino", "int8"), emulated, atol=0.1 * emulated.std())


def test_openvino_multiplies_in_int8(folder: Path) -> None:
    scorer = CrossEncoderScorer.load(folder, device="cpu", precision="int8")
    graph = scorer.runner.graph.compiled().executed()  # type: ignore[attr-defined]
    told = [node.get_rt_info() for node in graph.get_ops()]
    products = [
        info["runtimePrecision"].astype(str) for info in told if info["layerType"].astype(str) == "FullyConnected"
    ]
    assert sum(kind in ("u8", "i8") for kind in products) == len(quantisable(open_cross_encoder(folder)))


def test_the_head_stays_exact(folder: Path) -> None:
    names = quantisable(open_cross_encoder(folder))
    assert len(names) == 2 * 6
    assert not any("pooler" in name or "classifier" in name for name in names)


def test_a_folder_without_whole_numbers_is_refused(tiny_ranker_folder: Path) -> None:
    with pytest.raises(BadBundle, match="cannot run in int8"):
        CrossEncoderScorer.load(tiny_ranker_folder, device="cpu", precision="int8")


def test_a_ranker_whose_logits_suffer_is_left_without_whole_numbers(
    tiny_ranker_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_ranker_folder, copy := tmp_path / "ranker")
    monkeypatch.setattr(int8_calibration, "RECIPE", int8_calibration.RECIPE._replace(top=1))
    told = list[str]()
    calibrate_int8(copy, PAIRS, say=told.append)
    assert not (copy / INT8).exists()
    assert told == ["ranker: served in floats, as int8 logits correlate with them by less than 0.99"]


@pytest.mark.parametrize(("pairs", "kept"), [(PAIRS[:1], False), (PAIRS[:3], True), (PAIRS * 6, True)])
def test_what_cannot_be_judged_by_any_pair_is_not_kept(
    pairs: list[tuple[str, str]], kept: bool, tiny_ranker_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_ranker_folder, copy := tmp_path / "ranker")
    calibrate_int8(copy, pairs)
    assert holds_int8(copy) == kept


def test_pairs_that_are_held_out_are_not_shown(
    tiny_ranker_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_ranker_folder, copy := tmp_path / "ranker")
    read = list[np.ndarray]()
    monkeypatch.setattr(
        int8_calibration, "same_length_batches", lambda lengths, most: read.append(lengths) or [np.arange(9)]
    )
    pairs = [("red mug", item) for item in ("oil", "red mug", "large wood table", "argan hair mask") * 60]
    calibrate_int8(copy, pairs)
    shown, held_out = read
    assert (len(shown), len(held_out)) == (216, 24)
    assert len(np.unique(held_out)) > 2  # drawn by chance: every tenth would be of two kinds


def test_a_kept_graph_of_whole_numbers_that_are_not_held_is_not_served(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, copy := tmp_path / "ranker")
    CrossEncoderScorer.load(copy, device="cpu", precision="int8", cache=tmp_path / "graphs")
    assert (tmp_path / "graphs" / "cross_encoder_int8.xml").exists()
    (copy / INT8).write_bytes(b"of an earlier version")
    with pytest.raises(BadBundle, match="is of an earlier version"):
        CrossEncoderScorer.load(copy, device="cpu", precision="int8", cache=tmp_path / "graphs")


def test_weights_have_seven_bits(folder: Path) -> None:
    whole = [part for name, part in load_file(folder / INT8).items() if name.endswith(".whole")]
    assert max(int(part.abs().max()) for part in whole) == 63  # sums of two products with 8 bits fit 16
