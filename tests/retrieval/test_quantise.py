"""int8 of text encoders: which layers compute in whole numbers, and what becomes of the vectors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import retrieval.runtime
from retrieval.encoder import TextEncoder, sentence_module
from retrieval.errors import BadBundle
from retrieval.quantise import (
    LEVELS,
    OF_TEXTS,
    WHOLE,
    QuantisedLinear,
    calibrate,
    calibrate_encoder,
    quantisable,
    quantise,
    whole_numbers,
)
from retrieval.runtime import RANGES, TorchRunner
from retrieval.topk import Vectors

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ("red mug", "large steel drill", "argan hair mask", "a", "cordless drill | tools | 40 to 60", "oil")


@pytest.fixture(scope="module")
def folder(tiny_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny encoder, calibrated."""
    copy = tmp_path_factory.mktemp("int8") / "text"
    shutil.copytree(tiny_encoder_folder, copy)
    calibrate_encoder(copy, TEXTS)
    return copy


def cosines(some: Vectors, others: Vectors) -> Vectors:
    return (some * others).sum(axis=1)


def test_a_quantised_layer_by_hand() -> None:
    layer = nn.Linear(2, 1)
    layer.weight.data, layer.bias.data = torch.tensor([[0.63, -0.01]]), torch.tensor([1.0])
    seen, whole = torch.tensor([[0.0, -1.0], [1.55, 0.0], [0.0, 0.0]]), torch.tensor([[63, -1]], dtype=torch.int8)
    int8 = QuantisedLinear(layer, seen, torch.ones(2), whole, top=63)
    assert int8.step == pytest.approx(2.55 / LEVELS)
    assert int8.zero == 100
    assert int8.steps.item() == pytest.approx(0.63 / 63)
    found = int8(torch.tensor([[0.504, -9.0]]))  # to .50 and to the end of the range, -1
    assert found.item() == pytest.approx(1.0 + 0.5 * 0.63 + 0.01, abs=1e-6)


def test_an_input_that_was_never_seen_does_no_harm() -> None:
    layer, spread = nn.Linear(2, 3), torch.ones(2)
    whole = whole_numbers(layer.weight.detach(), torch.zeros(2, 2, dtype=torch.float64), 9, top=63)
    assert torch.isfinite(QuantisedLinear(layer, torch.zeros(3, 2), spread, whole, top=63)(torch.ones(4, 2))).all()


def test_inputs_that_tell_nothing_of_each_other_are_rounded_each_by_itself() -> None:
    weights = torch.tensor([[1.27, 0.334, -0.336], [0.0, -12.7, 0.06]])
    alone = torch.diag(torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64))
    assert whole_numbers(weights, alone, 99, top=127).tolist() == [[127, 33, -34], [0, -127, 1]]


def loss_by_rounding(n_in: int, rows: int, top: int, *, apart: bool = False) -> float:
    """The squared error of outputs for inputs that were not seen, over what rounding to the nearest costs there; the
    inputs go together, or tell nothing of each other."""
    generator = torch.Generator().manual_seed(0)
    weights, mixed = torch.randn(16, n_in, generator=generator), torch.randn(4, n_in, generator=generator)

    def inputs(n: int) -> torch.Tensor:
        alone = torch.randn(n, n_in, generator=generator)
        return alone if apart else torch.randn(n, 4, generator=generator) @ mixed + 0.5 * alone

    seen, others = inputs(rows), inputs(1_000)
    steps = weights.abs().amax(dim=1, keepdim=True) / top
    whole = whole_numbers(weights, (seen.T @ seen).double() / rows, rows, top=top)
    assert int(whole.abs().max()) == top
    off = [float(((others @ (found * steps - weights).T) ** 2).mean()) for found in (whole, (weights / steps).round())]
    return off[0] / off[1]


@pytest.mark.parametrize(("n_in", "most"), [(24, 0.25), (300, 0.1)])  # the second in several blocks
def test_weights_of_inputs_that_go_together_make_up_for_each_others_rounding(n_in: int, most: float) -> None:
    assert loss_by_rounding(n_in, 3_000, top=7) < most


def test_what_a_few_rows_show_by_chance_does_little_harm_to_others() -> None:
    assert loss_by_rounding(300, 40, top=63, apart=True) < 1.25  # 1.8 without damping by the number of rows


def test_ranges_that_were_kept_before_weights_made_up_for_each_other_are_read(
    folder: Path, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    before = {name: values[:2].clone() for name, values in load_file(folder / RANGES).items() if values.ndim == 2}
    ranges = {name: values for name, values in before.items() if not name.endswith(WHOLE)}
    model = sentence_module(folder).get_submodule("model")
    narrow = next(name for name, layer in quantisable(model).items() if layer.in_features > layer.out_features)
    shutil.copytree(tiny_encoder_folder, tmp_path / "old")
    save_file(ranges | {narrow: torch.ones(2, quantisable(model)[narrow].in_features)}, tmp_path / "old" / RANGES)
    exact = TextEncoder.load(folder, runtime="torch", device="cpu", precision="fp32")
    module = sentence_module(tmp_path / "old", int8=True)
    whole = replace(exact, runner=TorchRunner(module, "cpu", "fp32"))
    assert 0.99 < float(cosines(whole.encode(TEXTS), exact.encode(TEXTS)).min()) < 1 - 1e-7
    assert isinstance(module.get_submodule("model").get_submodule(narrow), nn.Linear)


def test_what_rounding_takes_from_an_output_in_the_mean_is_given_back() -> None:
    layer = nn.Linear(3, 2)
    mean = torch.tensor([0.5, -0.25, 1.0])
    seen = torch.stack([mean - 1, mean + 1, mean])
    int8 = QuantisedLinear(layer, seen, torch.ones(3), torch.zeros(2, 3, dtype=torch.int8), top=127)
    torch.testing.assert_close(int8(mean), layer(mean))


def test_layers_with_fewer_outputs_than_inputs_stay_exact_where_the_recipe_says_so(
    folder: Path, tmp_path: Path
) -> None:
    wide, narrow = (sentence_module(folder).get_submodule("model") for _ in range(2))
    layers, every = quantisable(wide), OF_TEXTS._replace(narrowing=True)
    calibrate(wide, lambda: wide.encode(list(TEXTS)), tmp_path, every)
    quantise(wide, tmp_path, every)
    quantise(narrow, folder, OF_TEXTS)
    kept = {name for name in layers if isinstance(narrow.get_submodule(name), nn.Linear)}
    assert all(isinstance(wide.get_submodule(name), QuantisedLinear) for name in layers)
    assert kept == {name for name, layer in layers.items() if layer.in_features > layer.out_features}
    assert len(kept) == 2  # one a layer


def test_vectors_of_whole_numbers_are_near_those_of_floats(folder: Path) -> None:
    exact = TextEncoder.load(folder, runtime="torch", device="cpu", precision="fp32")
    whole = replace(exact, runner=TorchRunner(sentence_module(folder, int8=True), "cpu", "fp32"))
    assert 0.99 < float(cosines(whole.encode(TEXTS), exact.encode(TEXTS)).min()) < 1 - 1e-7


def test_documents_are_read_in_int8_and_queries_as_ever(
    folder: Path, without_fast_bf16: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not without_fast_bf16():
        pytest.skip("this CPU multiplies no whole numbers in hardware that are served")
    monkeypatch.setattr(retrieval.runtime, "has_fast_bf16", without_fast_bf16)
    exact, half, whole = (TextEncoder.load(folder, device="cpu", precision=kind) for kind in ("fp32", "auto", "int8"))
    np.testing.assert_array_equal(whole.encode(TEXTS, "query"), half.encode(TEXTS, "query"))
    found = cosines(whole.encode(TEXTS), exact.encode(TEXTS))
    assert 0.99 < float(found.min()) < float(cosines(half.encode(TEXTS), exact.encode(TEXTS)).min())
    assert whole.fingerprint != half.fingerprint == exact.fingerprint
    assert TextEncoder.load(folder, runtime="torch", device="cpu", precision="int8").documents is None


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_a_cpu_without_it_reads_documents_as_auto_does(folder: Path, runtime: str) -> None:
    found, wanted = (
        TextEncoder.load(folder, runtime=runtime, device="cpu", precision=kind)  # type: ignore[arg-type]
        for kind in ("int8", "auto")
    )
    assert found.fingerprint == wanted.fingerprint
    np.testing.assert_array_equal(found.encode(TEXTS), wanted.encode(TEXTS))


def test_a_folder_that_was_not_calibrated_is_refused(tiny_encoder_folder: Path) -> None:
    with pytest.raises(BadBundle, match="cannot run in int8; train or adopt the model again"):
        sentence_module(tiny_encoder_folder, int8=True)


def test_calibrating_keeps_the_model_as_it_is(folder: Path, tiny_encoder_folder: Path) -> None:
    assert (folder / RANGES).exists()
    after, before = (TextEncoder.load(one, device="cpu", precision="fp32") for one in (folder, tiny_encoder_folder))
    np.testing.assert_array_equal(after.encode(TEXTS), before.encode(TEXTS))
