"""A real request of a bundle's own shop with the candidates that its retrieval gives: what reranking is timed on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.models.throughput import lengths, repeated
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

DRAWN = 64  # requests, of which the one in the middle by length is timed: an odd one decides nothing


@dataclass(frozen=True, kw_only=True)
class RerankRequest:
    """A request as a cross-encoder reads it: one text of who asks or what is asked, and the candidates' texts in
    retrieval's order. `drawn` are the mean tokens of a pair of every request that was drawn with it."""

    task: TaskName
    user: str
    items: tuple[str, ...]
    drawn: tuple[float, ...]

    def facts(self, ranker: Path, sizes: Sequence[int]) -> Mapping[str, object]:
        """What results say of it: its task, the tokens of its first pairs, and of those of all that were drawn."""
        drawn = f"median {np.median(self.drawn):.0f}, mean {np.mean(self.drawn):.0f} of {len(self.drawn)} drawn"
        read = {size: [(self.user, item) for item in repeated(self.items, size)] for size in sizes}
        told = {f"tokens_of_{size}_pairs": lengths(ranker, pairs) for size, pairs in read.items()}
        return {"task": self.task, "candidates": len(self.items), **told, "tokens_of_requests": drawn}

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False), "utf-8")

    @classmethod
    def read(cls, path: Path) -> RerankRequest:
        """What `write` wrote; BadData names a file that is something else."""
        try:
            told = json.loads(path.read_text("utf-8"))
            return cls(**told | {name: tuple(told[name]) for name in ("items", "drawn")})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadData(f"{path}: cannot be read as a request ({error}); leave --request out") from error


class Drawn(NamedTuple):
    """A request as the engine reads it; `rows` are the shortlist that it gives to its cross-encoder."""

    known: UserContext
    query: str  # empty where nothing is asked for
    text: str  # that a cross-encoder reads
    rows: Rows


def drawn_request(
    bundle: Bundle, ranker: Path, *, size: int = 1_000, device: str = "auto", seed: int = 0
) -> RerankRequest:
    """Of requests drawn from the live release the one whose shortlist has the median tokens a pair, see `middle`.

    A shopper's recommendation where shoppers are known. Else a search: for a past query, or for a query of the canaries
    where there are none. Its candidates are the engine's shortlist, then the towers' next items, `size` in all.
    `ranker` is the cross-encoder's folder, by whose tokens pairs are measured. Raises BadBundle where the release has
    nobody and nothing to ask for.
    """
    release = bundle.current()
    opened = ReleaseState.of_release(bundle, replace(release, ranker=None), device=device).updated()
    stored = [] if release.canaries is None else read_canaries(bundle.path_of("canaries", release.canaries))
    users, rng = opened.shoppers.user_ids, np.random.default_rng(seed)
    queries = opened.shoppers.query_texts or tuple(canary.query for canary in stored if canary.query)
    recommended = (Request(user_id=users[at].as_py()) for at in rng.permutation(len(users)).tolist())
    searched = (Request(query=queries[at]) for at in rng.permutation(len(queries)).tolist())
    drawn = list(islice(_read(opened, recommended), DRAWN)) or list(islice(_read(opened, searched), DRAWN))
    if not drawn:
        raise BadBundle(
            f"{bundle.path}: release {release.id} knows no shopper and no query to rerank for; "
            f"run: shortlist index build {bundle.path} --data DATA"
        )
    tokens = mean_tokens(PairTokenizer.load(ranker), opened.stages, drawn)
    chosen = drawn[middle(tokens)]
    items = opened.stages.texts_of(candidates(opened, chosen, size))
    task: TaskName = "search" if chosen.query else "recommend"
    return RerankRequest(task=task, user=chosen.text, items=tuple(items), drawn=tuple(tokens.tolist()))


def candidates(opened: ReleaseState, drawn: Drawn, n: int) -> Rows:
    """The first n rows that retrieval has for a request: its shortlist, then what the towers find next; fewer where no
    more may be answered."""
    known, query, stages, past = drawn.known, drawn.query, opened.stages, opened.shoppers.query_texts
    vectors = (
        stages.searcher_vectors(known.batch, past, query, known.gap)
        if query
        else stages.history_vectors(known.batch, past)
    )
    removed = known.taken if opened.remove_seen and not query else known.taken[:0]
    others = CSR.from_lists([np.union1d(drawn.rows, removed)])
    more = stages.retriever.by_towers(vectors, min(n, opened.version.size), others).rows[0]
    return np.concatenate([drawn.rows, more[more >= 0]])[:n]


def mean_tokens(tokenizer: PairTokenizer, stages: Stages, drawn: Sequence[Drawn]) -> NDArray[np.float64]:
    """The mean tokens of the pairs of each request's shortlist, float64 [n]."""
    lists = CSR.from_lists([one.rows for one in drawn])
    rows = np.unique(lists.rows)
    items = dict(zip(rows.tolist(), stages.texts_of(rows), strict=True))
    pairs = tokenizer.pairs([one.text for one in drawn], items, lists.owners, lists.rows)
    return np.bincount(lists.owners, tokenizer.lengths(pairs)) / np.diff(lists.indptr)


def middle(values: NDArray[np.float64]) -> int:
    """Where the median stands, of an even number the lower of the two.

    >>> middle(np.array([9.0, 1.0, 5.0, 7.0]))
    2
    """
    return int(np.argsort(values, kind="stable")[(len(values) - 1) // 2])


def _read(opened: ReleaseState, requests: Iterable[Request]) -> Iterator[Drawn]:
    """Those of the requests for which there is something to read and to order."""
    for request in requests:
        known = opened.histories.of_shopper(request.user_id)
        query = opened.stages.spelled([request.text])[0] if request.text else ""
        (text,) = opened.stages.user_texts(known.batch, [query or None], opened.shoppers.timeline.kinds)
        if not text:
            continue
        answer = opened.answer(replace(request, k=SHORTLIST, rerank=False))
        if answer.items:
            yield Drawn(known, query, text, opened.version.rows_of([hit.item_id for hit in answer.items]))
