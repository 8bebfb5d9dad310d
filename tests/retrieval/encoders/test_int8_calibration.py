"""int8 weights of layers, and how far they move a model's vectors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrieval.encoders import int8_calibration, runtime
from retrieval.encoders.int8_calibration import (
    OF_TEXTS,
    InputStatistics,
    Recipe,
    calibrate,
    calibrate_encoder,
    first_within,
    grid,
    quantised,
    rounded_weights,
    same_length_batches,
)
from retrieval.encoders.int8_file import INT8, holds_int8
from retrieval.encoders.int8_layers import QuantisedLinear, quantisable, quantise
from retrieval.encoders.runtime import BUDGET_TOKENS, TorchRunner
from retrieval.encoders.text_encoder import TextEncoder, open_sentence_transformer, sentence_module
from retrieval.topk import Vectors
from retrieval.towers.serving import TEXT, towers_fingerprint

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


def seen_by(layer: nn.Linear, rows: Tensor, smoothing: float = 0.9) -> InputStatistics:
    """What a layer's inputs are, as calibration sees them."""
    ends = torch.stack([rows.amin(dim=0), rows.amax(dim=0)])
    inputs = InputStatistics(grid(ends, [layer.weight.detach()], smoothing))
    for part in rows.split(100):
        inputs.add(part)
    return inputs


def test_a_grid_lies_around_what_was_seen_of_each_input_and_holds_all_of_it() -> None:
    seen, weights = torch.tensor([[2.0, -20.0, 0.0], [4.0, 0.0, 0.0]]), [torch.tensor([[1.0, 0.1, 1.0]])]
    found = grid(seen, weights, 1.0)
    torch.testing.assert_close(found.shift, torch.tensor([3.0, -10.0, 0.0]))
    torch.testing.assert_close(found.spread[:2], torch.tensor([1.0, 0.1]))
    torch.testing.assert_close(found.ends, torch.tensor([-1.0, 1.0]))
    half = grid(seen, weights, 0.5)
    moved = half.scaled(seen)
    assert float(moved[:, 0].abs().max()) == pytest.approx(1.0)  # the wider input, with the smaller weight, has no less
    assert float(moved.abs().max()) == pytest.approx(float(half.ends[1]))


def test_an_input_that_was_never_seen_does_no_harm() -> None:
    layer = nn.Linear(2, 3)
    assert torch.isfinite(
        QuantisedLinear(quantised(layer, seen_by(layer, torch.zeros(9, 2)), 63))(torch.ones(4, 2))
    ).all()


def test_inputs_that_lie_far_from_the_middle_of_their_range_go_together_as_ever() -> None:
    """One row in 4,000 gives each input a range that is a thousand times as wide as what the others take of it."""
    torch.manual_seed(0)
    rows = torch.randn(4_000, 64) * 1e-3
    rows[0] = 1.0
    layer = nn.Linear(64, 4)
    inputs = seen_by(layer, rows)
    wanted = torch.cov(inputs.grid.rounded(rows).double().T, correction=0)
    torch.testing.assert_close(inputs.products, wanted, atol=1e-8, rtol=1e-5)
    assert torch.isfinite(quantised(layer, inputs, 127).bias).all()


def test_inputs_that_tell_nothing_of_each_other_are_rounded_each_by_itself() -> None:
    weights = torch.tensor([[1.27, 0.334, -0.336], [0.0, -12.7, 0.06]], dtype=torch.float64)
    alone = torch.diag(torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64))
    steps = torch.tensor([0.01, 0.1], dtype=torch.float64)
    assert rounded_weights(weights, steps, alone, 99, top=127).tolist() == [[127, 33, -34], [0, -127, 1]]


def loss_by_rounding(n_in: int, rows: int, top: int, *, apart: bool = False) -> float:
    """The squared error of outputs for inputs that were not seen, over what rounding to the nearest costs there; the
    inputs go together, or tell nothing of each other."""
    generator = torch.Generator().manual_seed(0)
    weights, mixed = torch.randn(16, n_in, generator=generator), torch.randn(4, n_in, generator=generator)

    def inputs(n: int) -> torch.Tensor:
        alone = torch.randn(n, n_in, generator=generator)
        return alone if apart else torch.randn(n, 4, generator=generator) @ mixed + 0.5 * alone

    seen, others = inputs(rows), inputs(1_000)
    steps = weights.abs().amax(dim=1) / top
    whole = rounded_weights(weights.double(), steps.double(), (seen.T @ seen).double() / rows, rows, top=top)
    assert int(whole.abs().max()) == top
    nearest = (weights / steps[:, None]).round()
    off = [float(((others @ (found * steps[:, None] - weights).T) ** 2).mean()) for found in (whole, nearest)]
    return off[0] / off[1]


@pytest.mark.parametrize(("n_in", "most"), [(24, 0.25), (300, 0.1)])  # the second in several blocks
def test_weights_of_inputs_that_go_together_make_up_for_each_others_rounding(n_in: int, most: float) -> None:
    assert loss_by_rounding(n_in, 3_000, top=7) < most


def test_what_a_few_rows_show_by_chance_does_little_harm_to_others() -> None:
    assert loss_by_rounding(300, 40, top=63, apart=True) < 1.25  # 1.8 without damping by the number of rows


def test_outputs_are_right_in_the_mean_whatever_rounding_takes() -> None:
    torch.manual_seed(0)
    layer, rows = nn.Linear(6, 5), torch.randn(400, 6) ** 3 + torch.arange(6)
    found = QuantisedLinear(quantised(layer, seen_by(layer, rows), 7))
    with torch.inference_mode():
        off = found(rows) - layer(rows)
    torch.testing.assert_close(off.mean(dim=0), torch.zeros(5), atol=1e-3, rtol=0)
    assert float(off.abs().mean()) > 0.01


def test_weights_make_up_for_what_rounding_takes_from_an_input() -> None:
    """One row gives the first input a range in which all others fall on one level; the second input goes with it."""
    small = torch.linspace(-1, 1, 2_000)[torch.randperm(2_000, generator=torch.Generator().manual_seed(0))]
    rows = torch.stack([0.0038 * small, small], dim=1)
    rows[0, 0] = 1.9962
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[1.0, 0.0], [0.0, 0.01]])
    inputs = seen_by(layer, rows, 0.5)
    assert len(inputs.grid.rounded(rows)[1:, 0].unique()) == 1
    with torch.inference_mode():
        off = (QuantisedLinear(quantised(layer, inputs, 127))(rows) - layer(rows))[1:, 0]
    assert float(off.std()) < 0.3 * float(rows[1:, 0].std())


class Two(nn.Module):
    """Two layers that are as large, of which the second counts a hundred times as much in what is told."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, values: Tensor) -> Tensor:
        return self.stack[0](values) + 100 * self.stack[1](values.flip(1))


@pytest.mark.parametrize(("share", "left"), [(0.99, 1), (0.5, 1), (0.4, 2)])
def test_layers_that_harm_least_become_whole_numbers_first_up_to_a_share(
    tmp_path: Path, share: float, left: int
) -> None:
    torch.manual_seed(0)
    model, rows = Two(), torch.randn(200, 8)

    def told() -> Vectors:
        with torch.inference_mode():
            found: Vectors = model(rows[:50]).numpy()
        return found

    before = told()
    calibrate(model, lambda: model(rows), tmp_path, Recipe(0.9, 127, share), embed_sample=told)
    np.testing.assert_array_equal(told(), before)  # the model is as it was
    quantise(model, tmp_path)
    assert [type(layer) for layer in model.stack] == [QuantisedLinear] * (2 - left) + [nn.Linear] * left
    assert (float(np.abs(told() - before).max()) > 0) == (left < 2)
    assert left == 2 or isinstance(model.stack[0], QuantisedLinear)


def test_harm_is_counted_by_product(tmp_path: Path) -> None:
    """The second layer does several times as much harm, and ten times as many products."""
    torch.manual_seed(0)
    small, large = nn.Linear(8, 8), nn.Linear(8, 80)
    model, rows = nn.ModuleDict({"stack": nn.ModuleList([small, large])}), torch.randn(200, 8)

    def made(some: Tensor) -> Tensor:
        first, second = model.get_submodule("stack.0"), model.get_submodule("stack.1")
        return torch.cat([first(some), 0.6 * second(some.flip(1))], dim=1)

    def told() -> Vectors:
        with torch.inference_mode():
            found: Vectors = made(rows[:50]).numpy()
        return found

    calibrate(model, lambda: made(rows), tmp_path, Recipe(0.9, 127, 0.91), embed_sample=told)
    quantise(model, tmp_path)
    assert [type(model.get_submodule(f"stack.{at}")) for at in (0, 1)] == [nn.Linear, QuantisedLinear]


def test_harm_is_seen_by_some_texts_however_long() -> None:
    assert len(first_within(np.full(20, 300), 2_000, least=8)) == 8
    assert len(first_within(np.full(5, 300), 2_000, least=8)) == 5
    assert len(first_within(np.full(5, 3_000), 2_000)) == 1


def test_a_text_encoder_has_two_thirds_of_its_products_in_whole_numbers(folder: Path) -> None:
    every = quantisable(sentence_module(folder).get_submodule("model"))
    sizes = {name: layer.weight.numel() for name, layer in every.items()}
    chosen = {name.removesuffix(".whole") for name in load_file(folder / INT8) if name.endswith(".whole")}
    smallest = min(size for name, size in sizes.items() if name not in chosen)
    share = sum(sizes[name] for name in chosen) / sum(sizes.values())
    assert OF_TEXTS.share - 3 * smallest / sum(sizes.values()) < share <= OF_TEXTS.share + 1e-9  # three read one input


def test_padding_shows_nothing(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    ends = []
    for name, pad in (("as it is", None), ("loud", 1e3)):
        copy = tmp_path / name
        shutil.copytree(tiny_encoder_folder, copy)
        if pad is not None:
            model = open_sentence_transformer(copy)
            with torch.no_grad():
                model[0].model.embeddings.word_embeddings.weight[model.tokenizer.pad_token_id] = pad
            model.save(str(copy))
        calibrate_encoder(copy, TEXTS)
        ends.append({key: part for key, part in load_file(copy / INT8).items() if key.endswith(".shift")})
    assert ends[0].keys() == ends[1].keys()
    for key, shift in ends[0].items():
        torch.testing.assert_close(shift, ends[1][key])


def test_texts_are_read_as_the_model_reads_documents(
    tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_encoder_folder, copy := tmp_path / "text")
    model = open_sentence_transformer(copy)
    model.prompts = {"document": "passage: ", "query": "query: "}
    model.save(str(copy))
    read = list[str]()
    as_ever = int8_calibration.encode_texts
    monkeypatch.setattr(
        int8_calibration,
        "encode_texts",
        lambda tokenizer, texts: read.extend(texts) or as_ever(tokenizer, texts),
    )
    calibrate_encoder(copy, TEXTS)
    assert sorted(read) == sorted(f"passage: {text}" for text in TEXTS)


@pytest.mark.parametrize("killed_after", [1, 2])
def test_an_interrupted_calibration_goes_on_to_the_same_weights(
    killed_after: int, folder: Path, tiny_encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_encoder_folder, copy := tmp_path / "text")
    passes, observe = list[int](), int8_calibration._observe

    def until_killed(*arguments: object) -> None:
        if len(passes) == killed_after:
            raise KeyboardInterrupt
        passes.append(1)
        observe(*arguments)

    monkeypatch.setattr(int8_calibration, "_observe", until_killed)
    if killed_after == 2:
        monkeypatch.setattr(int8_calibration, "quantised", lambda *_: until_killed())
    with pytest.raises(KeyboardInterrupt):
        calibrate_encoder(copy, TEXTS, work=tmp_path / "work")
    monkeypatch.undo()
    monkeypatch.setattr(int8_calibration, "_observe", lambda *given: passes.append(1) or observe(*given))
    calibrate_encoder(copy, TEXTS, work=tmp_path / "work")
    assert len(passes) == 2  # none was made again
    made, wanted = load_file(copy / INT8), load_file(folder / INT8)
    assert made.keys() == wanted.keys()
    assert all(torch.equal(made[key], wanted[key]) for key in wanted)


def test_what_was_observed_of_another_model_or_cut_short_is_observed_anew(
    folder: Path, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_encoder_folder, copy := tmp_path / "text")
    model = open_sentence_transformer(copy)
    with torch.no_grad():
        model[0].model.embeddings.word_embeddings.weight.mul_(2)
    model.save(str(tmp_path / "other"))
    calibrate_encoder(tmp_path / "other", TEXTS, work=tmp_path / "work")
    (tmp_path / "work" / "statistics.safetensors").write_bytes(b"cut short")
    calibrate_encoder(copy, TEXTS, work=tmp_path / "work")
    made, wanted = load_file(copy / INT8), load_file(folder / INT8)
    assert all(torch.equal(made[key], wanted[key]) for key in wanted)


def test_no_texts_make_no_whole_numbers(tiny_encoder_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_encoder_folder, copy := tmp_path / "text")
    calibrate_encoder(copy, [])
    assert not holds_int8(copy)


def test_texts_of_one_length_come_in_batches_and_no_more_of_them_than_asked_for() -> None:
    batches = same_length_batches(np.full(50, 128), most=20 * 128)
    assert max(len(batch) for batch in batches) * 128 <= BUDGET_TOKENS
    assert sorted(np.concatenate(batches).tolist()) == list(range(20))


def test_towers_are_others_where_their_text_part_gets_whole_numbers_of_this_version(
    folder: Path, tiny_encoder_folder: Path, tmp_path: Path
) -> None:
    """So that adopting an encoder again puts them beside what an earlier version made, and not in its place."""
    towers = tmp_path / "towers"
    shutil.copytree(tiny_encoder_folder, towers / TEXT)
    bare = towers_fingerprint(towers)
    save_file({"0.model.encoder.layer.0.intermediate.dense": torch.zeros(3, 32)}, towers / TEXT / INT8)
    assert towers_fingerprint(towers) == bare
    shutil.copy(folder / INT8, towers / TEXT / INT8)
    found = towers_fingerprint(towers)
    calibrate_encoder(towers / TEXT, TEXTS[:3])
    assert (towers / TEXT / INT8).read_bytes() != (folder / INT8).read_bytes()
    assert bare != found == towers_fingerprint(towers)


def test_vectors_of_whole_numbers_are_near_those_of_floats(folder: Path) -> None:
    exact = TextEncoder.load(folder, runtime="torch", device="cpu", precision="fp32")
    whole = replace(exact, runner=TorchRunner(sentence_module(folder, int8=True), "cpu", "fp32"))
    assert 0.999 < float(cosines(whole.encode(TEXTS), exact.encode(TEXTS)).min()) < 1 - 1e-7


def test_documents_are_read_in_int8_and_queries_as_ever(
    folder: Path, without_fast_bf16: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not without_fast_bf16():
        pytest.skip("this CPU has no int8 instructions")
    monkeypatch.setattr(runtime, "has_fast_bf16", without_fast_bf16)
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


def test_calibrating_keeps_the_model_as_it_is(folder: Path, tiny_encoder_folder: Path) -> None:
    assert holds_int8(folder)
    after, before = (TextEncoder.load(one, device="cpu", precision="fp32") for one in (folder, tiny_encoder_folder))
    np.testing.assert_array_equal(after.encode(TEXTS), before.encode(TEXTS))
