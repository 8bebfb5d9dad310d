"""Linear layers of whole numbers, and how a folder keeps them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from retrieval.encoders.int8_file import INT8, INT8_LAYOUT, holds_int8
from retrieval.encoders.int8_layers import LEVELS, Grid, Int8Weights, QuantisedLinear, quantisable, quantise, save_int8
from retrieval.encoders.text_encoder import sentence_module
from retrieval.errors import BadBundle

pytestmark = pytest.mark.usefixtures("one_thread")


def as_they_are(low: float, high: float, n_in: int = 2) -> Grid:
    return Grid(torch.zeros(n_in), torch.ones(n_in), torch.tensor([low, high]))


def test_a_layer_by_hand() -> None:
    whole, steps = torch.tensor([[63, -1]], dtype=torch.int8), torch.tensor([0.01])
    layer = QuantisedLinear(Int8Weights(whole, steps, torch.tensor([1.0]), as_they_are(-1.0, 1.55)))
    found = layer(torch.tensor([[0.504, -9.0]]))  # to .50, in steps of .01, and to the end of the range, -1
    assert found.item() == pytest.approx(1.0 + 0.5 * 0.63 + 0.01, abs=1e-6)


def test_inputs_lie_on_a_grid_of_one_step() -> None:
    grid = Grid(torch.tensor([3.0, -10.0]), torch.tensor([1.0, 0.1]), torch.tensor([-1.0, 1.0]))
    given = torch.tensor([[2.0, -20.0], [3.5, -5.0], [4.0, 0.0]])
    rounded = grid.rounded(given)
    assert float((rounded - grid.scaled(given)).abs().max()) <= 1 / LEVELS + 1e-6
    torch.testing.assert_close(grid.scaled(given), torch.tensor([[-1.0, -1.0], [0.5, 0.5], [1.0, 1.0]]))


def test_what_is_kept_is_put_in_place_by_name_and_the_rest_stays(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "text"
    shutil.copytree(tiny_encoder_folder, copy)
    model = sentence_module(copy).get_submodule("model")
    name, layer = next(iter(quantisable(model).items()))
    n_out, n_in = layer.weight.shape
    own = Int8Weights(
        torch.ones(n_out, n_in, dtype=torch.int8),
        torch.full((n_out,), 0.5),
        torch.arange(n_out) * 1.0,
        as_they_are(-1.0, 1.55, n_in),
    )
    assert not holds_int8(copy)
    save_int8({name: own}, copy)
    assert holds_int8(copy)
    quantise(model, copy)
    found = model.get_submodule(name)(torch.ones(1, n_in))
    torch.testing.assert_close(found, torch.arange(n_out)[None] + 0.5 * n_in)
    exact = [type(model.get_submodule(other)) for other in quantisable(sentence_module(copy).get_submodule("model"))]
    assert exact == [QuantisedLinear, *[nn.Linear] * (len(exact) - 1)]


def test_a_folder_that_holds_none_is_refused(tiny_encoder_folder: Path) -> None:
    with pytest.raises(BadBundle, match=r"holds no int8\.safetensors, so that it cannot run in int8; train or adopt"):
        sentence_module(tiny_encoder_folder, int8=True)


def test_what_an_earlier_version_made_is_refused_as_such(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "text"
    shutil.copytree(tiny_encoder_folder, copy)
    save_file({"0.model.encoder.layer.0.intermediate.dense": torch.zeros(3, 32)}, copy / INT8)
    assert not holds_int8(copy)
    with pytest.raises(
        BadBundle, match=r"int8\.safetensors is of an earlier version, .*train or adopt the model again"
    ):
        sentence_module(copy, int8=True)


@pytest.mark.parametrize("n_out", [7, None])
def test_whole_numbers_of_another_model_are_refused(
    tiny_encoder_folder: Path, tmp_path: Path, n_out: int | None
) -> None:
    copy = tmp_path / "text"
    shutil.copytree(tiny_encoder_folder, copy)
    model = sentence_module(copy).get_submodule("model")
    name, layer = next(iter(quantisable(model).items()))
    size, n_in = n_out or layer.out_features, layer.in_features
    one = Int8Weights(
        torch.ones(size, n_in, dtype=torch.int8), torch.ones(size), torch.ones(size), as_they_are(-1, 1, n_in)
    )
    save_int8({name if n_out else f"{name}.other": one}, copy)
    with pytest.raises(BadBundle, match="is of another model"):
        quantise(model, copy)


def test_half_a_file_is_refused_or_none(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "text"
    shutil.copytree(tiny_encoder_folder, copy)
    save_int8(
        {"one": Int8Weights(torch.ones(2, 2, dtype=torch.int8), torch.ones(2), torch.ones(2), as_they_are(-1, 1))}, copy
    )
    assert set(load_file(copy / INT8)) == {
        f"one.{part}" for part in ("whole", "steps", "bias", "shift", "spread", "ends")
    }
    kept = load_file(copy / INT8)
    save_file({name: part for name, part in kept.items() if name != "one.bias"}, copy / INT8, {"layout": INT8_LAYOUT})
    with pytest.raises(BadBundle, match=r"has no 'one\.bias'"):
        quantise(sentence_module(copy), copy)
    (copy / INT8).write_bytes((copy / INT8).read_bytes()[:9])
    assert not holds_int8(copy)
