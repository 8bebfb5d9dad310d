"""Training of both towers from a data set: first the text encoder, then the history model over its vectors."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import save_file

from retrieval.data.dataset import DataSet
from retrieval.encoders.free_cores import free_cores
from retrieval.encoders.int8_calibration import calibrate_encoder
from retrieval.encoders.runtime import pick_device
from retrieval.encoders.text_encoder import NO_INT8, TextEncoder
from retrieval.progress import ProgressMeter
from retrieval.settings import Budget, HistoryConfig, RetrievalConfig
from retrieval.text.rendering import ItemTexts, item_texts, rendering_fingerprint
from retrieval.text.text_model import text_model_for, with_text_model
from retrieval.topk import Vectors
from retrieval.towers.cold_start import apply_linear_map, fit_linear_map
from retrieval.towers.item_features import ItemFeatures
from retrieval.towers.sequence_model import HistoryModel, ItemHead
from retrieval.towers.serving import HEAD, HISTORY, HISTORY_WEIGHT, TEXT, TowersConfig, write_config
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
from retrieval.training.text_pair_sources import TowerData as TowerData
from retrieval.training.text_pair_sources import event_query_pairs, judged_pairs
from retrieval.training.text_pairs import TextPairs
from retrieval.training.text_part import TextData, TextTraining
from retrieval.training.validation import IDENTITY_WEIGHTS, QueryHistoryMix, Validation
from retrieval.training.windows import Windows, target_weights

CHECKPOINT = "history.safetensors"
BUDGET_SCALE: dict[Budget, float] = {"quick": 0.25, "default": 1.0, "long": 3.0}
HISTORY_POSITIONS = 1_600_000  # positions that the history model reads in all, see `history_epochs`
INT8_ITEMS = 10_000  # of a catalogue that takes so long to embed that int8 is calibrated unasked
MIN_WINDOWS = 20  # histories below which no history model is trained


@dataclass(frozen=True)
class TextPart:
    """A text encoder with its folder, and its vectors of all items, float32 [n_items, dim]."""

    folder: Path
    encoder: TextEncoder
    vectors: Vectors


@dataclass(frozen=True)
class TrainedTowers:
    """The result of a training: the towers' folder, the items' text vectors in row order, and validation figures."""

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
    """Trains both towers and writes them to `folder`.

    `work` holds the checkpoints from which an interrupted run resumes. `text` is a trained text encoder to use as it
    is; without it one is trained. `teacher`, a cross-encoder that scores (query text, item text) pairs, float32 [n],
    filters the text encoder's hard negatives. `rounds` multiplies the budget's epochs over the histories. `say` gets
    one line per part before its training begins: what is trained, and on how many examples.

    Raises BadConfig where the settings do not fit the data set.
    """
    chosen = text_model_for(config.text.model, source.data.language)
    config = with_text_model(config, chosen)
    training = _Training(source, config, budget, rounds, pick_device(device), work, say, teacher)
    figures: dict[str, float | None] = {}
    if text is None:
        say(f"text model: {chosen}")
        with free_cores("text encoder", training.device, say):
            figures |= training.text_part(folder / TEXT)
            if config.precision == "int8" or source.data.n_items >= INT8_ITEMS:
                calibrate_encoder(folder / TEXT, ItemTexts(source.data.items), work=work / "int8")
        text = embed_catalogue(source.data, folder / TEXT, config.precision, training.device)
        if config.precision == "int8" and text.encoder.documents is None:
            say(NO_INT8)
    else:
        shutil.copytree(text.folder, folder / TEXT, dirs_exist_ok=True)
    dim = text.vectors.shape[1]
    about = TowersConfig(dim=dim, text_dim=dim, rendering=rendering_fingerprint())
    if training.windows is not None and len(training.windows.user) >= MIN_WINDOWS:
        about, figures["history_recall@20"] = training.history_part(training.windows, text, folder)
    write_config(folder, replace(about, text_model=str(chosen)))
    training.remove_checkpoints()
    return TrainedTowers(folder, text.vectors, {name: value for name, value in figures.items() if value is not None})


def embed_catalogue(data: DataSet, folder: Path, precision: str, device: str) -> TextPart:
    """Loads the text encoder in `folder` and embeds all items with it, showing progress."""
    encoder = TextEncoder.load(folder, device=device, precision=precision)
    meter = ProgressMeter(data.n_items, "embedding items", unit="items")
    vectors = encoder.encode(item_texts(data.items), "document", done=meter.advance)
    meter.close()
    return TextPart(folder, encoder, vectors)


@dataclass(frozen=True)
class _Training:
    """One training run of both parts."""

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
        """The training windows of the histories; None without events."""
        events, split = self.source.data.events, self.source.events
        if events is None or split is None:
            return None
        counts = target_weights(events, split, self.config.history.target_weights)
        return Windows.build(events, self.source.train, counts, self.config.history.longest)

    def text_part(self, folder: Path) -> dict[str, float]:
        """Trains the text encoder into `folder`, or takes over what an interrupted run had finished; its figures."""
        data = TextData.of(self.source, self.windows, BUDGET_SCALE[self.budget], self.config)
        items = item_texts(self.source.data.items)
        training = TextTraining(data, items, self.config, self.work / "text", self.device, self.say, self.teacher)
        return training.run(folder)

    def history_part(self, windows: Windows, text: TextPart, folder: Path) -> tuple[TowersConfig, float | None]:
        """Trains item head and history model into `folder`; returns their description and validation recall@20."""
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
        self.say(f"history model: {len(windows.user):,} histories, {positions:,} positions, {epochs} epochs at most")
        validate = self._validation(catalogue, pairs)
        training = HistoryTraining(
            config, windows, catalogue, towers, pairs, validate, self.device, self.config.seed,
            self.work / CHECKPOINT,
        )  # fmt: skip
        with free_cores("history model", self.device, self.say):
            best = training.run(epochs)
        identity_map, factors, mix = _init_cold_items(towers, catalogue), None, QueryHistoryMix(HISTORY_WEIGHT, False)
        if best is None or validate is None:
            default = IDENTITY_WEIGHTS[1] if config.identity_weight is None else config.identity_weight
            towers.set_identity_weight(default)
        else:
            with torch.inference_mode():
                best = validate(towers)
            if config.linear:
                factors, best = self._linear(windows, text.vectors, catalogue, towers, validate)
            mix = validate.fit_query_history_mix(towers, factors) or mix
        _save_history(folder, towers, identity_map, factors)
        about = TowersConfig(
            dim=len(towers.head.project),
            text_dim=text.vectors.shape[1],
            rendering=rendering_fingerprint(),
            features={"price_edges": list(features.price_edges), "categories": list(features.categories)},
            item_ids=tuple(data.item_ids),
            kinds=windows.timeline.kinds,
            identity=config.identity,
            linear=0 if factors is None else factors.source.shape[1],
            linear_decay=DECAY,
            history_weight=mix.weight,
            query_as_event=mix.query_as_event,
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
        """Item-to-item factors scaled to their best weight, None where that is 0; and the validation recall@20."""
        config = self.config.history
        n_requests = len(windows.request_user)
        self.say(f"item-to-item model: {n_requests:,} requests, {len(text):,} items, {config.linear} dimensions")
        factors = fit_factors(
            windows, text, catalogue.category, rank=config.linear, longest=config.longest, device=self.device,
            seed=self.config.seed,
        )  # fmt: skip
        weight, best = validate.fit_linear_weight(towers, factors)
        self.say(f"item-to-item model: weight {weight:g}, recall@20 {best:.4f}")
        return (factors.scaled(weight / float(towers.scale.detach())) if weight else None), best

    def remove_checkpoints(self) -> None:
        """Removes the checkpoints of the finished run."""
        for part in ("text", "int8"):
            shutil.rmtree(self.work / part, ignore_errors=True)
        (self.work / CHECKPOINT).unlink(missing_ok=True)


def new_towers(
    vectors: Vectors, features: ItemFeatures, windows: Windows, config: HistoryConfig, *, has_queries: bool, seed: int
) -> HistoryTowers:
    """Untrained modules, initialised from the seed; the projection starts as the text vectors' principal directions.

    Residuals are off by default where there are queries: they move an item away from its text, towards the shoppers who
    buy it, which helps histories to find it and hinders queries, which read the text alone.
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


def history_epochs(positions: int, budget: Budget) -> int:
    """Epochs over the histories before scaling by the budget: 20 on small data, down to 4 as it grows."""
    return max(1, round(min(20.0, max(4.0, HISTORY_POSITIONS / max(1, positions))) * BUDGET_SCALE[budget]))


def _query_pairs(source: TowerData, encoder: TextEncoder) -> QueryPairs:
    """Vectors of all queries in events, then of all judged queries, with the training pairs of both."""
    data = source.data
    assert data.events is not None
    texts, parts = list(data.events.query_texts), [event_query_pairs(data, source.train)]
    if source.judgements is not None and data.queries is not None:
        parts.append(judged_pairs(data, source.judgements.folds["train"]))
        texts += data.queries.texts
    pairs = TextPairs.join(parts)
    return QueryPairs(encoder.encode(texts, "query"), pairs.owner, pairs.item, pairs.known)


def _init_cold_items(towers: HistoryTowers, catalogue: Catalogue) -> Vectors:
    """Resets items that were never a target to what an unknown item would get; returns the content-to-identity map.

    Such items learned their residual, identity and bias as negatives alone, which reflects how long they were on sale
    rather than their quality. They get no residual, the mean bias, and an identity predicted from their content. The
    map is float32 [dim + 1, identity], see `retrieval.towers.cold_start`.
    """
    is_target, head = catalogue.frequency > 0, towers.head
    rows = torch.arange(len(catalogue.text), device=catalogue.text.device)
    with torch.no_grad():
        head.residual.mul_(is_target[:, None])
        head.bias[~is_target] = head.bias[is_target].mean()
        content = catalogue.read(head, rows)[:, : towers.history.dim].float().cpu().numpy()
        known = is_target.cpu().numpy()
        fitted = fit_linear_map(content[known], head.identity[is_target].cpu().numpy())
        head.identity[~is_target] = torch.from_numpy(apply_linear_map(content[~known], fitted)).to(head.identity)
    return fitted


def _save_history(folder: Path, towers: HistoryTowers, identity_map: Vectors, factors: ItemFactors | None) -> None:
    """Writes the weights as serving reads them: the bias divided by the scale, so that it adds to an inner product."""
    head = {name: value.detach().cpu().contiguous().clone() for name, value in towers.head.state_dict().items()}
    head["bias"] /= towers.scale.detach().cpu()
    head["identity_from_content"] = torch.from_numpy(identity_map)
    if factors is not None:
        arrays = {"source": factors.source, "target": factors.target, "factors_from_text": factors.from_text}
        head |= {name: torch.from_numpy(array) for name, array in arrays.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(head, folder / HEAD)
    history = {name: value.detach().cpu().contiguous() for name, value in towers.history.state_dict().items()}
    save_file(history, folder / HISTORY)
