"""The request that reranking is timed on: a real one of the bundle, with the candidates that it retrieves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.models.throughput import describe_lengths, repeat_to
from indexing.bundle.bundle import Bundle
from ranking.models.pair_tokens import PairTokenizer
from retrieval.encoders.runtime import RuntimeOptions
from retrieval.errors import BadBundle, BadData
from retrieval.topk import CSR, Rows
from serving.internals import (
    Batch,
    GateName,
    LiveRequests,
    ReleaseState,
    Request,
    read_canaries,
    retrieve,
    run,
    task_of,
    with_texts,
)

SAMPLED = 64  # requests, of which the one in the median_position by length is timed: an odd one decides nothing


@dataclass(frozen=True, kw_only=True)
class RerankRequest:
    """A request as a cross-encoder reads it: the text of the user or query, and the candidates' texts in retrieved
    order. `sampled` has the mean tokens per pair of every request that was sampled."""

    task: GateName
    user: str
    items: tuple[str, ...]
    sampled: tuple[float, ...]

    def facts(self, ranker: Path, sizes: Sequence[int]) -> Mapping[str, object]:
        """Facts for the results: task, tokens of its first pairs, and tokens per pair of all sampled requests."""
        median, mean = np.median(self.sampled), np.mean(self.sampled)
        sampled = f"median {median:.0f}, mean {mean:.0f} of {len(self.sampled)} sampled"
        read = {size: [(self.user, item) for item in repeat_to(self.items, size)] for size in sizes}
        tokens = {f"tokens_of_{size}_pairs": describe_lengths(ranker, pairs) for size, pairs in read.items()}
        return {"task": self.task, "candidates": len(self.items), **tokens, "tokens_of_requests": sampled}

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False), "utf-8")

    @classmethod
    def read(cls, path: Path) -> RerankRequest:
        """Reads a file of `write`. Raises BadData for any other file."""
        try:
            fields = json.loads(path.read_text("utf-8"))
            return cls(**fields | {name: tuple(fields[name]) for name in ("items", "sampled")})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadData(f"{path}: cannot be read as a request ({error}); leave --request out") from error


def sample_request(
    bundle: Bundle, ranker: Path, *, size: int = 1_000, device: str = "auto", seed: int = 0
) -> RerankRequest:
    """The request of median tokens per pair among requests sampled from the live release.

    A recommendation where the release knows users, else a search for a past query, or for a query of the canaries where
    there are none. Its candidates are the engine's shortlist, then the towers' next items, `size` in all. `ranker` is
    the folder of the cross-encoder whose tokenizer counts. Raises BadBundle where the release has no users and no
    queries.
    """
    release = bundle.current()
    options = RuntimeOptions(device=device)
    state = ReleaseState.of_release(bundle, replace(release, ranker=None), options).updated()
    stored = [] if release.canaries is None else read_canaries(bundle.path_of("canaries", release.canaries))
    users, rng = state.user_store.user_ids, np.random.default_rng(seed)
    queries = state.user_store.query_texts or tuple(canary.query for canary in stored if canary.query)
    recommended = (Request(user_id=users[at].as_py()) for at in rng.permutation(len(users)).tolist())
    searched = (Request(query=queries[at]) for at in rng.permutation(len(queries)).tolist())
    sampled = list(islice(_rerankable(state, recommended), SAMPLED))
    sampled = sampled or list(islice(_rerankable(state, searched), SAMPLED))
    if not sampled:
        raise BadBundle(
            f"{bundle.path}: release {release.id} knows no users and no queries to rerank for; "
            f"run: shortlist index build {bundle.path} --data DATA"
        )
    tokens = mean_tokens(PairTokenizer.load(ranker), state, sampled)
    chosen = sampled[median_position(tokens)]
    items = state.item_texts(candidates(state, chosen, size))
    task: GateName = "search" if chosen.queries.corrected[0] else "recommend"
    return RerankRequest(task=task, user=text_of(chosen), items=tuple(items), sampled=tuple(tokens.tolist()))


def candidates(state: ReleaseState, sampled: Batch, n: int) -> Rows:
    """The first n candidates of a request: its shortlist, then what the towers find next; fewer where no more may be
    answered."""
    found = sampled.candidates.hits.rows[0]
    found = found[found >= 0]
    removed = np.empty(0, np.int64) if sampled.exclude is None else sampled.exclude.rows
    others = CSR.from_lists([np.union1d(found, removed)])
    more = state.retriever.by_towers(sampled.vectors, min(n, state.version.size), others).rows[0]
    return np.concatenate([found, more[more >= 0]])[:n]


def mean_tokens(tokenizer: PairTokenizer, state: ReleaseState, sampled: Sequence[Batch]) -> NDArray[np.float64]:
    """The mean tokens of the pairs of each request's shortlist, float64 [n]."""
    found = [one.candidates.hits.rows[0] for one in sampled]
    lists = CSR.from_lists([rows[rows >= 0] for rows in found])
    rows = np.unique(lists.rows)
    items = dict(zip(rows.tolist(), state.item_texts(rows), strict=True))
    pairs = tokenizer.pairs([text_of(one) for one in sampled], items, lists.owners, lists.rows)
    return np.bincount(lists.owners, tokenizer.lengths(pairs)) / np.diff(lists.indptr)


def text_of(sampled: Batch) -> str:
    """The text of the user or query of a batch of one request, for the cross-encoder."""
    (text,) = sampled.ranker_texts or ("",)
    return text


def median_position(values: NDArray[np.float64]) -> int:
    """The position of the median; of an even number of values, of the lower one.

    >>> median_position(np.array([9.0, 1.0, 5.0, 7.0]))
    2
    """
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def _rerankable(state: ReleaseState, requests: Iterable[Request]) -> Iterator[Batch]:
    """The requests, retrieved one by one, that have a text and candidates."""
    for request in requests:
        batch = Batch(requests=LiveRequests([request]), task=task_of(state, request))
        batch = with_texts(state, run(state, batch, until=retrieve))
        if text_of(batch) and (batch.candidates.hits.rows >= 0).any():
            yield batch
