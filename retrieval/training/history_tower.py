"""Training of the history part and the item head: softmax over the catalogue on every prefix of every history."""

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
from retrieval.training.checkpoint import Standing, load_checkpoint, save_checkpoint
from retrieval.training.losses import catalogue_bce, catalogue_softmax
from retrieval.training.softmax_sampling import Candidates, CandidateSampler, shares
from retrieval.training.windows import Windows

LOSSES = {"softmax": catalogue_softmax, "bce": catalogue_bce}


class QueryPairs(NamedTuple):
    """Queries and items that answer them; also the text of past queries in histories."""

    vectors: Vectors  # float32 [n_queries, text_dim] text vectors
    query: NDArray[np.int64]  # [n_pairs]
    item: NDArray[np.int64]  # [n_pairs]
    known: CSR  # every item row that answers each query: those are never negatives


@dataclass(frozen=True)
class Catalogue:
    """What the item head reads of every item, on the training device."""

    text: Tensor  # [n, text_dim]
    price: Tensor  # int64 [n]
    category: CSR
    frequency: Tensor  # float [n], share of each item among the training targets

    def read(self, head: ItemHead, rows: Tensor) -> Tensor:
        """Item vectors [len(rows), dim + identity]."""
        codes = self.category.select(rows.cpu().numpy())
        device = self.text.device
        flat, begin = torch.from_numpy(codes.rows).to(device), torch.from_numpy(codes.indptr[:-1]).to(device)
        vectors: Tensor = head(self.text[rows], self.price[rows], (flat, begin), rows)
        return vectors


class HistoryTowers(nn.Module):
    """The parts that are trained together."""

    def __init__(self, head: ItemHead, history: HistoryModel, temperature: float) -> None:
        super().__init__()
        self.head, self.history = head, history
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))

    @property
    def scale(self) -> Tensor:
        """One over the temperature, at most 100."""
        return self.log_scale.exp().clamp(max=100.0)

    def weigh_identity(self, weight: float) -> None:
        """From here on the identity's logits count `weight` times beside the content's in what a history gives."""
        self.history.identity_scale.fill_(weight / float(self.scale.detach()))


def principal_projection(text: Vectors, dim: int) -> Tensor:
    """The `dim` directions that hold most of the text vectors' inner products, float32 [dim, text_dim]."""
    text_dim = text.shape[1]
    if dim >= text_dim:
        return torch.eye(text_dim)
    _, directions = np.linalg.eigh((text.T @ text).astype(np.float64))
    return torch.from_numpy(np.ascontiguousarray(directions[:, ::-1][:, :dim].T.astype(np.float32)))


class Aims(NamedTuple):
    """What the positions of a batch are to find."""

    follows: NDArray[np.bool_]  # [b, l] which positions have a target
    owner: NDArray[np.int64]  # [n] position, counted among those
    items: NDArray[np.int64]  # [n] item row, all of a request's
    weight: NDArray[np.float32]  # [n]


@dataclass
class HistoryTraining:
    """One training run; `validate` gives a recall from the towers as they are, higher is better.

    Without `validate` nothing stops the run early, and its last state is kept.
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
        """Trains, keeps the best state by `validate` and returns its recall.

        A run that was interrupted goes on from `checkpoint` and ends as it would have; torch's own random state is
        left as it was.
        """
        batches = self._plan(epochs)
        sizes = [self._size(batch) for batch in batches]
        optimiser, run = self._optimiser(), self._name(epochs)
        standing = load_checkpoint(self.checkpoint, run, self.towers, optimiser)
        every = max(1, len(batches) // self.config.evaluations)
        meter = ProgressMeter(sum(sizes), "history", unit="positions", done=sum(sizes[: standing.step]))
        self.towers.train()
        self._look_around()
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if self.device == "cuda" else ()):
            while standing.step < len(batches) and standing.waited < self.config.patience:
                self._learning_rate(optimiser, standing.step, len(batches))
                loss = self._step(standing.step, batches[standing.step], optimiser)
                meter.advance(sizes[standing.step], loss=loss)
                standing.step += 1
                if standing.step % every == 0 or standing.step == len(batches):
                    self._evaluate(standing, meter)
                    self._look_around()
                    save_checkpoint(self.checkpoint, run, self.towers, optimiser, standing)
        meter.close()
        if standing.kept:
            self.towers.load_state_dict(standing.kept)
        self.towers.eval()
        return standing.best if standing.kept else None

    def _evaluate(self, standing: Standing, meter: ProgressMeter) -> None:
        if self.validate is None:
            return
        self.towers.eval()
        with torch.inference_mode():
            score = self.validate(self.towers)
        self.towers.train()
        meter.advance(0, recall=score)
        standing.waited += 1
        if score > standing.best:
            kept = {name: value.detach().clone() for name, value in self.towers.state_dict().items()}
            standing.best, standing.waited, standing.kept = score, 0, kept

    def _name(self, epochs: int) -> str:
        """What makes this run, so that it goes on from no other one's checkpoint."""
        told = (self.windows.timeline.item, self.windows.start, self.windows.follows, self.windows.requests.rows)
        read = (self.catalogue.text.sum(dim=0).cpu().numpy(), self.catalogue.price.cpu().numpy())
        asked = () if self.pairs is None else (self.pairs.query, self.pairs.item)
        digests = [array_sha256(array) for array in (*told, *read, *asked)]
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
        falling = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimiser.param_groups:
            group["lr"] = self.config.learning_rate * min(1.0, (step + 1) / warm) * max(0.02, falling)

    def _size(self, batch: NDArray[np.int64]) -> int:
        return int((self.windows.stop[batch] - self.windows.start[batch]).sum())

    def _plan(self, epochs: int) -> list[NDArray[np.int64]]:
        """Windows of like length together, about `batch_positions` a batch, in another random order each epoch."""
        lengths, rng = self.windows.stop - self.windows.start, np.random.default_rng(self.seed)
        return [batch for _ in range(epochs) for batch in _epoch(lengths, self.config.batch_positions, rng)]

    def _step(self, step: int, batch: NDArray[np.int64], optimiser: torch.optim.Optimizer) -> float:
        rng = np.random.default_rng((self.seed, step))  # each step by itself, so that a resumed run draws the same
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
        aims = self._aims(batch, read.present)
        asked = self._sample_pairs(rng)
        answers = np.empty(0, np.int64) if asked is None else asked[1]
        candidates = self._sampler.draw(aims.items, answers, rng)
        rows = candidates.rows
        if candidates.log_q is not None:
            rows = torch.unique(torch.cat([rows, self._tensor(np.maximum(read.items, 0)).flatten()]))
        vectors = self.catalogue.read(self.towers.head, rows)
        inputs = self._inputs(read.items, read.queries, rows, vectors)
        kept = read.present & (rng.random(read.present.shape) >= config.event_drop)
        codes = (self._tensor(read.kinds), self._tensor(read.gaps), self._tensor(kept))
        content, identity = self.towers.history.streams(inputs, *codes)
        own = vectors[torch.searchsorted(rows, candidates.rows)]
        loss = self._history_loss(batch, aims, content, identity, own, candidates)
        return loss if asked is None else loss + config.query_weight * self._query_loss(asked, own, candidates)

    def _history_loss(
        self,
        batch: NDArray[np.int64],
        aims: Aims,
        content: Tensor,
        identity: Tensor | None,
        own: Tensor,
        candidates: Candidates,
    ) -> Tensor:
        """Each stream learns by itself: trained as one sum, the quicker one leaves no work."""
        told, dim = self._tensor(aims.follows), self.towers.history.dim
        owners = np.repeat(self.windows.user[batch], aims.follows.sum(axis=1))
        positives = self._columns(self.windows.liked.select(owners), candidates.rows)
        column = torch.searchsorted(candidates.rows, self._tensor(aims.items))
        answers = (self._tensor(aims.owner), column, positives, self._tensor(aims.weight))
        loss = LOSSES[self.config.loss]
        total = loss(self._logits(content[told], own[:, :dim], candidates, biased=True), *answers)
        if identity is not None:
            total = total + loss(self._identity_logits(identity[told], own[:, dim:], candidates), *answers)
        return total

    def _aims(self, batch: NDArray[np.int64], told: NDArray[np.bool_]) -> Aims:
        """What the positions that are `told` [b, l] have as targets."""
        length = told.shape[1]
        index = self.windows.stop[batch][:, None] - np.arange(length, 0, -1)
        request = np.where(told, self.windows.follows[np.maximum(index, 0)], -1)
        within = index >= self.windows.start[batch][:, None]
        follows = (request >= 0) & within
        requests = self.windows.requests
        items, places = requests.select(request[follows]), CSR(requests.indptr, np.arange(len(requests.rows)))
        return Aims(follows, items.owners, items.rows, self.windows.weight[places.select(request[follows]).rows])

    def _columns(self, lists: CSR, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """(line, column) of every candidate that stands in a line's list of item rows."""
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

    def _look_around(self) -> None:
        """Finds hard negatives of every item by the item vectors as they are, where they are asked for."""
        if not self.config.hard_negatives or self._sampler.scores_everything:
            return
        self.towers.eval()
        with torch.inference_mode():
            rows = torch.arange(len(self.catalogue.text), device=self.catalogue.text.device)
            vectors = self.catalogue.read(self.towers.head, rows)[:, : self.towers.history.dim]
        self.towers.train()
        self._sampler.look_around(vectors.float().cpu().numpy(), self.config.negative_window)

    def _inputs(self, items: NDArray[np.int64], queries: NDArray[np.int64], rows: Tensor, vectors: Tensor) -> Tensor:
        """What the history part reads at each position: the item's vector, the query's, or nothing."""
        wanted = self._tensor(np.maximum(items, 0))
        at = torch.searchsorted(rows, wanted)
        inputs = vectors[at] * self._tensor(items >= 0)[..., None]
        asked = queries >= 0
        if self.pairs is not None and asked.any():
            text = torch.from_numpy(self.pairs.vectors[queries[asked]]).to(vectors.device)
            inputs = inputs.index_put((self._tensor(asked),), self.towers.head.queries(text).to(inputs.dtype))
        return inputs

    def _logits(self, users: Tensor, items: Tensor, candidates: Candidates, *, biased: bool) -> Tensor:
        """One matrix product: the scale goes into the users, bias and correction in as its added row."""
        added = torch.zeros(len(items), device=items.device)
        if biased:
            added = added + self.towers.head.bias[candidates.rows]
        if candidates.log_q is not None:
            added = added - candidates.log_q
        return torch.addmm(added, users * self.towers.scale, items.T)

    def _identity_logits(self, users: Tensor, items: Tensor, candidates: Candidates) -> Tensor:
        """Inner products of free vectors, corrected for the sample."""
        if candidates.log_q is None:
            return users @ items.T
        return torch.addmm(-candidates.log_q, users, items.T)

    def _sample_pairs(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        if self.pairs is None or not len(self.pairs.query) or not self.config.query_weight:
            return None
        drawn = rng.integers(0, len(self.pairs.query), min(256, len(self.pairs.query)))
        return self.pairs.query[drawn], self.pairs.item[drawn]

    def _query_loss(
        self, asked: tuple[NDArray[np.int64], NDArray[np.int64]], items: Tensor, candidates: Candidates
    ) -> Tensor:
        """Softmax over the same candidates; other answers of the same query are no negatives."""
        assert self.pairs is not None
        query, item = asked
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
    order = rng.permutation(len(lengths))
    order = order[np.argsort(lengths[order] + rng.uniform(0, 2, len(order)), kind="stable")]
    total = np.cumsum(lengths[order])
    cuts = np.searchsorted(total, np.arange(positions, int(total[-1]) if len(total) else 0, positions)) + 1
    batches = [batch for batch in np.split(order, np.unique(cuts)) if len(batch)]
    for i in rng.permutation(len(batches)):
        yield batches[i]


def make_catalogue(text: Vectors, items: pa.Table, features: ItemFeatures, windows: Windows, device: str) -> Catalogue:
    """Tensors of the catalogue and how often each item is a target."""
    return Catalogue(
        torch.from_numpy(text).to(device),
        torch.from_numpy(features.price_codes(items)).to(device),
        features.category_codes(items),
        shares(windows.requests.rows, len(text)).to(device),
    )
