"""Late interaction at serving: token vectors of items are stored in the index, those of user texts are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from indexing.version.hash_index import HashIndex, hash_keys
from indexing.version.index_version import IndexVersion
from ranking.models.cross_encoder import Activation, scorer_fingerprint
from ranking.models.item_tokens import ItemTokens, StoredTokens, stored_lists
from ranking.models.late_layout import INT8_SCALE, SIMILARITY_SCALE, text_tokens
from ranking.models.pair_tokens import PairTokenizer, Side, TokenisedPairs, TokenLists, TokensByRow
from ranking.models.placement import Placement, resolve_placement
from retrieval.encoders.batching import batches_for, run_each
from retrieval.encoders.runtime import (
    MULTIPLE,
    TOKEN_INPUTS,
    Runner,
    RuntimeName,
    TorchRunner,
    convert,
    openvino_model,
    resolve_precision,
    token_example,
)
from retrieval.errors import BadBundle
from retrieval.fingerprint import fingerprint
from retrieval.text.rendering import item_texts, rendering_fingerprint
from retrieval.topk import Hits, Rows, Scores

if TYPE_CHECKING:
    import openvino

COLUMN = "late_vectors"
Tokens: TypeAlias = NDArray[np.float32]  # [n_tokens, width]
ItemVectors: TypeAlias = NDArray[np.int8]  # [n_tokens, width]: unit vectors times INT8_SCALE, rounded


class QueryTokens(NamedTuple):
    """The tokens of a user's text."""

    vectors: Tokens  # unit length
    weights: NDArray[np.float32]  # [n_tokens], summing to 1


class Head(NamedTuple):
    """The weights of a LateHead's two layers, to score without torch."""

    mix: NDArray[np.float32]  # [hidden, 5]
    mix_bias: NDArray[np.float32]
    score: NDArray[np.float32]  # [1, hidden]
    score_bias: NDArray[np.float32]

    @classmethod
    def load(cls, folder: Path) -> Head:
        """Read them from a model's folder; raises BadBundle where it holds no model of late interaction."""
        from safetensors import safe_open

        names = [f"classifier.{part}" for part in ("mix.weight", "mix.bias", "score.weight", "score.bias")]
        try:
            with safe_open(str(folder / "model.safetensors"), framework="numpy") as weights:
                return cls(*(weights.get_tensor(name) for name in names))
        except Exception as error:  # safetensors raises an error of its own, and OSError
            raise BadBundle(f"{folder} is no model of late interaction ({error}); train the ranker again") from error

    def scores(self, query: QueryTokens, items: Sequence[ItemVectors]) -> Scores:
        """The logit of each of n items, float32 [n]; computes what `LateHead.forward` does."""
        if not items:
            return np.empty(0, np.float32)
        sizes = np.fromiter(map(len, items), np.int64, len(items))
        starts = np.cumsum(sizes) - sizes
        similarity = (np.concatenate(items).astype(np.float32) / INT8_SCALE) @ query.vectors.T
        best = np.maximum.reduceat(similarity, starts, axis=0)
        back = np.add.reduceat(similarity.max(axis=1), starts) / sizes
        whole = similarity[starts + sizes - 1, 0]
        features = np.stack([best @ query.weights, best.mean(axis=1), best.min(axis=1), back, whole], axis=1)
        hidden = np.maximum(SIMILARITY_SCALE * features @ self.mix.T + self.mix_bias, 0)
        logits: Scores = (hidden @ self.score.T + self.score_bias)[:, 0].astype(np.float32)
        return logits


@dataclass(frozen=True)
class LateScorer:
    """A ShortlistScorer of late interaction. Safe to call from many threads.

    `stored` holds the token vectors of an index version's items as built; those of items that an update changed are
    computed by the same model when they are scored.
    """

    tokenizer: PairTokenizer
    runner: Runner
    head: Head
    max_tokens: int  # of one text, special ones included
    fingerprint: str
    placement: Placement
    stored: StoredTokens | None = None
    activation: Activation = "sigmoid"

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        runtime: RuntimeName = "openvino",
        device: str = "auto",
        precision: str = "auto",
        cache: Path | None = None,
    ) -> LateScorer:
        """Open a model of late interaction; see `CrossEncoderScorer.load` for what is raised.

        There is no int8 of it: precision int8 is served as auto.
        """
        place = resolve_placement(device, "auto" if precision == "int8" else precision, runtime)
        kind = resolve_precision(place.precision, place.device)
        runner: Runner
        if place.device == "cuda" or place.runtime == "torch":
            from ranking.models.late_network import TokenVectors, open_late_interaction

            runner = TorchRunner(
                TokenVectors(open_late_interaction(folder)).eval().to(place.device), place.device, kind
            )
        else:
            runner = openvino_model(cache and cache / "late.xml", partial(_openvino_graph, folder), kind)
        tokenizer = PairTokenizer.load(folder)
        return cls(tokenizer, runner, Head.load(folder), text_tokens(folder), scorer_fingerprint(folder), place)

    def with_stored(self, version: IndexVersion) -> LateScorer:
        """The same scorer, reading the token vectors that an index version stores of its items."""
        return replace(self, stored=stored_vectors(version, self))

    def score_shortlists(
        self,
        user_texts: Sequence[str],
        item_tokens: TokensByRow,
        hits: Hits,
        depth: int,
        *,
        done: Callable[[int], None] | None = None,
    ) -> Scores:
        """See `CrossEncoderScorer.score_shortlists`."""
        rows = hits.rows[:, :depth]
        scores = np.full(rows.shape, np.nan, np.float32)
        distinct = np.unique(rows[rows >= 0])
        queries = self.query_tokens(self.tokenizer.encode(list(user_texts), "user"))
        items = self._items(distinct, item_tokens, queries[0].vectors.shape[1]) if queries else []
        for line, query in enumerate(queries):
            place = np.flatnonzero(rows[line] >= 0)
            at = np.searchsorted(distinct, rows[line, place])
            scores[line, place] = self.head.scores(query, [items[number] for number in at.tolist()])
            if done is not None:
                done(len(place))
        return scores

    def score_tokenised(self, pairs: TokenisedPairs, *, done: Callable[[int], None] | None = None) -> Scores:
        """The logit of each pair, float32 [n]."""
        scores = np.empty(len(pairs.user), np.float32)
        queries, items = self.query_tokens(pairs.users), self.item_vectors(pairs.items)
        order = np.argsort(pairs.user, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(pairs.user[order])) + 1) if len(order) else []:
            wanted = [items[number] for number in pairs.item[part].tolist()]
            scores[part] = self.head.scores(queries[int(pairs.user[part[0]])], wanted)
            if done is not None:
                done(len(part))
        return scores

    def query_tokens(self, texts: TokenLists) -> list[QueryTokens]:
        """The vectors and weights of the tokens of users' texts."""
        found = []
        for output in self._token_outputs(texts, "user"):
            weights = np.exp(output[:, -1] - output[:, -1].max())
            found.append(QueryTokens(output[:, :-1], weights / weights.sum()))
        return found

    def item_vectors(self, texts: TokenLists) -> list[ItemVectors]:
        """The token vectors of items' texts, as an index stores them."""
        return [np.rint(output[:, :-1] * INT8_SCALE).astype(np.int8) for output in self._token_outputs(texts, "item")]

    def _items(self, rows: Rows, tokens: TokensByRow, width: int) -> list[ItemVectors]:
        """The token vectors of rows int64 [n]: those stored where they are valid, else computed from `tokens`."""
        if not len(rows):
            return []
        if self.stored is None:
            return self.item_vectors(tokens(rows))
        holds = tokens.holds if isinstance(tokens, ItemTokens) else None
        held = np.ones(len(rows), bool) if holds is None else holds(rows)
        kept = iter(self.stored.at(rows[held]))
        made = iter([] if held.all() else self.item_vectors(tokens(rows[~held])))
        return [np.asarray(next(kept)).reshape(-1, width) if known else next(made) for known in held.tolist()]

    def _token_outputs(self, texts: TokenLists, side: Side) -> list[Tokens]:
        """The network's output for each text: token vectors, then a weight logit, float32 [n_tokens, width + 1]."""
        alone = [self.tokenizer.alone(ids, side, self.max_tokens) for ids in texts.split()]
        lengths = np.fromiter(map(len, alone), np.int64, len(alone))
        found: list[Tokens] = [np.empty((0, 0), np.float32)] * len(alone)

        def padded(batch: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
            size = -(-int(lengths[batch].max()) // MULTIPLE) * MULTIPLE
            ids = np.full((len(batch), size), self.tokenizer.pad_id, np.int64)
            real = np.arange(size) < lengths[batch][:, None]
            ids[real] = np.concatenate([alone[at] for at in batch.tolist()])
            return ids, real.astype(np.int64), np.full_like(ids, side == "item")

        batches = batches_for(lengths, self.runner) if len(alone) else []
        for batch, outputs in run_each(self.runner, batches, padded):
            for at, rows in zip(batch.tolist(), outputs, strict=True):
                found[at] = rows[: lengths[at]]
        return found


@dataclass(frozen=True)
class LateColumn:
    """The item column of token vectors: int8 lists, an item's tokens one after the other.

    Vectors of texts that the index version `before` holds as built are copied from its own column, if that is of this
    model and undamaged; others are computed.
    """

    scorer: LateScorer
    before: IndexVersion | None = None
    name: str = COLUMN

    @property
    def fingerprint(self) -> str:
        """Changes with the model's weights and the rendering of texts."""
        return late_fingerprint(self.scorer)

    def compute(self, items: pa.Table, start: int, stop: int) -> pa.Array:
        """The vectors of rows start to stop, a list array [stop - start]."""
        texts = item_texts(items.slice(start, stop - start))
        rows = np.full(len(texts), -1) if self._known is None else self._known.find(hash_keys(texts))
        new = np.flatnonzero(rows < 0)
        tokens = self.scorer.tokenizer.encode([texts[at] for at in new.tolist()], "item")
        made = iter(self.scorer.item_vectors(tokens))
        kept = iter([] if self._stored is None else self._stored.at(rows[rows >= 0]))
        found = [np.asarray(next(kept if row >= 0 else made)).reshape(-1) for row in rows.tolist()]
        ends = np.concatenate(([0], np.cumsum([one.size for one in found])))
        values = np.concatenate(found) if found else np.empty(0, np.int8)
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values))

    @cached_property
    def _stored(self) -> StoredTokens | None:
        if self.before is None or not self.before.has_whole_column(COLUMN):
            return None
        return stored_vectors(self.before, self.scorer)

    @cached_property
    def _known(self) -> HashIndex | None:
        return None if self.before is None or self._stored is None else HashIndex.build(self.before.text_hashes)


def late_fingerprint(scorer: LateScorer) -> str:
    """The fingerprint of the column of this model's token vectors."""
    return fingerprint(scorer.fingerprint, rendering_fingerprint())


def stored_vectors(version: IndexVersion, scorer: LateScorer) -> StoredTokens | None:
    """The column of this model's token vectors in an index version; None where there is none, or of another model."""
    return stored_lists(version, COLUMN, late_fingerprint(scorer))


def _openvino_graph(folder: Path) -> openvino.Model:
    from ranking.models.late_network import TokenVectors, open_late_interaction

    return convert(TokenVectors(open_late_interaction(folder)), TOKEN_INPUTS, token_example())
