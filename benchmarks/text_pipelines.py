"""Search as a user would write it from the libraries' own documentation: bm25s; sentence-transformers, FAISS and a
CrossEncoder ("Retrieve & Re-Rank" of sentence-transformers' documentation)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from indexing.faiss_index import import_faiss
from ranking.cross_encoder import open_cross_encoder
from retrieval.encoder import open_sentence_transformer
from retrieval.topk import Hits, Vectors

Finds: TypeAlias = Callable[[Sequence[str], int], Hits]  # queries and k to the best items
RERANKED = 100  # candidates, as that page has it


class BuiltSearch(NamedTuple):
    """Something that searches, the memory that it holds (10^6 bytes), and the seconds that it took to build."""

    find: Finds
    megabytes: float
    seconds: float


def build_bm25s(texts: Sequence[str]) -> BuiltSearch:
    """As bm25s's own page begins, with English stop words and no stemmer."""
    import bm25s

    begun = time.perf_counter()
    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(list(texts), stopwords="en", show_progress=False), show_progress=False)
    seconds = time.perf_counter() - begun

    def find(queries: Sequence[str], k: int) -> Hits:
        tokens = bm25s.tokenize(list(queries), stopwords="en", show_progress=False)
        rows, scores = retriever.retrieve(tokens, k=min(k, len(texts)), show_progress=False)
        found = scores > 0
        return Hits(np.where(found, rows, -1).astype(np.int64), np.where(found, scores, -np.inf).astype(np.float32))

    held = sum(part.nbytes for part in retriever.scores.values() if isinstance(part, np.ndarray))
    return BuiltSearch(find, held / 1e6, seconds)


def build_embeddings(texts: Sequence[str], model: str, *, device: str) -> tuple[BuiltSearch, Vectors]:
    """A SentenceTransformer and a flat FAISS index of inner products; the vectors beside it, float32 [n, dim]."""
    begun = time.perf_counter()
    faiss, encoder = import_faiss(), open_sentence_transformer(model, device=device)
    vectors: Vectors = encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    index = faiss.IndexFlatIP(int(vectors.shape[1]))
    index.add(vectors)
    seconds = time.perf_counter() - begun

    def find(queries: Sequence[str], k: int) -> Hits:
        asked = encoder.encode(list(queries), normalize_embeddings=True, show_progress_bar=False)
        scores, rows = index.search(asked, k)
        return Hits(rows, scores)

    return BuiltSearch(find, vectors.nbytes / 1e6, seconds), vectors


def with_cross_encoder(first: BuiltSearch, texts: Sequence[str], folder: Path, *, device: str) -> BuiltSearch:
    """The same with its first hundred put in order by `CrossEncoder.predict`."""
    begun = time.perf_counter()
    model = open_cross_encoder(folder, device=device)
    seconds = first.seconds + time.perf_counter() - begun

    def find(queries: Sequence[str], k: int) -> Hits:
        found = first.find(queries, max(k, RERANKED))
        rows, scores = found.rows.copy(), found.scores.copy()
        for line, query in enumerate(queries):
            listed = rows[line, :RERANKED][rows[line, :RERANKED] >= 0]
            logits = model.predict([(query, texts[row]) for row in listed], show_progress_bar=False)
            order = np.argsort(-np.asarray(logits), kind="stable")
            rows[line, : len(listed)] = listed[order]
        scores = np.where(rows >= 0, -np.arange(rows.shape[1], dtype=np.float32), np.float32(-np.inf))
        return Hits(rows, scores).head(k)

    return BuiltSearch(find, first.megabytes, seconds)
