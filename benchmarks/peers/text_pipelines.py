"""Search pipelines as the libraries document them: bm25s; sentence-transformers with FAISS and a CrossEncoder
("Retrieve & Re-Rank" in sentence-transformers' documentation)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from benchmarks.models.onnx_reranker import OnnxReranker
from indexing.ann.faiss_index import import_faiss
from ranking.models.cross_encoder import open_cross_encoder, prompted
from retrieval.encoders.text_encoder import open_sentence_transformer
from retrieval.errors import BadData
from retrieval.topk import Hits, Scores, Vectors

if TYPE_CHECKING:
    import torch

Predict: TypeAlias = Callable[[Sequence[tuple[str, str]]], Scores]  # pairs of a query and an item's text
Find: TypeAlias = Callable[[Sequence[str], int], Hits]  # queries and k to the best items
RERANKED = 100  # candidates, as on that page


class BuiltSearch(NamedTuple):
    """A search pipeline, its memory (10^6 bytes), the seconds that it took to build, and its settings in words."""

    find: Find
    megabytes: float
    seconds: float
    chosen: str = "as documented"


def build_bm25s(texts: Sequence[str]) -> BuiltSearch:
    """bm25s as documented, with English stop words and PyStemmer's English stemmer where that is installed."""
    import bm25s

    begun = time.perf_counter()
    stemmer, retriever = _english_stemmer(), bm25s.BM25()

    def tokenized(some: Sequence[str]) -> object:
        return bm25s.tokenize(list(some), stopwords="en", stemmer=stemmer, show_progress=False)

    try:
        retriever.index(tokenized(texts), show_progress=False)
    except ValueError as error:
        raise BadData(f"bm25s finds no words in {len(texts):,} items' texts ({error})") from error
    seconds = time.perf_counter() - begun

    def find(queries: Sequence[str], k: int) -> Hits:
        rows, scores = retriever.retrieve(tokenized(queries), k=min(k, len(texts)), show_progress=False)
        found = scores > 0
        return Hits(np.where(found, rows, -1).astype(np.int64), np.where(found, scores, -np.inf).astype(np.float32))

    size = sum(part.nbytes for part in retriever.scores.values() if isinstance(part, np.ndarray))
    chosen = "as documented" if stemmer is not None else "as documented, without PyStemmer"
    return BuiltSearch(find, size / 1e6, seconds, chosen)


def build_embeddings(texts: Sequence[str], model: str, *, device: str) -> tuple[BuiltSearch, Vectors]:
    """A SentenceTransformer with a flat FAISS index of inner products, and the vectors of the texts, float32 [n,
    dim]."""
    begun = time.perf_counter()
    faiss, encoder = import_faiss(), open_sentence_transformer(model, device=device)
    vectors: Vectors = encoder.encode_document(list(texts), normalize_embeddings=True, show_progress_bar=False)
    index = faiss.IndexFlatIP(int(vectors.shape[1]))
    index.add(vectors)
    seconds = time.perf_counter() - begun

    def find(queries: Sequence[str], k: int) -> Hits:
        vectors_of_queries = encoder.encode_query(list(queries), normalize_embeddings=True, show_progress_bar=False)
        scores, rows = index.search(vectors_of_queries, k)
        return Hits(rows, scores)

    return BuiltSearch(find, vectors.nbytes / 1e6 + weights_megabytes(encoder), seconds), vectors


def with_cross_encoder(first: BuiltSearch, texts: Sequence[str], source: str, *, device: str) -> BuiltSearch:
    """The same pipeline with its first hundred hits reranked by `CrossEncoder.predict`; `source` is a folder or an
    id."""
    begun = time.perf_counter()
    model = open_cross_encoder(source, device=device)

    def predict(pairs: Sequence[tuple[str, str]]) -> Scores:
        return np.asarray(model.predict(prompted(model, pairs), show_progress_bar=False), np.float32)

    return _with_reranking(first, texts, predict, weights_megabytes(model), time.perf_counter() - begun)


def with_onnx(first: BuiltSearch, texts: Sequence[str], source: str) -> BuiltSearch:
    """The same pipeline with its first hundred hits reranked by the int8 ONNX model, see `OnnxReranker`."""
    begun = time.perf_counter()
    model = OnnxReranker.of(source)
    return _with_reranking(first, texts, model, model.megabytes, time.perf_counter() - begun)


def weights_megabytes(model: torch.nn.Module) -> float:
    """The size of a model's weights, in 10^6 bytes."""
    return sum(part.numel() * part.element_size() for part in model.parameters()) / 1e6


def _with_reranking(
    first: BuiltSearch, texts: Sequence[str], predict: Predict, megabytes: float, seconds: float
) -> BuiltSearch:
    def find(queries: Sequence[str], k: int) -> Hits:
        found = first.find(queries, max(k, RERANKED))
        rows = found.rows.copy()
        for line, query in enumerate(queries):
            listed = rows[line, :RERANKED][rows[line, :RERANKED] >= 0]
            order = np.argsort(-predict([(query, texts[row]) for row in listed]), kind="stable")
            rows[line, : len(listed)] = listed[order]
        scores = np.where(rows >= 0, -np.arange(rows.shape[1], dtype=np.float32), np.float32(-np.inf))
        return Hits(rows, scores).head(k)

    return BuiltSearch(find, first.megabytes + megabytes, first.seconds + seconds)


def _english_stemmer() -> object | None:
    try:
        stemmer: object = import_module("Stemmer").Stemmer("english")
    except ImportError:
        return None
    return stemmer
