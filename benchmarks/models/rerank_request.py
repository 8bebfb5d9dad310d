"""The request that reranking is timed on: a real one of the bundle, with the candidates that it retrieves."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.models.throughput import describe_lengths, repeat_to
from indexing.bundle.bundle import Bundle
from ranking.models.pair_tokens import PairTokenizer
from retrieval.errors import BadBundle, BadData
from retrieval.topk import CSR, Rows
from serving.answering.release_state import ReleaseState
from serving.answering.retriever import TaskName
from serving.answering.stages import SHORTLIST, Stages
from serving.answering.user_context import UserContext
from serving.jobs.canaries import read_canaries
from serving.request import Request

SAMPLED = 64  # requests, of which the one in the median_position by length is timed: an odd one decides nothing


@dataclass(frozen=True, kw_only=True)
class RerankRequest:
    """A request as a cross-encoder reads it: the text of the user or query, and the candidates' texts in retrieved
    order. `sampled` has the mean tokens per pair of every request that was sampled."""

    task: TaskName
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


class ReadRequest(NamedTuple):
    """A request as the engine reads it; `rows` is the shortlist that goes to its cross-encoder."""

    known: UserContext
    query: str  # empty for a recommendation
    text: str  # of the user or query, for the cross-encoder
    rows: Rows


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
    opened = ReleaseState.of_release(bundle, replace(release, ranker=None), device=device).updated()
    stored = [] if release.canaries is None else read_canaries(bundle.path_of("canaries", release.canaries))
    users, rng = opened.shoppers.user_ids, np.random.default_rng(seed)
    queries = opened.shoppers.query_texts or tuple(canary.query for canary in stored if canary.query)
    recommended = (Request(user_id=users[at].as_py()) for at in rng.permutation(len(users)).tolist())
    searched = (Request(query=queries[at]) for at in rng.permutation(len(queries)).tolist())
    sampled = list(islice(_rerankable(opened, recommended), SAMPLED))
    sampled = sampled or list(islice(_rerankable(opened, searched), SAMPLED))
    if not sampled:
        raise BadBundle(
            f"{bundle.path}: release {release.id} knows no users and no queries to rerank for; "
            f"run: shortlist index build {bundle.path} --data DATA"
        )
    tokens = mean_tokens(PairTokenizer.load(ranker), opened.stages, sampled)
    chosen = sampled[median_position(tokens)]
    items = opened.stages.texts_of(candidates(opened, chosen, size))
    task: TaskName = "search" if chosen.query else "recommend"
    return RerankRequest(task=task, user=chosen.text, items=tuple(items), sampled=tuple(tokens.tolist()))


def candidates(opened: ReleaseState, sampled: ReadRequest, n: int) -> Rows:
    """The first n candidates of a request: its shortlist, then what the towers find next; fewer where no more may be
    answered."""
    known, query, stages, past = sampled.known, sampled.query, opened.stages, opened.shoppers.query_texts
    vectors = (
        stages.searcher_vectors(known.batch, past, query, known.gap)
        if query
        else stages.history_vectors(known.batch, past)
    )
    removed = known.taken if opened.remove_seen and not query else known.taken[:0]
    others = CSR.from_lists([np.union1d(sampled.rows, removed)])
    more = stages.retriever.by_towers(vectors, min(n, opened.version.size), others).rows[0]
    return np.concatenate([sampled.rows, more[more >= 0]])[:n]


def mean_tokens(tokenizer: PairTokenizer, stages: Stages, sampled: Sequence[ReadRequest]) -> NDArray[np.float64]:
    """The mean tokens of the pairs of each request's shortlist, float64 [n]."""
    lists = CSR.from_lists([one.rows for one in sampled])
    rows = np.unique(lists.rows)
    items = dict(zip(rows.tolist(), stages.texts_of(rows), strict=True))
    pairs = tokenizer.pairs([one.text for one in sampled], items, lists.owners, lists.rows)
    return np.bincount(lists.owners, tokenizer.lengths(pairs)) / np.diff(lists.indptr)


def median_position(values: NDArray[np.float64]) -> int:
    """The position of the median; of an even number of values, of the lower one.

    >>> median_position(np.array([9.0, 1.0, 5.0, 7.0]))
    2
    """
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def _rerankable(opened: ReleaseState, requests: Iterable[Request]) -> Iterator[ReadRequest]:
    """The requests that have a text and candidates."""
    for request in requests:
        known = opened.histories.of_shopper(request.user_id)
        query = opened.stages.spelled([request.text])[0] if request.text else ""
        (text,) = opened.stages.user_texts(known.batch, [query or None], opened.shoppers.timeline.kinds)
        if not text:
            continue
        answer = opened.answer(replace(request, k=SHORTLIST, rerank=False))
        if answer.items:
            yield ReadRequest(known, query, text, opened.version.rows_of([hit.item_id for hit in answer.items]))
