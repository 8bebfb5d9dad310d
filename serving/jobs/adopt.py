"""A bundle of existing models: a sentence-transformers encoder, and perhaps a cross-encoder and item vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexing.bundle.atomic_files import writing_to
from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from ranking.models.cross_encoder import adopt_cross_encoder
from ranking.strategies import strategy_named
from retrieval.encoders.runtime import RuntimeOptions
from retrieval.encoders.text_encoder import TextEncoder, open_sentence_transformer
from retrieval.errors import BadBundle, BadConfig, BadData
from retrieval.text.rendering import ItemTexts, rendering_fingerprint, user_text
from retrieval.topk import Vectors
from retrieval.towers.serving import TEXT, TowersConfig, unit, write_config
from serving.answering.release_settings import with_settings
from serving.answering.release_state import ReleaseState
from serving.answering.rerank_steps import planned_steps
from serving.evaluation.gate_report import ADOPTED
from serving.fitting.fit_fusion import fit_search
from serving.fitting.train_ranker import serves_int8
from serving.jobs.job_log import JobLog
from serving.jobs.run import Pipeline
from serving.settings import RankConfig
from serving.shop import Shop

PAIRS_PER_ITEM = 4  # that a cross-encoder is calibrated with, in a small catalogue
TOLERANCE = 1e-4  # between our vectors and the library's
PROBES = ("red mug", "", "Acme Mug | Kitchen | price 5 to 10", "drill " * 400)


@dataclass(frozen=True)
class Adoption:
    """The models: folders or model ids of an encoder and a cross-encoder, and a parquet file of item_id and vector."""

    encoder: str
    ranker: str | None = None
    vectors: Path | None = None

    def publish(self, pipeline: Pipeline) -> Release:
        """Publish a release of them over the pipeline's data set; nothing is trained. A search reads the words of items
        beside their vectors, both with the same weight.

        An adopted ranker reranks without a gate. Raises BadBundle for a model whose own scores cannot be reproduced,
        BadData for vectors that do not fit the items, BadConfig for a strategy of reranking that needs a second model.
        """
        strategy = pipeline.config.ranking.strategy
        if self.ranker is not None and strategy_named(strategy).distilled is not None:
            raise BadConfig(
                f"ranking.strategy={strategy} needs a second model, which is distilled where a ranker is trained; "
                "adopt with ranking.strategy=full, or train one with: shortlist train ranker BUNDLE --data DATA"
            )
        with TemporaryDirectory() as scratch, pipeline.writing(catalogue_alone=True) as (shop, bundle):
            draft = self._draft(pipeline, shop, bundle, Path(scratch))
            return bundle.publish(draft)

    def _draft(self, pipeline: Pipeline, shop: Shop, bundle: Bundle, scratch: Path) -> Release:
        from ranking.models.int8_calibration import FEW, PAIRS, calibrate_int8
        from retrieval.encoders.int8_calibration import calibrate_encoder

        with writing_to(scratch):
            dim = adopt_encoder(self.encoder, scratch / "towers")
            if self.vectors is None and pipeline.config.retrieval.precision == "int8":
                calibrate_encoder(
                    scratch / "towers" / TEXT, ItemTexts(shop.data.items), work=_work(pipeline, shop, "encoder")
                )
            if self.ranker is not None:
                adopt_cross_encoder(self.ranker, scratch / "ranker")
                if serves_int8(pipeline.config.ranking):
                    n = min(PAIRS, max(FEW, PAIRS_PER_ITEM * shop.data.n_items))
                    pairs = own_pairs(shop, n, pipeline.config.ranking)
                    calibrate_int8(scratch / "ranker", pairs, work=_work(pipeline, shop, "ranker"), say=pipeline.say)
        given = None if self.vectors is None else read_vectors(self.vectors, shop.data.item_ids, dim)
        assembly = pipeline.assembly(bundle)
        towers = assembly.add_towers(scratch / "towers")
        steps = planned_steps(pipeline.config.ranking)
        ranker = None if self.ranker is None else assembly.add_ranker(scratch / "ranker", steps)
        lookup = None if given is None else looked_up_by_id(shop.data.item_ids, given)
        with JobLog(now=pipeline.now) as log:
            built = assembly.add_index(shop, towers, item_vectors=lookup, ranker=ranker, log=log)
        pipeline.say(built.line())
        draft = assembly.draft(shop, towers, built, f"adopt {self.encoder}")
        state = ReleaseState.of_release(bundle, draft, RuntimeOptions(device=pipeline.device))
        draft = with_settings(draft, fusion={"search": fit_search(state, shop).as_json()})
        gates = {} if ranker is None else ADOPTED
        return assembly.named(
            with_settings(
                replace(draft, ranker=ranker, gates=gates),
                rerank=steps,
                adopted=True,
                item_vectors="made" if given is None else "given",
            )
        )


def _work(pipeline: Pipeline, shop: Shop, model: str) -> Path:
    """Where an interrupted calibration goes on."""
    return pipeline.work_on(shop).checkpoints(f"adopted {model}")


def own_pairs(shop: Shop, n: int, config: RankConfig) -> list[tuple[str, str]]:
    """`n` pairs (user text, item text) of a shop's own texts to calibrate with: of queries, where there are any, and of
    shoppers of as many items as the settings read. In every other pair of a shopper the item is one of theirs, so that
    matches occur, too."""
    data, random = shop.data, np.random.default_rng(0)
    names, items = data.items["title"], ItemTexts(data.items)
    taken = min(shop.target_events, default="")  # as given items are read
    asked = [] if not data.queries else [data.queries.texts[at] for at in random.integers(0, len(data.queries), n)]
    pairs = []
    for number, rows in enumerate(random.integers(0, data.n_items, (n, config.titles + 1)).tolist()):
        if asked and number % 2:
            pairs.append((user_text([], asked[number], kinds=[] if config.field_markers else None), items[rows[0]]))
        else:
            titles = [names[row].as_py() for row in rows[: config.titles]]
            item = items[rows[0] if number % 4 < 2 else rows[config.titles]]
            kinds = [taken] * len(titles) if config.field_markers else None
            pairs.append((user_text(titles, limit=config.titles, kinds=kinds), item))
    return pairs


def adopt_encoder(source: str, folder: Path) -> int:
    """Write a towers folder around a SentenceTransformer (a folder or a model id); returns its dimension.

    Raises BadBundle where our vectors differ from the library's by more than 1e-4: a model that treats queries
    and documents differently by more than a prompt.
    """
    model = open_sentence_transformer(source)
    model.save(str(folder / TEXT), create_model_card=False)
    ours = TextEncoder.load(folder / TEXT, runtime="torch", device="cpu", precision="fp32")
    for side, encode in (("query", model.encode_query), ("document", model.encode_document)):
        wanted = encode(list(PROBES), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
        vectors = ours.encode(PROBES, "query" if side == "query" else "document")
        difference = float(np.abs(np.asarray(wanted, np.float32) - vectors).max())
        if not difference <= TOLERANCE:
            raise BadBundle(
                f"{source}: our {side} vectors differ from SentenceTransformer's by {difference:.2g}; adopt a model of "
                "one transformer for queries and documents, whose tokenizer is a fast one"
            )
    dim = int(vectors.shape[1])
    write_config(folder, TowersConfig(dim=dim, text_dim=dim, rendering=rendering_fingerprint()))
    return dim


def read_vectors(path: Path, item_ids: Sequence[str], dim: int) -> Vectors:
    """Unit vectors of the items in their order, float32 [n_items, dim], from a parquet file of item_id and vector.

    Raises BadData, naming the first item, where items are missing, unknown or named twice, or where a vector has
    another dimension than `dim`, is null, zero or not finite.
    """
    ids, column = _columns(path)
    row_of = {item_id: row for row, item_id in enumerate(ids)}
    known = set(item_ids)
    _refuse(path, "items without a vector", [item for item in item_ids if item not in row_of])
    _refuse(path, "items that items.parquet lacks", [item for item in ids if item not in known])
    _refuse(path, "repeated items", [item for row, item in enumerate(ids) if row_of[item] != row])
    sizes = column.value_lengths().fill_null(-1).to_numpy(zero_copy_only=False)
    others = [f"{ids[row]} with {max(0, sizes[row])}" for row in np.flatnonzero(sizes != dim).tolist()]
    _refuse(path, f"vectors of other than the encoder's {dim} numbers", others)
    flat = column.flatten().cast(pa.float32()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(ids), dim)
    _refuse(path, "vectors with null, nan or infinity", _named(ids, ~np.isfinite(vectors).all(axis=1)))
    _refuse(path, "vectors of length 0", _named(ids, ~vectors.any(axis=1)))
    return unit(vectors[[row_of[item] for item in item_ids]])


def looked_up_by_id(item_ids: Sequence[str], vectors: Vectors) -> Callable[[Vectors, pa.Table], Vectors]:
    """Looks vectors up by item id."""
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    return lambda _, items: vectors[[row_of[item] for item in items["item_id"].to_pylist()]]


def _columns(path: Path) -> tuple[list[str], pa.ListArray]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise BadData(f"{path}: cannot be read as parquet ({reason}); write item_id and vector to it") from error
    for name in ("item_id", "vector"):
        if name not in table.column_names:
            raise BadData(f"{path}: has no column {name}; it holds {', '.join(table.column_names)}")
    kind = table.schema.field("vector").type
    if not _is_list_of_numbers(kind):
        raise BadData(f"{path}: column vector is {kind}; write it as list<float>")
    ids = table["item_id"].cast(pa.string())
    if ids.null_count:
        raise BadData(
            f"{path}: {ids.null_count:,} of {table.num_rows:,} item ids are null; give every vector an item id"
        )
    vector = table["vector"].cast(pa.list_(kind.value_type)).combine_chunks()
    return ids.to_pylist(), vector


def _is_list_of_numbers(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in lists) and pa.types.is_floating(kind.value_type)


def _named(ids: Sequence[str], wrong: np.ndarray) -> list[str]:
    return [ids[row] for row in np.flatnonzero(wrong).tolist()]


def _refuse(path: Path, what: str, found: Sequence[str]) -> None:
    if found:
        raise BadData(f"{path}: {len(found):,} {what} (first: {found[0]}); repair the file and adopt again")
