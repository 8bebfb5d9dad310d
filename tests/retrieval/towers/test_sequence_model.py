"""The trainable parts: what a position of a history may see, and what makes an item's vector."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from retrieval.data.timeline import GAP_BUCKETS
from retrieval.towers.item_features import ItemFeatures
from retrieval.towers.sequence_model import Block, HistoryModel, ItemHead

pytestmark = pytest.mark.usefixtures("one_thread")
DIM, IDENTITY, KINDS, LONGEST = 6, 4, 3, 12


@pytest.fixture(scope="module")
def model() -> HistoryModel:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        made = HistoryModel(
            DIM, KINDS, identity=IDENTITY, width=8, layers=2, heads=2, dropout=0.5, longest=LONGEST, gated=False
        )
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def history(length: int, seed: int = 0, batch: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch of random histories without padding."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, length, DIM + IDENTITY, generator=generator),
        torch.randint(0, KINDS + 1, (batch, length), generator=generator),
        torch.randint(0, GAP_BUCKETS, (batch, length), generator=generator),
        torch.ones(batch, length, dtype=torch.bool),
    )


def padded(inputs: tuple[Tensor, ...], by: int) -> tuple[Tensor, ...]:
    """The same behind `by` absent positions that hold what must not be read."""
    noise = history(by, seed=9, batch=len(inputs[0]))
    noise = (*noise[:3], torch.zeros_like(noise[3]))
    return tuple(torch.cat([left, right], dim=1) for left, right in zip(noise, inputs, strict=True))


def test_later_events_do_not_change_earlier_positions(model: HistoryModel) -> None:
    inputs = history(7)
    before = model(*inputs)
    changed = tuple(tensor.clone() for tensor in inputs)
    changed[0][:, 5:], changed[1][:, 5:], changed[2][:, 5:] = 3.0, 0, 1
    after = model(*changed)
    torch.testing.assert_close(after[:, :5], before[:, :5])
    assert (after[:, 5:] - before[:, 5:]).abs().max() > 0.01


def test_every_earlier_event_can_change_a_position(model: HistoryModel) -> None:
    inputs = history(6)
    before = model(*inputs)[0, -1]
    for place in range(6):
        vectors = inputs[0].clone()
        vectors[0, place] += 1
        assert (model(vectors, *inputs[1:])[0, -1] - before).abs().max() > 1e-4


def test_a_prefix_is_read_as_a_whole_history_is(model: HistoryModel) -> None:
    inputs = history(9)
    every = model(*inputs)
    for length in range(1, 10):
        alone = model(*(tensor[:, :length] for tensor in inputs))
        torch.testing.assert_close(alone[:, -1], every[:, length - 1])


def test_padding_and_the_rest_of_the_batch_never_change_a_vector(model: HistoryModel) -> None:
    short, long = history(3, seed=1), history(8, seed=2)
    alone = model(*short)
    together = model(*(torch.cat(pair) for pair in zip(padded(short, 5), long, strict=True)))
    torch.testing.assert_close(together[:1, -3:], alone)
    torch.testing.assert_close(together[1:], model(*long))


def test_what_an_item_is_has_unit_length_and_a_history_of_nothing_is_no_fault(model: HistoryModel) -> None:
    vectors, kinds, gaps, present = history(4)
    read = model(vectors, kinds, gaps, torch.zeros_like(present))
    assert torch.isfinite(read).all()
    torch.testing.assert_close(read[..., :DIM].norm(dim=-1), torch.ones(1, 4))


def test_each_stream_reads_its_own_part_and_the_second_counts_by_its_weight(model: HistoryModel) -> None:
    vectors, *codes = history(5)
    both = model(vectors, *codes)
    for part, other in ((slice(DIM), slice(DIM, None)), (slice(DIM, None), slice(DIM))):
        changed = vectors.clone()
        changed[..., part] += 1
        read = model(changed, *codes)
        torch.testing.assert_close(read[..., other], both[..., other])
        assert (read[..., part] - both[..., part]).abs().max() > 0.01
    weighed = deepcopy(model)
    weighed.identity_scale.fill_(0.25)
    torch.testing.assert_close(weighed(vectors, *codes)[..., :DIM], both[..., :DIM])
    torch.testing.assert_close(weighed(vectors, *codes)[..., DIM:], 0.25 * both[..., DIM:])


def test_without_an_identity_there_is_one_stream() -> None:
    made = HistoryModel(
        DIM, KINDS, identity=0, width=8, layers=1, heads=2, dropout=0.5, longest=LONGEST, gated=False
    ).eval()
    vectors, *codes = history(3)
    read = made(vectors[..., :DIM], *codes)
    assert read.shape == (1, 3, DIM)
    torch.testing.assert_close(read.norm(dim=-1), torch.ones(1, 3))


FEATURES = ItemFeatures(price_edges=(1.0,), categories=("a", "b"))


def head(drop: float) -> ItemHead:
    """An item head of five items with something in every part."""
    made = ItemHead(torch.eye(4), FEATURES, 5, identity=IDENTITY, residual_drop=drop)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter)
    return made


def read(made: ItemHead, text: Tensor) -> Tensor:
    """Five items: two without a category, one with both."""
    codes, begin = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 3, 4])
    vectors: Tensor = made(text, torch.tensor([0, 1, 2, 0, 1]), (codes, begin), torch.arange(5))
    return vectors


def test_an_item_is_text_price_mean_category_and_residual_and_beside_them_itself() -> None:
    made, text = head(0.5).eval(), torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    found = read(made, text)
    category = [made.category[0], 0, made.category.mean(0), made.category[1], 0]
    price = made.price[[0, 1, 2, 0, 1]]
    by_hand = torch.stack([made.project @ text[i] + price[i] + category[i] + made.residual[i] for i in range(5)])
    torch.testing.assert_close(found[:, :4], by_hand / by_hand.norm(dim=1, keepdim=True))
    torch.testing.assert_close(found[:, 4:], made.identity)


def test_residuals_are_dropped_for_some_items_in_training_only() -> None:
    made, text = head(0.5), torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    made.eval()
    whole, without = read(made, text), None
    with torch.no_grad():
        kept = made.residual.clone()
        made.residual.zero_()
        without = read(made, text)
        made.residual.copy_(kept)
    made.train()
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        drawn = torch.stack([read(made, text) for _ in range(40)])
    is_whole = torch.isclose(drawn, whole, atol=1e-6).all(-1)
    is_bare = torch.isclose(drawn, without, atol=1e-6).all(-1)
    assert (is_whole ^ is_bare).all()
    assert 0.3 < float(is_bare.float().mean()) < 0.7


def test_a_catalogue_without_categories_has_vectors_all_the_same() -> None:
    made = ItemHead(torch.eye(4), ItemFeatures(price_edges=(), categories=()), 2, identity=0, residual_drop=0.0)
    none = (torch.empty(0, dtype=torch.long), torch.zeros(2, dtype=torch.long))
    found = made(torch.eye(4)[:2], torch.zeros(2, dtype=torch.long), none, torch.arange(2))
    torch.testing.assert_close(found, torch.eye(4)[:2])


def test_a_query_is_projected_as_items_are_and_is_no_item() -> None:
    made, text = head(0.0), torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    by_hand = text @ made.project.T
    torch.testing.assert_close(made.queries(text)[:, :4], by_hand / by_hand.norm(dim=1, keepdim=True))
    assert (made.queries(text)[:, 4:] == 0).all()


def test_a_closed_gate_adds_nothing_and_an_open_one_adds_all() -> None:
    block = Block(8, 2, 0.0, LONGEST, gated=True).eval()
    assert block.gates is not None
    x, mask, apart = torch.randn(1, 3, 8), torch.ones(1, 1, 3, 3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.long)
    outputs = {}
    for opened in (-40.0, 40.0):
        for gate in block.gates:
            torch.nn.init.zeros_(gate.weight)
            torch.nn.init.constant_(gate.bias, opened)
        with torch.inference_mode():
            outputs[opened] = block(x, mask, apart)
    torch.testing.assert_close(outputs[-40.0], x)
    block.gates = None
    with torch.inference_mode():
        torch.testing.assert_close(outputs[40.0], block(x, mask, apart))


def test_gated_streams_are_causal_too() -> None:
    made = HistoryModel(
        DIM, KINDS, identity=IDENTITY, width=8, layers=2, heads=2, dropout=0.0, longest=LONGEST, gated=True
    )
    made.eval()
    inputs = history(6)
    with torch.inference_mode():
        before = made(*inputs)
        inputs[0][:, 4:] += 1
        torch.testing.assert_close(made(*inputs)[:, :4], before[:, :4])
