"""What travels through the pipeline: n requests of one task, and what each stage has found for them so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from retrieval.topk import CSR, Hits, Mask, Rows, Scores, Vectors
from serving.answering.release_settings import SHORTLIST
from serving.answering.retriever import Candidates
from serving.answering.scored import Scored
from serving.answering.user_context import UserContexts
from serving.rules.compiled import ActiveRules
from serving.rules.effects import RuleEffects

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState
    from serving.answering.rerank_steps import Step
    from serving.answering.tasks import Task
    from serving.explanation import Explanation
    from serving.request import Answer, DiversityMethod, Explain, Filters


class RequestSource(Protocol):
    """Requests, and how what is known of their users is read: live ones from a release, past ones as of their time."""

    def __len__(self) -> int: ...

    def select(self, part: NDArray[np.int64]) -> Self:
        """Some of the requests, by position."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """The query of each request as it was typed; empty: none."""
        ...

    def users(self, state: ReleaseState) -> UserContexts:
        """What is known of each request's user when it is asked."""
        ...


class LogitsOf(Protocol):
    """The logits that a step's model gives to the first `depth` places, float32 [n, depth], nan for none."""

    def __call__(self, step: Step, hits: Hits, /) -> NDArray[np.float32]: ...


class Queries(NamedTuple):
    """The queries of n requests; empty texts where nothing is searched for."""

    typed: Sequence[str] = ()
    corrected: Sequence[str] = ()  # as every model reads them: misspelt words taken for those that were meant
    meant: Sequence[str] = ()  # what was meant, if what was typed is searched for as well; else empty

    def select(self, part: NDArray[np.int64]) -> Queries:
        """Those of some requests, by position."""
        return Queries(*([texts[at] for at in part.tolist()] for texts in self))

    @classmethod
    def join(cls, parts: Sequence[Queries]) -> Queries:
        """Those of several parts, one part after the other."""
        return cls(*([text for texts in column for text in texts] for column in zip(*parts, strict=True)))


NO_QUERIES = Queries()


class Explained(NamedTuple):
    """Why one hit stands where it does."""

    contributions: Mapping[str, float]  # what each feature adds to its score; see Hit
    explanation: Explanation | None


NOT_EXPLAINED = Explained({}, None)


class Ranking(NamedTuple):
    """Reranked shortlists of n requests."""

    hits: Hits
    logits: NDArray[np.float32]  # [n, k] blended, in the new order; nan: not reranked
    places: NDArray[np.int64]  # [n, k] each candidate's place before, from 0
    read_by: NDArray[np.int64]  # [n, k] the number of the last step that read it; -1: none
    depths: tuple[int, ...] = ()  # of each step, the places that it was given time to read

    def places_of(self, line: int, candidates: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where some candidates of a request, by their places before, stand now, int64 of their shape."""
        return np.argsort(self.places[line])[candidates]

    def read(self, line: int, candidates: NDArray[np.int64]) -> Mask:
        """Which candidates of a request, by their places before, any step read, bool of their shape."""
        return np.asarray(self.read_by[line, self.places_of(line, candidates)] >= 0)


class Order(NamedTuple):
    """What is answered, best first; row -1 pads a short answer."""

    rows: Rows  # [n, k]
    scores: Scores  # [n, k], never rising from place to place where anything was reranked
    places: NDArray[np.int64]  # [n, k] places among the candidates, from 0
    retrieval_places: NDArray[np.int64]  # [n, k] places that retrieval gave, from 0

    def shown(self, line: int, k: int) -> NDArray[np.int64]:
        """The places, from 0, of the at most k items that a request is answered with, int64 [m]."""
        return np.flatnonzero(self.rows[line] >= 0)[:k]

    def permuted(self, order: NDArray[np.int64]) -> Order:
        """The same with what stood at `order`, int64 [n, k] places from 0, at each place."""
        lines = np.arange(len(order))[:, None]
        return Order(
            self.rows[lines, order],
            self.scores[lines, order],
            self.places[lines, order],
            self.retrieval_places[lines, order],
        )


class Found(TypedDict, total=False):
    """What stages write, by the fields of a Batch."""

    k: int
    users: UserContexts
    queries: Queries
    vectors: Vectors
    exclude: CSR | None
    allowed: Mask | None
    candidates: Candidates
    scored: Scored | None
    ranker_texts: Sequence[str] | None
    ranking: Ranking | None
    rules: ActiveRules | None
    order: Order | None
    trail: tuple[tuple[str, Rows], ...]
    explained: Sequence[Sequence[Explained]]
    explain: Explain
    degraded: tuple[str, ...]
    rule_effects: RuleEffects | None
    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """n requests of one task on their way. What a stage finds is empty until that stage has run.

    read_user: `users`. read_query: `queries`. encode: `vectors` float32 [n, index_dim], zero where nothing is known.
    permit: `exclude`, a list of rows for each request, and `allowed`, bool [n_items] for all; None: nothing, all.
    retrieve: `candidates`. score: `candidates` in another order, and `scored`; None: no ranker read features. rank:
    `ranker_texts`, what the cross-encoder reads of each request, and `ranking`; None:
    nothing was reranked. arrange: `order`. apply_rules: `order` in another order, and `rule_effects`; None: no rule
    moves or places items. diversify: `order` in another order. explain: `explained`, of each request why each of its
    hits stands where it does. describe: `answers`. Where a request asks to be explained, `trail` is
    what stood where after each stage that put rows in a new order: the stage's name, and int64 [n, k] rows.

    `logits_of` stands in for the steps' own models where logits are known already.
    """

    requests: RequestSource
    task: Task
    k: int = SHORTLIST
    rerank: bool = True
    spellcheck: bool = True
    filters: Filters | None = None
    explain: Explain = False
    diversity: float = 0.0  # see Request
    diversify_by: DiversityMethod = "mmr"
    one_per_group: bool = False  # of items of one `group_id` the best alone is answered
    query_is_empty: bool = False  # a search was asked for without saying what for
    rules: ActiveRules | None = None  # the merchandising rules that hold for all of the requests
    users: UserContexts = field(default_factory=lambda: UserContexts.nobody(0))
    queries: Queries = NO_QUERIES
    vectors: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    exclude: CSR | None = None
    allowed: Mask | None = None
    candidates: Candidates = field(default_factory=Candidates.none)
    scored: Scored | None = None
    ranker_texts: Sequence[str] | None = None
    logits_of: LogitsOf | None = None
    ranking: Ranking | None = None
    order: Order | None = None
    trail: tuple[tuple[str, Rows], ...] = ()
    explained: Sequence[Sequence[Explained]] = ()
    degraded: tuple[str, ...] = ()  # of all requests: what was left out because of time, or because it failed
    rule_effects: RuleEffects | None = None
    answers: tuple[Answer, ...] = ()

    def __len__(self) -> int:
        return len(self.requests)

    def having(self, **found: Unpack[Found]) -> Batch:
        """The batch with what a stage has found.

        What `dataclasses.replace` does, which takes a tenth of a millisecond over the stages of one request.
        """
        made = object.__new__(Batch)
        made.__dict__.update(self.__dict__, **found)
        return made

    @property
    def standing(self) -> Rows:
        """What stands where as of the last stage that ran, int64 [n, k]; -1 at a pad."""
        if self.order is not None:
            return self.order.rows
        return self.candidates.hits.rows if self.ranking is None else self.ranking.hits.rows

    def traced(self, stage: str) -> Batch:
        """The batch with what stands where now in its trail, where the stage that ran changed that."""
        rows = self.standing
        if not rows.size or (self.trail and self.trail[-1][1] is rows):
            return self
        return self.having(trail=(*self.trail, (stage, rows)))

    def select(self, part: NDArray[np.int64]) -> Batch:
        """Some of the requests, by position, as they were retrieved; not yet ranked."""
        texts = self.ranker_texts
        return replace(
            self,
            requests=self.requests.select(part),
            users=self.users.select(part),
            queries=self.queries.select(part),
            vectors=self.vectors[part],
            exclude=None if self.exclude is None else self.exclude.select(part),
            candidates=self.candidates.select(part),
            scored=None if self.scored is None else self.scored.select(part),
            ranker_texts=None if texts is None else [texts[at] for at in part.tolist()],
            ranking=None,
            order=None,
            rule_effects=None,
            answers=(),
        )

    @classmethod
    def retrieved(cls, requests: RequestSource, parts: Sequence[Batch]) -> Batch:
        """The retrieved batches of one task, which are `requests` block by block, as one; without features."""
        excluded = [CSR.empty(len(part)) if part.exclude is None else part.exclude for part in parts]
        return replace(
            parts[0],
            requests=requests,
            users=UserContexts.join([part.users for part in parts]),
            queries=Queries.join([part.queries for part in parts]),
            vectors=np.concatenate([part.vectors for part in parts]),
            exclude=None if all(part.exclude is None for part in parts) else CSR.join(excluded),
            candidates=Candidates.join([part.candidates for part in parts]),
            scored=Scored.join([part.scored for part in parts]),
        )
