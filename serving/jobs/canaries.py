"""Stored requests whose right answer is known: what a new release must still find before it goes live."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexing.bundle.publish_gates import Gate, answers_kept, recall_kept, recall_of
from indexing.version.index_version import IndexVersion
from retrieval.data.timeline import Timeline
from retrieval.errors import CorruptBundle
from retrieval.text.rendering import query_text
from retrieval.topk import Vectors
from serving.answering.batch import Batch
from serving.answering.pipeline import answer_many, run
from serving.answering.release_settings import SHORTLIST
from serving.answering.release_state import ReleaseState
from serving.answering.stages.encode import encode
from serving.answering.stages.read_user import LiveRequests
from serving.answering.tasks import TASKS
from serving.evaluation.figures import relevant_rows
from serving.request import Request
from serving.shop import Shop

FILE = "canaries.json"
LIMIT = 200  # of each task
LONGEST = 50  # newest items of a history
RECALL_AT = (10, SHORTLIST)  # the page that is shown, and the candidates that are reranked
OVERLAP_AT = 10
FOLDS = ("gate", "ranker_valid")  # the first that holds requests is taken: no tower learned from either


@dataclass(frozen=True, kw_only=True)
class Canary:
    """A request of item ids, oldest first, or of a query, and the item ids that are right."""

    wanted: tuple[str, ...]
    history: tuple[str, ...] = ()
    query: str = ""


class CanaryAnswers(NamedTuple):
    """What a release answers to each canary."""

    lists: list[list[str]]  # item ids, best first, at most `SHORTLIST`
    nearest: list[list[str]]  # the same by the towers' index alone, whatever other sources propose
    queries: Vectors  # of the canaries that the user tower can read, float32 [n, index_dim]
    right: list[list[str]]  # of the items that are right, those that the release holds
    towers: str

    def left_in(self, version: IndexVersion) -> CanaryAnswers:
        """The same without what a later version does not hold any more, as if it had been deleted."""
        lists, nearest = ([version.held(one) for one in lists] for lists in (self.lists, self.nearest))
        return self._replace(lists=lists, nearest=nearest)


def canaries_of(shop: Shop, limit: int = LIMIT) -> list[Canary]:
    """Up to `limit` recommendations and as many searches, spread over a fold that no tower learned from.

    A shop without requests of its own is asked for titles of its items, spread over the catalogue: an item is what is
    right for its title.
    """
    return [*_recommendations(shop, limit), *_judged_queries(shop, limit)] or [*_titles(shop, limit)]


def write_canaries(folder: Path, canaries: Sequence[Canary]) -> None:
    """Writes them as one JSON file."""
    text = json.dumps([asdict(canary) for canary in canaries], ensure_ascii=False, indent=1)
    (folder / FILE).write_text(text, "utf-8")


def read_canaries(folder: Path) -> list[Canary]:
    """What `write_canaries` wrote; CorruptBundle names a file that cannot be read."""
    path = folder / FILE
    try:
        stored = json.loads(path.read_text("utf-8"))
        return [Canary(**(one | {name: tuple(one[name]) for name in ("wanted", "history")})) for one in stored]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorruptBundle(f"{path} cannot be read ({error}); restore it or activate another release") from error


def answers_of(state: ReleaseState, canaries: Sequence[Canary]) -> CanaryAnswers:
    """What a release answers before anything is reranked."""
    vectors = user_vectors(state, canaries)
    hits = state.version.search(vectors, SHORTLIST)
    nearest = [state.version.ids_of(rows[rows >= 0]) for rows in hits.rows]
    answers = answer_many(state, [_request(canary) for canary in canaries])
    lists = [[hit.item_id for hit in answer.items] for answer in answers]
    right = [state.version.held(canary.wanted) for canary in canaries]
    return CanaryAnswers(lists, nearest, vectors[vectors.any(axis=1)], right, state.release.towers)


def canary_gates(after: CanaryAnswers, before: CanaryAnswers) -> list[Gate]:
    """What the canaries say of a release after the live one, see `left_in`; nothing where none is about items that both
    hold. Overlap is asked for where the towers are the same, of answers and of what the index alone finds: other
    sources may fill the first places, and would hide an index that is wrong."""
    both = [[item for item in new if item in set(old)] for new, old in zip(after.right, before.right, strict=True)]
    shared = [place for place, right in enumerate(both) if right]
    if not shared:
        return []
    wanted = [both[place] for place in shared]
    now, then = ([answers.lists[place] for place in shared] for answers in (after, before))
    gates = [recall_kept(recall_of(now, wanted, k), recall_of(then, wanted, k), k) for k in RECALL_AT]
    if after.towers == before.towers:
        gates.append(answers_kept(now, then, OVERLAP_AT, "canaries"))
        gates.append(answers_kept(after.nearest, before.nearest, OVERLAP_AT, "canaries in the index alone"))
    return gates


def user_vectors(state: ReleaseState, canaries: Sequence[Canary]) -> Vectors:
    """The user tower's vector of each canary, float32 [n, index_dim]; zeros for what it cannot read."""
    vectors = np.zeros((len(canaries), state.version.dim), np.float32)
    for task in (TASKS["search"], TASKS["recommend"]):
        asked = [place for place, canary in enumerate(canaries) if bool(canary.query) == (task.name == "search")]
        if asked:
            requests = LiveRequests([_request(canaries[place]) for place in asked])
            vectors[asked] = run(state, Batch(requests=requests, task=task), until=encode).vectors
    return vectors


def _request(canary: Canary) -> Request:
    if canary.query:
        return Request(query=canary.query, k=SHORTLIST, rerank=False)
    return Request(history=canary.history, k=SHORTLIST, rerank=False)


def _recommendations(shop: Shop, limit: int) -> Iterator[Canary]:
    if shop.events is None or shop.data.events is None:
        return
    requests = next((fold for name in FOLDS if len(fold := shop.events.folds[name])), shop.events.folds[FOLDS[0]])
    requests = requests.select(_spread(len(requests), limit))
    timeline, position = Timeline.from_events(shop.data.events)
    taken = timeline.codes_of(shop.target_events)
    before = timeline.items_before(requests.user, position[requests.end], taken)
    for line in range(len(requests)):
        rows = before.rows[before.indptr[line] : before.indptr[line + 1]]
        if len(rows):
            yield Canary(wanted=_ids(shop, requests.targets(line)), history=_ids(shop, rows[-LONGEST:]))


def _judged_queries(shop: Shop, limit: int) -> Iterator[Canary]:
    if shop.judgements is None:
        return
    queries = next((fold for name in FOLDS if len(fold := shop.judgements.folds[name])), np.empty(0, np.int64))
    right = relevant_rows(*shop.judged(queries))
    labelled = np.flatnonzero(np.diff(right.indptr))
    labelled = labelled[_spread(len(labelled), limit)]
    for line, text in zip(labelled.tolist(), shop.query_texts(queries[labelled]), strict=True):
        if query_text(text):
            yield Canary(wanted=_ids(shop, right.rows[right.indptr[line] : right.indptr[line + 1]]), query=text)


def _titles(shop: Shop, limit: int) -> Iterator[Canary]:
    rows = _spread(shop.data.n_items, limit)
    for row, title in zip(rows.tolist(), shop.titles(rows), strict=True):
        if query_text(title):
            yield Canary(wanted=(shop.data.item_ids[row],), query=title)


def _ids(shop: Shop, rows: NDArray[np.integer]) -> tuple[str, ...]:
    return tuple(shop.data.item_ids[row] for row in rows.tolist())


def _spread(n: int, limit: int) -> NDArray[np.int64]:
    """Up to `limit` of n positions, evenly apart."""
    return np.linspace(0, n - 1, min(n, limit)).astype(np.int64) if n else np.empty(0, np.int64)
