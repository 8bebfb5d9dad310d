"""The two towers in serving: numpy and OpenVINO, without torch once the compiled graphs are cached."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.data.timeline import HistoryBatch
from retrieval.encoders.int8_file import INT8, INT8_LAYOUT, holds_int8
from retrieval.encoders.runtime import OpenVinoModel, RuntimeName, convert, openvino_model
from retrieval.encoders.text_encoder import TextEncoder, read_json
from retrieval.errors import BadBundle, CorruptBundle, StaleArtefact
from retrieval.fingerprint import fingerprint, folder_fingerprint
from retrieval.text.rendering import rendering_fingerprint
from retrieval.topk import Vectors
from retrieval.towers.cold_start import apply_linear_map
from retrieval.towers.item_features import ItemFeatures

if TYPE_CHECKING:
    import openvino

    from retrieval.towers.sequence_model import HistoryModel

TEXT, HEAD, HISTORY, ABOUT = "text", "item_head.safetensors", "history.safetensors", "towers.json"
HISTORY_WEIGHT = 0.25  # of a history beside a query, where too few requests have both to fit it
HISTORY_INPUTS = ("vectors", "kinds", "gaps", "present")
RETRAIN = "run: shortlist train towers BUNDLE --data DATA"


@dataclass(frozen=True, kw_only=True)
class TowersConfig:
    """The description of saved towers, in `towers.json`."""

    dim: int  # content dimensions, the space that items and queries share
    text_dim: int  # dimensions of the text encoder
    rendering: str  # fingerprint of the text rendering that the towers were trained with
    features: dict[str, list[float] | list[str]] = field(default_factory=lambda: {"price_edges": [], "categories": []})
    item_ids: tuple[str, ...] = ()  # known items, in the order of their residuals, identities and biases
    kinds: tuple[str, ...] = ()  # kinds of events that the history model knows, in the order of their codes
    identity: int = 0  # dimensions of the identity vectors
    linear: int = 0  # dimensions of the item-to-item factors
    linear_decay: float = 1.0  # of the weight of a history's item for each visit after its own
    history: dict[str, float] = field(default_factory=dict)  # arguments of HistoryModel; empty: there is none
    history_weight: float = HISTORY_WEIGHT  # of the history's vector, added to the query's
    query_as_event: bool = False  # the history model reads the query as the newest event
    text_model: str = ""  # the pretrained model that the text encoder started from, and why; empty: not known

    @property
    def read_dim(self) -> int:
        """Dimensions that the history model reads of an item: content and identity."""
        return self.dim + self.identity

    @property
    def index_dim(self) -> int:
        """Dimensions of an index vector: content, identity, target factors and bias; without events content alone."""
        return self.read_dim + self.linear + (1 if self.item_ids else 0)

    @property
    def parts(self) -> dict[str, slice]:
        """The parts of an index vector that there are: content, identity, linear (item-to-item factors) and bias."""
        ends = {
            "content": self.dim,
            "identity": self.read_dim,
            "linear": self.read_dim + self.linear,
            "bias": self.index_dim,
        }
        starts = dict(zip(ends, (0, *ends.values()), strict=False))
        return {name: slice(starts[name], end) for name, end in ends.items() if end > starts[name]}


@dataclass(frozen=True)
class ItemTower:
    """Items to index vectors: content (text, price, categories, brand, residual), identity, target factors and bias."""

    config: TowersConfig
    weights: dict[str, Vectors]

    def vectors(self, text_vectors: Vectors, items: pa.Table) -> Vectors:
        """Index vectors and source factors side by side, float32 [n, index_dim + linear].

        `text_vectors` float32 [n, text_dim] are those of `items`. The first `dim` numbers of an index vector have unit
        length; the source factors are read where the item is part of a history. An item unknown to training gets its
        content from text, price and category, identity and factors predicted from its content and text, and the mean
        bias.
        """
        if not self.config.item_ids:
            return text_vectors
        features = ItemFeatures(
            price_edges=tuple(map(float, self.config.features["price_edges"])),
            categories=tuple(map(str, self.config.features["categories"])),
        )
        codes = features.category_codes(items)
        summed = text_vectors @ self.weights["project"].T + self.weights["price"][features.price_codes(items)]
        counts = np.maximum(np.diff(codes.indptr), 1)
        np.add.at(summed, codes.owners, self.weights["category"][codes.rows] / counts[codes.owners, None])
        rows = self._known_rows(items)
        known = rows >= 0
        summed[known] += self.weights["residual"][rows[known]]
        content = unit(summed)
        identity = apply_linear_map(content, self.weights["identity_from_content"])
        identity[known] = self.weights["identity"][rows[known]]
        bias = np.where(known, self.weights["bias"][rows], self.weights["bias"].mean())
        target, source = self._factors(text_vectors, rows)
        return np.column_stack([content, identity, target, bias, source]).astype(np.float32)

    def _factors(self, text_vectors: Vectors, rows: NDArray[np.int64]) -> tuple[Vectors, Vectors]:
        """Target and source factors, float32 [n, linear] each, predicted from the text where the row is -1."""
        if not self.config.linear:
            return np.empty((len(rows), 0), np.float32), np.empty((len(rows), 0), np.float32)
        source, target = np.split(apply_linear_map(text_vectors, self.weights["factors_from_text"]), 2, axis=1)
        known = rows >= 0
        target[known], source[known] = self.weights["target"][rows[known]], self.weights["source"][rows[known]]
        return target, source

    def _known_rows(self, items: pa.Table) -> NDArray[np.int64]:
        return np.fromiter(
            (self._row_of.get(key, -1) for key in items["item_id"].to_pylist()), np.int64, items.num_rows
        )

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.config.item_ids)}


@dataclass(frozen=True)
class UserTower:
    """A query, a history or both to one vector in the index's space; histories have a 1 against the item bias."""

    config: TowersConfig
    encoder: TextEncoder
    project: Vectors | None
    history: OpenVinoModel | None

    def queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors of query texts, float32 [n, index_dim]: unit length, 0 against the bias."""
        return self.project_queries(self.encoder.encode(texts, "query"))

    def project_queries(self, text_vectors: Vectors) -> Vectors:
        """Query text vectors float32 [n, text_dim] in the index's space, float32 [n, index_dim]."""
        if self.project is None:
            return text_vectors
        content = unit(text_vectors @ self.project.T)
        return self._with_bias(np.pad(content, ((0, 0), (0, self.config.identity + self.config.linear))), 0.0)

    def histories(self, batch: HistoryBatch, item_vectors: Vectors, query_vectors: Vectors | None = None) -> Vectors:
        """Vectors of histories, float32 [b, index_dim]; all zero for an empty history.

        `item_vectors` [n_items, index_dim + linear] are those of the item tower, `query_vectors` [n_queries, index_dim]
        those of past queries; events without a vector are skipped. As many of the newest events are read as the history
        model was trained with. Without a history model the result is the unit mean of the events' vectors.
        """
        has_queries = query_vectors is not None and len(query_vectors) > 0
        read = batch.newest(
            batch.present & ((batch.items >= 0) | ((batch.queries >= 0) & has_queries)),
            int(self.config.history["longest"]) if self.config.history else batch.items.shape[1],
        )
        vectors = np.zeros((*read.items.shape, self.config.read_dim), np.float32)
        of_items, of_queries = read.present & (read.items >= 0), read.present & (read.queries >= 0)
        vectors[of_items] = item_vectors[read.items[of_items], : self.config.read_dim]
        if query_vectors is not None:
            vectors[of_queries] = query_vectors[read.queries[of_queries], : self.config.read_dim]
        if self.history is None:
            out = unit(vectors.sum(axis=1))
        else:
            inputs = (vectors, read.kinds, read.gaps, read.present)
            answer = self.history.infer(dict(zip(HISTORY_INPUTS, inputs, strict=True)))
            out = np.column_stack([answer, self._history_factors(read, item_vectors)])
        known = np.asarray(read.present.any(axis=1))
        out[~known] = 0
        return self._with_bias(out, known.astype(np.float32))

    def _history_factors(self, batch: HistoryBatch, item_vectors: Vectors) -> Vectors:
        """The decayed mean of the source factors over each history, float32 [b, linear]."""
        source = item_vectors[:, item_vectors.shape[1] - self.config.linear :]
        counts = batch.recency(self.config.linear_decay)  # 0 for what is no item
        if not len(source):
            return np.zeros((len(counts), self.config.linear), np.float32)
        means: Vectors = np.matmul(counts[:, None, :], source[np.maximum(batch.items, 0)])[:, 0]
        return means

    def combine(self, queries: Vectors, histories: Vectors) -> Vectors:
        """The weighted sum of query and history vectors, scaled to unit content; an empty history changes nothing."""
        return unit(queries + self.config.history_weight * histories, self.config.dim)

    def _with_bias(self, vectors: Vectors, against: NDArray[np.float32] | float) -> Vectors:
        if not self.config.item_ids:
            return vectors
        column = np.broadcast_to(np.asarray(against, np.float32), (len(vectors),))
        return np.column_stack([vectors, column]).astype(np.float32)


@dataclass(frozen=True)
class Towers:
    """Both towers of one folder, which share a text encoder."""

    folder: Path
    config: TowersConfig
    item: ItemTower
    user: UserTower
    fingerprint: str

    @property
    def encoder(self) -> TextEncoder:
        """The text encoder that both towers share."""
        return self.user.encoder

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        runtime: RuntimeName = "openvino",
        cache: Path | None = None,
    ) -> Towers:
        """Opens a towers folder. Compiled graphs are cached under `cache`; `runtime` is that of the text encoder.

        Raises BadConfig as `TextEncoder.load` does, BadBundle where a file is missing or broken, StaleArtefact where
        the towers were trained with another text rendering.
        """
        config = read_config(folder)
        if config.rendering != rendering_fingerprint():
            raise StaleArtefact(
                f"{folder} was trained on item texts of another rendering ({config.rendering}, this is "
                f"{rendering_fingerprint()}); {RETRAIN}"
            )
        weights = read_weights(folder / HEAD) if config.item_ids else {}
        history = None
        if config.history:
            path = cache and cache / "history.xml"
            history = openvino_model(path, partial(_history_graph, folder, config))
        encoder = TextEncoder.load(folder / TEXT, runtime=runtime, device=device, precision=precision, cache=cache)
        user = UserTower(config, encoder, weights.get("project"), history)
        return cls(folder, config, ItemTower(config, weights), user, towers_fingerprint(folder))

    def encode_items(self, texts: Sequence[str], done: Callable[[int], None] | None = None) -> Vectors:
        """Text vectors of rendered items, float32 [n, text_dim]."""
        return self.encoder.encode(texts, "document", done=done)


def unit(vectors: NDArray[np.floating], dim: int | None = None) -> Vectors:
    """Rows scaled so that their first `dim` numbers (None: all) have length 1; zero rows stay zero."""
    length = np.linalg.norm(vectors[:, :dim], axis=1, keepdims=True)
    scaled: Vectors = np.divide(vectors, length, out=np.zeros_like(vectors, np.float32), where=length > 0)
    return scaled


def towers_fingerprint(folder: Path) -> str:
    """The fingerprint of towers: the weights in float, and the layout version of int8 weights if they have any.

    int8 weights themselves are left out: they are calibrated on a shop's texts and may be replaced.
    """
    own = folder_fingerprint(folder, leave_out=INT8)
    return fingerprint(own, INT8_LAYOUT) if holds_int8(folder / TEXT) else own


def write_config(folder: Path, config: TowersConfig) -> None:
    """Writes `towers.json`."""
    (folder / ABOUT).write_text(json.dumps(asdict(config), ensure_ascii=False, indent=1), "utf-8")


def read_config(folder: Path) -> TowersConfig:
    """Reads `towers.json`. Raises BadBundle where it is missing or of another version."""
    if not (folder / ABOUT).exists():
        raise BadBundle(f"{folder} has no {ABOUT}, so it is no towers folder; {RETRAIN}")
    found: dict[str, Any] = read_json(folder / ABOUT)
    try:
        tuples = {name: tuple(found[name]) for name in ("item_ids", "kinds")}
        if found["history"]:
            found["history"]["gated"]  # the entry added last: fails for an older version
        return TowersConfig(**(found | tuples | {name: int(found[name]) for name in ("identity", "linear")}))
    except (TypeError, KeyError) as error:
        raise BadBundle(f"{folder / ABOUT} is not of this version: {error}; {RETRAIN}") from error


def read_weights(path: Path) -> dict[str, Vectors]:
    """The arrays of a safetensors file. Raises BadBundle where it is missing, CorruptBundle where it is unreadable."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.exists():
        raise BadBundle(f"{path} is missing; restore it or {RETRAIN}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CorruptBundle(f"{path} cannot be read ({error}); restore it or {RETRAIN}") from error


def load_history(folder: Path, config: TowersConfig) -> HistoryModel:
    """The history model as a torch module."""
    import torch

    from retrieval.towers.sequence_model import HistoryModel

    sizes = config.history
    model = HistoryModel(
        config.dim,
        len(config.kinds),
        identity=config.identity,
        width=int(sizes["width"]),
        layers=int(sizes["layers"]),
        heads=int(sizes["heads"]),
        dropout=0.0,
        longest=int(sizes["longest"]),
        gated=bool(sizes["gated"]),
    )
    model.load_state_dict({name: torch.from_numpy(array) for name, array in read_weights(folder / HISTORY).items()})
    return model.eval()


def _history_graph(folder: Path, config: TowersConfig) -> openvino.Model:
    import torch

    class Newest(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = load_history(folder, config)

        def forward(
            self, vectors: torch.Tensor, kinds: torch.Tensor, gaps: torch.Tensor, present: torch.Tensor
        ) -> torch.Tensor:
            every: torch.Tensor = self.model(vectors, kinds, gaps, present)
            return every[:, -1]

    codes = torch.zeros(2, 4, dtype=torch.long)
    example = (torch.randn(2, 4, config.read_dim), codes, codes, torch.ones(2, 4, dtype=torch.bool))
    return convert(Newest(), HISTORY_INPUTS, example)
