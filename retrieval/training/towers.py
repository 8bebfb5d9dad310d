"""A pair of towers from a data set: the text part first, then the history part over its vectors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from retrieval.data.dataset import DataSet
from retrieval.data.events import Events
from retrieval.data.split import EventSplit, JudgementSplit
from retrieval.encoders.int8_calibration import calibrate_encoder
from retrieval.encoders.pretrained import pretrained_source
from retrieval.encoders.runtime import pick_device
from retrieval.encoders.text_encoder import NO_INT8, TextEncoder, open_sentence_transformer
from retrieval.errors import BadConfig
from retrieval.fingerprint import fingerprint
from retrieval.progress import ProgressMeter
from retrieval.settings import HistoryConfig, RetrievalConfig
from retrieval.text.rendering import ItemTexts, item_texts, rendering_fingerprint
from retrieval.topk import CSR, Vectors
from retrieval.towers.cold_start import fit_guess, guess
from retrieval.towers.item_features import ItemFeatures
from retrieval.towers.sequence_model import HistoryModel, ItemHead
from retrieval.towers.serving import HEAD, HISTORY, HISTORY_WEIGHT, TEXT, TowersConfig, write_config
from retrieval.training.checkpoint import claim
from retrieval.training.history_tower import (
    Catalogue,
    HistoryTowers,
    HistoryTraining,
    QueryPairs,
    make_catalogue,
    principal_projection,
)
from retrieval.training.item_to_item import DECAY, ItemFactors, fit_factors
from retrieval.training.text_batches import Teacher
from retrieval.training.text_pair_sources import asked_pairs, history_pairs, judged_pairs
from retrieval.training.text_pairs import TextPairs
from retrieval.training.text_tower import hashed_share, train_text
from retrieval.training.validation import IDENTITY_WEIGHTS, Beside, Validation
from retrieval.training.windows import Windows

CHECKPOINT = "history.safetensors"
Budget: TypeAlias = Literal["quick", "default", "long"]
BUDGET_SCALE: dict[str, float] = {"quick": 0.25, "default": 1.0, "long": 3.0}
QUERY_EXAMPLES = 16_000  # of queries at most, and at most so many rounds over their pairs
QUERY_ROUNDS = 2.0
HISTORY_EXAMPLES = 4_000  # pairs of histories beside queries, each read once
HISTORY_POSITIONS = 1_600_000  # positions that the history part reads in all
MIN_WINDOWS = 20  # fewer histories than this train nothing that holds
HELD_OUT = 0.04  # of the training queries, for early stopping of the text part


@dataclass(frozen=True)
class TowerData:
    """What a pair of towers may read: the data set, its splits, and the users left out for cross-fitting."""

    data: DataSet
    events: EventSplit | None
    judgements: JudgementSplit | None
    users: NDArray[np.bool_] | None = None  # [n_users] true: may be trained on

    @property
    def train(self) -> NDArray[np.bool_]:
        """Events that may be read, bool [n_events]."""
        assert self.events is not None
        assert self.data.events is not None
        train = self.events.train
        return train if self.users is None else train & self.users[self.data.events.user]


@dataclass(frozen=True)
class TextPart:
    """A sentence-transformers folder, its encoder, and the text vectors of the catalogue, float32 [n_items, dim]."""

    folder: Path
    encoder: TextEncoder
    vectors: Vectors


@dataclass(frozen=True)
class TrainedTowers:
    """What a training left: the folder, the text vectors of the items in row order, and its validation figures."""

    folder: Path
    text_vectors: Vectors
    figures: dict[str, float]


def train_towers(
    source: TowerData,
    folder: Path,
    *,
    config: RetrievalConfig,
    budget: Budget = "default",
    device: str = "auto",
    work: Path,
    text: TextPart | None = None,
    teacher: Teacher | None = None,
    rounds: float = 1.0,
    say: Callable[[str], None] = print,
) -> TrainedTowers:
    """Trains and writes a towers folder. `work` holds checkpoints, from which an interrupted run goes on.

    `text` is a text part that is there already and is taken as it is. `teacher` scores (query text, item text) pairs as
    a cross-encoder does, float32 [n], and judges the text part's hard negatives. `rounds` is the share of the budget's
    rounds over the histories. What will be trained, and on how many examples, is told to `say` before it begins.
    """
    training = _Training(source, config, budget, rounds, pick_device(device), work, say, teacher)
    figures: dict[str, float | None] = {}
    if text is None:
        figures["text_recall@10"] = training.text_part(folder / TEXT)
        calibrate_encoder(folder / TEXT, ItemTexts(source.data.items))
        text = embed_catalogue(source.data, folder / TEXT, config.precision, training.device)
        if config.precision == "int8" and text.encoder.documents is None:
            say(NO_INT8)
    else:
        shutil.copytree(text.folder, folder / TEXT, dirs_exist_ok=True)
    dim = text.vectors.shape[1]
    about = TowersConfig(dim=dim, text_dim=dim, rendering=rendering_fingerprint())
    if training.windows is not None and len(training.windows.user) >= MIN_WINDOWS:
        about, figures["history_recall@20"] = training.history_part(training.windows, text, folder)
    write_config(folder, about)
    training.forget()
    return TrainedTowers(folder, text.vectors, {name: value for name, value in figures.items() if value is not None})


def embed_catalogue(data: DataSet, folder: Path, precision: str, device: str) -> TextPart:
    """The text vectors of all items by the sentence-transformers folder, with progress."""
    encoder = TextEncoder.load(folder, device=device, precision=precision)
    meter = ProgressMeter(data.n_items, "embedding items", unit="items")
    vectors = encoder.encode(item_texts(data.items), "document", done=meter.advance)
    meter.close()
    return TextPart(folder, encoder, vectors)


@dataclass(frozen=True)
class _Training:
    """What both parts are trained from."""

    source: TowerData
    config: RetrievalConfig
    budget: Budget
    rounds: float
    device: str
    work: Path
    say: Callable[[str], None]
    teacher: Teacher | None

    @cached_property
    def windows(self) -> Windows | None:
        """The histories, where there are events."""
        events, split = self.source.data.events, self.source.events
        if events is None or split is None:
            return None
        counts = target_weights(events, split, self.config.history.target_weights)
        return Windows.build(events, self.source.train, counts, self.config.history.longest)

    def text_part(self, folder: Path) -> float | None:
        """Trains the text part into `folder`, or takes it from an earlier start of the same run."""
        scale, config, work = BUDGET_SCALE[self.budget], self.config.text, self.work / "text"
        pairs, held_out, budget = _text_pairs(self.source, self.windows, scale, self.config)
        examples = budget if config.examples is None else config.examples
        data = (self.source.data.fingerprint, rendering_fingerprint(), pairs.digest(), held_out.digest())
        run = fingerprint(config.model_dump(), self.config.seed, examples, self.teacher is not None, *data)
        done = work / "model"
        if not (claim(work, run) and done.exists()):
            self._fit_text(pairs, held_out, examples, work, done)
        shutil.copytree(done, folder, dirs_exist_ok=True)
        best = json.loads((work / "best.json").read_text("utf-8"))
        return None if best is None else float(best)

    def _fit_text(self, pairs: TextPairs, held_out: TextPairs, examples: int, work: Path, done: Path) -> None:
        model = open_sentence_transformer(pretrained_source(self.config.text.model), device=self.device)
        best = None
        if len(pairs) and examples >= self.config.text.batch:
            self.say(f"text part: {len(pairs):,} pairs, budget {examples:,} examples")
            best = train_text(
                model, pairs, held_out, item_texts(self.source.data.items), config=self.config.text,
                examples=examples, work=work, seed=self.config.seed, device=self.device, teacher=self.teacher,
            )  # fmt: skip
        beside = done.with_suffix(".part")
        shutil.rmtree(beside, ignore_errors=True)
        model.save(str(beside), create_model_card=False)
        (work / "best.json").write_text(json.dumps(best), "utf-8")
        beside.rename(done)
        for checkpoint in work.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)

    def history_part(self, windows: Windows, text: TextPart, folder: Path) -> tuple[TowersConfig, float | None]:
        """Trains the item head and the history part into `folder`; with the recall that validation found."""
        data, config = self.source.data, self.config.history
        pairs = _query_pairs(self.source, text.encoder)
        features = ItemFeatures.fit(data.items) if config.features else ItemFeatures(price_edges=(), categories=())
        towers = new_towers(
            text.vectors, features, windows, config, has_queries=len(pairs.query) > 0, seed=self.config.seed
        )
        towers = towers.to(self.device)
        catalogue = make_catalogue(text.vectors, data.items, features, windows, self.device)
        positions = int((windows.stop - windows.start).sum())
        epochs = config.epochs
        if epochs is None:
            epochs = max(1, round(self.rounds * history_epochs(positions, self.budget)))
        self.say(f"history part: {len(windows.user):,} histories, {positions:,} positions, {epochs} epochs at most")
        validate = self._validation(catalogue, pairs)
        training = HistoryTraining(
            config, windows, catalogue, towers, pairs, validate, self.device, self.config.seed,
            self.work / CHECKPOINT,
        )  # fmt: skip
        best = training.run(epochs)
        guesses, factors, beside = _settle_never_taken(towers, catalogue), None, Beside(HISTORY_WEIGHT, False)
        if best is None or validate is None:
            towers.weigh_identity(IDENTITY_WEIGHTS[1] if config.identity_weight is None else config.identity_weight)
        else:
            with torch.inference_mode():
                best = validate(towers)
            if config.linear:
                factors, best = self._linear(windows, text.vectors, catalogue, towers, validate)
            beside = validate.weigh_history(towers, factors) or beside
        _save_history(folder, towers, guesses, factors)
        about = TowersConfig(
            dim=len(towers.head.project),
            text_dim=text.vectors.shape[1],
            rendering=rendering_fingerprint(),
            features={"price_edges": list(features.price_edges), "categories": list(features.categories)},
            item_ids=tuple(data.item_ids),
            kinds=windows.timeline.kinds,
            identity=config.identity,
            linear=0 if factors is None else factors.gives.shape[1],
            linear_decay=DECAY,
            history_weight=beside.weight,
            history_hears_query=beside.hears_query,
            history={name: getattr(config, name) for name in ("width", "layers", "heads", "longest", "gated")},
        )
        return about, best

    def _validation(self, catalogue: Catalogue, pairs: QueryPairs) -> Validation | None:
        events, split = self.source.data.events, self.source.events
        assert events is not None
        assert split is not None
        return Validation.over(events, split, catalogue, pairs, self.config.history)

    def _linear(
        self, windows: Windows, text: Vectors, catalogue: Catalogue, towers: HistoryTowers, validate: Validation
    ) -> tuple[ItemFactors | None, float]:
        """The closed-form reading at the weight that validation found best, none at 0, and the recall with it."""
        config = self.config.history
        self.say(f"linear part: {len(windows.asker):,} requests, {len(text):,} items, {config.linear} dimensions")
        factors = fit_factors(
            windows, text, catalogue.category, rank=config.linear, longest=config.longest, device=self.device,
            seed=self.config.seed,
        )  # fmt: skip
        weight, best = validate.weigh_linear(towers, factors)
        self.say(f"linear part: weight {weight:g}, recall@20 {best:.4f}")
        return (factors.louder(weight / float(towers.scale.detach())) if weight else None), best

    def forget(self) -> None:
        """Removes the checkpoints of a run that has ended."""
        shutil.rmtree(self.work / "text", ignore_errors=True)
        (self.work / CHECKPOINT).unlink(missing_ok=True)


def _text_pairs(
    source: TowerData, windows: Windows | None, scale: float, config: RetrievalConfig
) -> tuple[TextPairs, TextPairs, int]:
    """Pairs to train on, pairs held out (queries by query, histories by shopper), and the budget in examples: none
    without queries, for histories alone were read no better with a text part that was tuned on them. The squared error
    of grades is trained on judgements alone: what was bought has none."""
    rng, graded = np.random.default_rng(config.seed), config.text.loss == "mse"
    if graded and source.judgements is None:
        raise BadConfig("retrieval.text.loss is mse, which learns grades, and the data set has no judgements")
    parts, held, n_told = [], [], 0
    if source.judgements is not None and source.data.queries is not None:
        queries = source.judgements.folds["train"]
        out = hashed_share([source.data.queries.ids[query] for query in queries], HELD_OUT)
        parts.append(judged_pairs(source.data, queries[~out], graded=graded))
        held.append(judged_pairs(source.data, queries[out]))
    if windows is not None and not graded:
        asked = asked_pairs(source.data, source.train)
        told = history_pairs(windows, source.data.items["title"].to_pylist(), int(HISTORY_EXAMPLES * scale), rng)
        parts += [part for part in (asked, told) if len(part)]
        if not held and len(told):
            out = hashed_share([source.data.user_ids[user] for user in told.owner], HELD_OUT)
            parts[-1] = told.take(np.flatnonzero(~out))
            held.append(told.take(np.flatnonzero(out)))
        n_told = len(parts[-1]) if len(told) else 0
    n_asked = sum(map(len, parts)) - n_told
    examples = int(min(QUERY_EXAMPLES, QUERY_ROUNDS * n_asked) * scale) + n_told if n_asked else 0
    none = TextPairs((), np.empty(0, np.int64), np.empty(0, np.int64), CSR.from_lists([]))
    return (TextPairs.join(parts) if parts else none), (TextPairs.join(held) if held else none), examples


def new_towers(
    vectors: Vectors, features: ItemFeatures, windows: Windows, config: HistoryConfig, *, has_queries: bool, seed: int
) -> HistoryTowers:
    """Parts to train, drawn from the seed; the projection begins as the text vectors' principal directions.

    A residual pulls an item away from its text, towards who takes it. Histories find it by that; a query, which reads
    texts alone, does not find it any more.
    """
    dim = min(vectors.shape[1], config.dim or (vectors.shape[1] if has_queries else 128))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        head = ItemHead(
            principal_projection(vectors, dim),
            features,
            len(vectors),
            identity=config.identity,
            residual_drop=config.residual_drop,
        )
        model = HistoryModel(
            dim, len(windows.timeline.kinds), identity=config.identity, width=config.width, layers=config.layers,
            heads=config.heads, dropout=config.dropout, longest=config.longest, gated=config.gated,
        )  # fmt: skip
        head.bias.requires_grad_(config.bias)
        head.residual.requires_grad_(not has_queries if config.residual is None else config.residual)
        for codes in (head.price, head.category):
            codes.requires_grad_(config.features)
        return HistoryTowers(head, model, config.temperature)


def target_weights(events: Events, split: EventSplit, weights: Mapping[str, float]) -> NDArray[np.float32]:
    """What each event counts as a target, float32 [n_events]: by its kind, 0 for one of another kind and for what was
    given back; without `weights` 1 for the split's own targets. Raises BadConfig for an unknown kind."""
    if not weights:
        return split.train_target.astype(np.float32)
    if unknown := sorted(set(weights) - set(events.kinds)):
        raise BadConfig(f"target_weights names {', '.join(unknown)}; the events are: {', '.join(events.kinds)}")
    counts = np.zeros(len(events), np.float32)
    for kind, weight in weights.items():
        counted = split.train_target if kind in split.target_events else split.train & ~events.is_return()
        counts[counted & events.is_kind([kind])] = weight
    return counts


def history_epochs(positions: int, budget: Budget) -> int:
    """Rounds over the histories: 20 on small data, fewer as it grows."""
    return max(1, round(min(20.0, max(4.0, HISTORY_POSITIONS / max(1, positions))) * BUDGET_SCALE[budget]))


def _query_pairs(source: TowerData, encoder: TextEncoder) -> QueryPairs:
    """Text vectors of every query in events, then of the judged ones, with the items that answer them."""
    data = source.data
    assert data.events is not None
    texts, parts = list(data.events.query_texts), [asked_pairs(data, source.train)]
    if source.judgements is not None and data.queries is not None:
        parts.append(judged_pairs(data, source.judgements.folds["train"]))
        texts += data.queries.texts
    pairs = TextPairs.join(parts)
    return QueryPairs(encoder.encode(texts, "query"), pairs.owner, pairs.item, pairs.known)


def _settle_never_taken(towers: HistoryTowers, catalogue: Catalogue) -> Vectors:
    """Makes what was never a target as one that comes after training; gives the map that guesses its identity.

    Such an item learned its residual, identity and bias as a negative alone, which says when it came, not what it is
    worth. It is left without residual, with the mean item's bias, and with the identity that its content lets guess.
    """
    taken, head = catalogue.frequency > 0, towers.head
    rows = torch.arange(len(catalogue.text), device=catalogue.text.device)
    with torch.no_grad():
        head.residual.mul_(taken[:, None])
        head.bias[~taken] = head.bias[taken].mean()
        content = catalogue.read(head, rows)[:, : towers.history.dim].float().cpu().numpy()
        known = taken.cpu().numpy()
        fitted = fit_guess(content[known], head.identity[taken].cpu().numpy())
        head.identity[~taken] = torch.from_numpy(guess(content[~known], fitted)).to(head.identity)
    return fitted


def _save_history(folder: Path, towers: HistoryTowers, guesses: Vectors, factors: ItemFactors | None) -> None:
    """Weights as the towers read them: the bias in units of the unit vectors' inner product."""
    head = {name: value.detach().cpu().contiguous().clone() for name, value in towers.head.state_dict().items()}
    head["bias"] /= towers.scale.detach().cpu()
    head["identity_from_content"] = torch.from_numpy(guesses)
    if factors is not None:
        told = {"gives": factors.gives, "takes": factors.takes, "factors_from_text": factors.from_text}
        head |= {name: torch.from_numpy(array) for name, array in told.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(head, folder / HEAD)
    history = {name: value.detach().cpu().contiguous() for name, value in towers.history.state_dict().items()}
    save_file(history, folder / HISTORY)
