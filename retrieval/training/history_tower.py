"""Joint training of the history model and the item head: next-request prediction at every position of a history."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.encoders.runtime import training_bf16
from retrieval.fingerprint import array_sha256, fingerprint
from retrieval.progress import ProgressMeter
from retrieval.settings import HistoryConfig
from retrieval.topk import CSR, Vectors
from retrieval.towers.item_features import ItemFeatures
from retrieval.towers.sequence_model import HistoryModel, ItemHead
from retrieval.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from retrieval.training.losses import catalogue_bce, catalogue_softmax
from retrieval.training.softmax_sampling import CandidateSampler, SampledItems, shares
from retrieval.training.windows import Windows

LOSSES = {"softmax": catalogue_softmax, "bce": catalogue_bce}


class QueryPairs(NamedTuple):
    """Queries with the items that answer them; the vectors also stand for past queries in histories."""

    vectors: Vectors  # float32 [n_queries, text_dim] text vectors
    query: NDArray[np.int64]  # [n_pairs]
    item: NDArray[np.int64]  # [n_pairs]
    known: CSR  # all item rows known to answer each query, which are never its negatives


@dataclass(frozen=True)
class Catalogue:
    """The inputs of the item head for every item, on the training device."""

    text: Tensor  # [n, text_dim]
    price: Tensor  # int64 [n]
    category: CSR
    frequency: Tensor  # float [n], share of each item among the training targets

    def read(self, head: ItemHead, rows: Tensor) -> Tensor:
        """Item vectors of `rows` (int64 [m]), float [m, dim + identity]."""
        codes = self.category.select(rows.cpu().numpy())
        device = self.text.device
        flat, begin = torch.from_numpy(codes.rows).to(device), torch.from_numpy(codes.indptr[:-1]).to(device)
        vectors: Tensor = head(self.text[rows], self.price[rows], (flat, begin), rows)
        return vectors


class HistoryTowers(nn.Module):
    """The modules that are trained together: item head, history model and the temperature of the logits."""

    def __init__(self, head: ItemHead, history: HistoryModel, temperature: float) -> None:
        super().__init__()
        self.head, self.history = head, history
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @property
    def scale(self) -> Tensor:
        """One over the temperature, a scalar of at most 100."""
        return self.log_scale.exp().clamp(max=100.0)

    def set_identity_weight(self, weight: float) -> None:
        """Sets the weight of the identity logits relative to the content logits in a user vector."""
        self.history.identity_scale.fill_(weight / float(self.scale.detach()))


def principal_projection(text: Vectors, dim: int) -> Tensor:
    """The first `dim` principal directions of the text vectors [n, text_dim], uncentred; float32 [dim, text_dim]."""
    text_dim = text.shape[1]
    if dim >= text_dim:
        return torch.eye(text_dim)
    _, directions = np.linalg.eigh((text.T @ text).astype(np.float64))
    return torch.from_numpy(np.ascontiguousarray(directions[:, ::-1][:, :dim].T.astype(np.float32)))


class Targets(NamedTuple):
    """The n target items of a batch of b histories."""

    positions: NDArray[np.bool_]  # [b, l] true where a position has targets
    owner: NDArray[np.int64]  # [n] index of each target's position among those
    items: NDArray[np.int64]  # [n] item row
    weight: NDArray[np.float32]  # [n] weight in the loss


@dataclass
class HistoryTraining:
    """One training run.

    `validate` scores the current towers, higher is better: the best state is kept, and training stops early once
    `patience` evaluations brought no better one. Without it the run goes to its end and its last state is kept.
    """

    config: HistoryConfig
    windows: Windows
    catalogue: Catalogue
    towers: HistoryTowers
    pairs: QueryPairs | None
    validate: Callable[[HistoryTowers], float] | None
    device: str
    seed: int
    checkpoint: Path | None = None

    def run(self, epochs: int) -> float | None:
        """Trains, loads the best state and returns its validation score, None where there was no validation.

        An interrupted run resumes from `checkpoint` and ends exactly as it would have. The global random state of torch
        is left unchanged.
        """
        batches = self._plan(epochs)
        sizes = [self._size(batch) for batch in batches]
        optimiser, run = self._optimiser(), self._run_fingerprint(epochs)
        state = load_checkpoint(self.checkpoint, run, self.towers, optimiser)
        every = max(1, len(batches) // self.config.evaluations)
        meter = ProgressMeter(sum(sizes), "history", unit="positions", done=sum(sizes[: state.step]))
        self.towers.train()
        self._refresh_hard_negatives()
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if self.device == "cuda" else ()):
            while state.step < len(batches) and state.stale < self.config.patience:
                self._learning_rate(optimiser, state.step, len(batches))
                loss = self._step(state.step, batches[state.step], optimiser)
                meter.advance(sizes[state.step], loss=loss)
                state.step += 1
                if state.step % every == 0 or state.step == len(batches):
                    self._evaluate(state, meter)
                    self._refresh_hard_negatives()
                    save_checkpoint(self.checkpoint, run, self.towers, optimiser, state)
        meter.close()
        if state.best_weights:
            self.towers.load_state_dict(state.best_weights)
        self.towers.eval()
        return state.best if state.best_weights else None

    def _evaluate(self, state: TrainingState, meter: ProgressMeter) -> None:
        if self.validate is None:
            return
        self.towers.eval()
        with torch.inference_mode():
            score = self.validate(self.towers)
        self.towers.train()
        meter.advance(0, recall=score)
        state.stale += 1
        if score > state.best:
            kept = {name: value.detach().clone() for name, value in self.towers.state_dict().items()}
            state.best, state.stale, state.best_weights = score, 0, kept

    def _run_fingerprint(self, epochs: int) -> str:
        """A fingerprint of the run's inputs, so that it never resumes from another run's checkpoint."""
        windows = (self.windows.timeline.item, self.windows.start, self.windows.follows, self.windows.requests.rows)
        items = (self.catalogue.text.sum(dim=0).cpu().numpy(), self.catalogue.price.cpu().numpy())
        queries = () if self.pairs is None else (self.pairs.query, self.pairs.item)
        digests = [array_sha256(array) for array in (*windows, *items, *queries)]
        return fingerprint(self.config.model_dump(), self.seed, epochs, digests)

    def _optimiser(self) -> torch.optim.AdamW:
        matrices = [p for p in self.towers.parameters() if p.ndim > 1]
        others = [p for p in self.towers.parameters() if p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, fused=True)

    def _learning_rate(self, optimiser: torch.optim.Optimizer, step: int, steps: int) -> None:
        warm = max(1, int(self.config.warmup * steps))
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, (step + 1) / warm) * max(0.02, cosine)

    def _size(self, batch: NDArray[np.int64]) -> int:
        return int((self.windows.stop[batch] - self.windows.start[batch]).sum())

    def _plan(self, epochs: int) -> list[NDArray[np.int64]]:
        """All batches of the run: windows of similar length, about `batch_positions` each, reshuffled every epoch."""
        lengths, rng = self.windows.stop - self.windows.start, np.random.default_rng(self.seed)
        return [batch for _ in range(epochs) for batch in _epoch(lengths, self.config.batch_positions, rng)]

    def _step(self, step: int, batch: NDArray[np.int64], optimiser: torch.optim.Optimizer) -> float:
        rng = np.random.default_rng((self.seed, step))  # seeded by step, so that a resumed run draws the same
        torch.manual_seed(int(rng.integers(2**63)))
        with torch.autocast(self.device, torch.bfloat16, enabled=training_bf16(self.device)):
            loss = self._loss(batch, rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.towers.parameters(), 1.0)
        optimiser.step()
        return float(loss.detach())

    def _loss(self, batch: NDArray[np.int64], rng: np.random.Generator) -> Tensor:
        config = self.config
        read = self.windows.timeline.batch(self.windows.user[batch], self.windows.stop[batch], config.longest)
        targets = self._targets(batch, read.present)
        query_batch = self._sample_pairs(rng)
        answers = np.empty(0, np.int64) if query_batch is None else query_batch[1]
        candidates = self._sampler.draw(targets.items, answers, rng)
        rows = candidates.rows
        if candidates.log_q is not None:
            rows = torch.unique(torch.cat([rows, self._tensor(np.maximum(read.items, 0)).flatten()]))
        vectors = self.catalogue.read(self.towers.head, rows)
        inputs = self._inputs(read.items, read.queries, rows, vectors)
        present = read.present & (rng.random(read.present.shape) >= config.event_drop)
        codes = (self._tensor(read.kinds), self._tensor(read.gaps), self._tensor(present))
        content, identity = self.towers.history.streams(inputs, *codes)
        own = vectors[torch.searchsorted(rows, candidates.rows)]
        loss = self._history_loss(batch, targets, content, identity, own, candidates)
        if query_batch is None:
            return loss
        return loss + config.query_weight * self._query_loss(query_batch, own, candidates)

    def _history_loss(
        self,
        batch: NDArray[np.int64],
        targets: Targets,
        content: Tensor,
        identity: Tensor | None,
        own: Tensor,
        candidates: SampledItems,
    ) -> Tensor:
        """The sum of one loss per stream: trained on the sum of their logits, the faster stream starves the other."""
        positions, dim = self._tensor(targets.positions), self.towers.history.dim
        owners = np.repeat(self.windows.user[batch], targets.positions.sum(axis=1))
        positives = self._columns(self.windows.liked.select(owners), candidates.rows)
        column = torch.searchsorted(candidates.rows, self._tensor(targets.items))
        answers = (self._tensor(targets.owner), column, positives, self._tensor(targets.weight))
        loss = LOSSES[self.config.loss]
        total = loss(self._logits(content[positions], own[:, :dim], candidates, biased=True), *answers)
        if identity is not None:
            total = total + loss(self._identity_logits(identity[positions], own[:, dim:], candidates), *answers)
        return total

    def _targets(self, batch: NDArray[np.int64], present: NDArray[np.bool_]) -> Targets:
        """The targets of the positions that hold an event, `present` bool [b, l]."""
        length = present.shape[1]
        index = self.windows.stop[batch][:, None] - np.arange(length, 0, -1)
        request = np.where(present, self.windows.follows[np.maximum(index, 0)], -1)
        within = index >= self.windows.start[batch][:, None]
        positions = (request >= 0) & within
        requests = self.windows.requests
        items, entries = requests.select(request[positions]), CSR(requests.indptr, np.arange(len(requests.rows)))
        weight = self.windows.weight[entries.select(request[positions]).rows]
        return Targets(positions, items.owners, items.rows, weight)

    def _columns(self, lists: CSR, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """The (line, column) of every candidate that is in a line's list of item rows, int64 each."""
        lines, wanted = self._tensor(lists.owners), self._tensor(lists.rows)
        column = torch.searchsorted(candidates, wanted).clamp(max=len(candidates) - 1)
        found = candidates[column] == wanted
        return lines[found], column[found]

    @cached_property
    def _sampler(self) -> CandidateSampler:
        n = len(self.catalogue.text)
        items = np.empty(0, np.int64) if self.pairs is None else self.pairs.item
        return CandidateSampler(
            self.catalogue.frequency,
            shares(items, n).to(self.catalogue.text.device),
            self.config.full_softmax_items,
            self.config.uniform_negatives,
            self.config.hard_negatives,
            self.config.log_q,
        )

    def _refresh_hard_negatives(self) -> None:
        """Searches the hard negatives of every item with the current item vectors, if the settings use any."""
        if not self.config.hard_negatives or self._sampler.scores_everything:
            return
        self.towers.eval()
        with torch.inference_mode():
            rows = torch.arange(len(self.catalogue.text), device=self.catalogue.text.device)
            vectors = self.catalogue.read(self.towers.head, rows)[:, : self.towers.history.dim]
        self.towers.train()
        self._sampler.find_neighbours(vectors.float().cpu().numpy(), self.config.negative_window)

    def _inputs(self, items: NDArray[np.int64], queries: NDArray[np.int64], rows: Tensor, vectors: Tensor) -> Tensor:
        """The input of the history model, float [b, l, dim + identity]: item and query vectors, zero elsewhere."""
        at = torch.searchsorted(rows, self._tensor(np.maximum(items, 0)))
        inputs = vectors[at] * self._tensor(items >= 0)[..., None]
        is_query = queries >= 0
        if self.pairs is not None and is_query.any():
            text = torch.from_numpy(self.pairs.vectors[queries[is_query]]).to(vectors.device)
            inputs = inputs.index_put((self._tensor(is_query),), self.towers.head.queries(text).to(inputs.dtype))
        return inputs

    def _logits(self, users: Tensor, items: Tensor, candidates: SampledItems, *, biased: bool) -> Tensor:
        """Scaled content logits [n, n_candidates], plus item biases and less the logQ correction where they apply."""
        added = torch.zeros(len(items), device=items.device)
        if biased:
            added = added + self.towers.head.bias[candidates.rows]
        if candidates.log_q is not None:
            added = added - candidates.log_q
        return torch.addmm(added, users * self.towers.scale, items.T)

    def _identity_logits(self, users: Tensor, items: Tensor, candidates: SampledItems) -> Tensor:
        """Identity logits [n, n_candidates], less the logQ correction where it applies."""
        if candidates.log_q is None:
            return users @ items.T
        return torch.addmm(-candidates.log_q, users, items.T)

    def _sample_pairs(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        if self.pairs is None or not len(self.pairs.query) or not self.config.query_weight:
            return None
        drawn = rng.integers(0, len(self.pairs.query), min(256, len(self.pairs.query)))
        return self.pairs.query[drawn], self.pairs.item[drawn]

    def _query_loss(
        self, query_batch: tuple[NDArray[np.int64], NDArray[np.int64]], items: Tensor, candidates: SampledItems
    ) -> Tensor:
        """Softmax of (query, item) pairs over the same candidates; known answers of a query are no negatives of it."""
        assert self.pairs is not None
        query, item = query_batch
        dim = self.towers.history.dim
        users = self.towers.head.queries(torch.from_numpy(self.pairs.vectors[query]).to(items.device))[:, :dim]
        logits = self._logits(users, items[:, :dim], candidates, biased=False)
        columns = torch.searchsorted(candidates.rows, self._tensor(item))
        position = torch.arange(len(query), device=items.device)
        known = self._columns(self.pairs.known.select(query), candidates.rows)
        return catalogue_softmax(logits, position, columns, known)

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def _epoch(lengths: NDArray[np.int64], positions: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches of window numbers, each of about `positions` positions in windows of similar length."""
    order = rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order] + rng.uniform(0, 2, len(order)), kind="stable")]
    total = np.cumsum(lengths[order])
    cuts = np.searchsorted(total, np.arange(positions, int(total[-1]) if len(total) else 0, positions)) + 1
    batches = [batch for batch in np.split(order, np.unique(cuts)) if len(batch)]
    for i in rng.permutation(len(batches)):
        yield batches[i]


def make_catalogue(text: Vectors, items: pa.Table, features: ItemFeatures, windows: Windows, device: str) -> Catalogue:
    """The catalogue on `device`, from text vectors float32 [n, text_dim] and the items table in the same order."""
    return Catalogue(
        torch.from_numpy(text).to(device),
        torch.from_numpy(features.price_codes(items)).to(device),
        features.category_codes(items),
        shares(windows.requests.rows, len(text)).to(device),
    )
