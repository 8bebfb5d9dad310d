"""The one way of a request. Whatever answers, evaluates, gates or fits goes through these stages, in this order.

A stage is a function of a file of its own, `(state, batch, deadline) -> batch`, that says what it reads and writes. The
engine is a batch of one; jobs, evaluations and gates are batches of many, whose users are read as of each request's
time. Who needs no answer but what leads to it stops after a stage (`until`) or goes on from one (`since`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import nullcontext

import numpy as np

from retrieval.encoders.blas_threads import ONE_BLAS_THREAD
from serving.answering.batch import Batch
from serving.answering.deadline import Deadline
from serving.answering.explaining.explain import explain, unexplained
from serving.answering.in_time.otherwise import InTime, Otherwise, Stage
from serving.answering.release_state import ReleaseState
from serving.answering.stages.apply_rules import apply_rules, without_rules
from serving.answering.stages.arrange import arrange
from serving.answering.stages.describe import describe
from serving.answering.stages.diversify import as_arranged, diversify
from serving.answering.stages.encode import encode, reads_new_text, without_vectors
from serving.answering.stages.permit import permit
from serving.answering.stages.rank import rank, ranks, unranked
from serving.answering.stages.read_query import as_typed, read, read_query
from serving.answering.stages.read_user import LiveRequests, as_strangers, read_user
from serving.answering.stages.retrieve import by_towers_alone, popular, retrieve
from serving.answering.stages.score import as_fused, score
from serving.answering.tasks import Task, task_of
from serving.request import Answer, Request
from serving.rules.compiled import ActiveRules

WARM_UP = "warmupp"  # a query; what it asks for does not matter, but no item should have its word
STAGES: tuple[Stage, ...] = (
    read_user, read_query, encode, permit, retrieve, score, rank, arrange, apply_rules, diversify, explain, describe
)  # fmt: skip

# How stages are left out that have no time, or fail. `permit` never is: what may not be answered is not.
IN_TIME = InTime(
    {
        read_user: (Otherwise(part="what is known of the shopper", without=as_strangers),),
        read_query: (Otherwise(part="spelling correction", without=as_typed),),
        encode: (Otherwise(part="text and history models", without=without_vectors, depends_on=reads_new_text),),
        retrieve: (
            Otherwise(part="sources beside the towers", without=by_towers_alone),
            Otherwise(part="retrieval, so popular items", without=popular),
        ),
        score: (Otherwise(part="ordering by features", without=as_fused),),
        rank: (Otherwise(part="rerank", without=unranked, in_time=False),),  # reads as many places as there is time for
        apply_rules: (Otherwise(part="rules that move items", without=without_rules, in_time=False),),
        diversify: (Otherwise(part="diversity", without=as_arranged),),
        explain: (Otherwise(part="explanations", without=unexplained, depends_on=lambda _, batch: batch.explain),),
    },
    STAGES,
)


def run(
    state: ReleaseState,
    batch: Batch,
    deadline: Deadline | None = None,
    *,
    since: Stage = STAGES[0],
    until: Stage = STAGES[-1],
    degrade: bool = False,
) -> Batch:
    """A batch after the stages from `since` to `until`, both included, each timed under its name.

    With `degrade` what fails or has no time is left out, and the batch says so; without, as where a release is judged,
    errors are raised, and reranking alone heeds the deadline.
    """
    deadline = deadline or Deadline(None)
    for stage in STAGES[STAGES.index(since) : STAGES.index(until) + 1]:
        with deadline.stage(stage.__name__):
            batch = IN_TIME.run(stage, state, batch, deadline) if degrade else stage(state, batch, deadline)
        if batch.explain:
            batch = batch.traced(stage.__name__)
    return batch


def answer(state: ReleaseState, request: Request, deadline: Deadline | None = None, *, degrade: bool = False) -> Answer:
    """One request, whose time counts from when `deadline` was made, by default now; see `run`. Raises BadRequest for
    filters that the items do not have."""
    return answer_batch(state, request, deadline, degrade=degrade).answers[0]


def answer_batch(
    state: ReleaseState, request: Request, deadline: Deadline | None = None, *, degrade: bool = False
) -> Batch:
    """One request with all that stages found on its way; see `answer`."""
    return _run_all(state, task_of(state, request), [request], deadline, degrade=degrade)


def answer_many(state: ReleaseState, requests: Sequence[Request], deadline: Deadline | None = None) -> list[Answer]:
    """The answer of each request; those that ask for the same in the same way travel together, in one time.

    `deadline` is that of all of them together, by default each request's own from when its group begins.
    """
    answers: dict[int, Answer] = {}
    for task, lines in alike(state, requests):
        found = _run_all(state, task, [requests[at] for at in lines], deadline).answers
        answers.update(zip(lines, found, strict=True))
    return [answers[at] for at in range(len(requests))]


def order_many(state: ReleaseState, requests: Sequence[Request]) -> Iterator[tuple[list[int], Batch]]:
    """The positions of requests that travel together, and their batch in its final order, without answers in words.
    What fails is left out, and the batch says so."""
    for task, lines in alike(state, requests):
        yield lines, _run_all(state, task, [requests[at] for at in lines], None, until=diversify, degrade=True)


def alike(state: ReleaseState, requests: Sequence[Request]) -> Iterator[tuple[Task, list[int]]]:
    """The positions of requests that differ in their user, history and query alone, with their task."""
    groups = defaultdict[Hashable, list[int]](list)
    tasks = [task_of(state, request) for request in requests]
    for at, (task, request) in enumerate(zip(tasks, requests, strict=True)):
        query = (request.query is None, not request.text)
        same = (
            request.k, request.rerank, request.spellcheck, request.explain, request.one_per_group, request.diversity,
            request.diversify_by, repr(request.filters), request.deadline_ms, query, rules_for(state, request, task),
        )  # fmt: skip
        groups[task, same].append(at)
    for lines in groups.values():
        yield tasks[lines[0]], lines


def rules_for(state: ReleaseState, request: Request, task: Task) -> ActiveRules | None:
    """The merchandising rules that hold for a request; None where the release is opened without any."""
    if state.rules is None:
        return None

    def texts() -> Sequence[str]:
        queries = read(state, [request.text]) if request.spellcheck else ()
        return (request.text, *(text for column in queries for text in column if text))

    return state.rules.active(request, task.name, texts)


def _run_all(
    state: ReleaseState,
    task: Task,
    requests: Sequence[Request],
    deadline: Deadline | None,
    *,
    until: Stage = STAGES[-1],
    degrade: bool = False,
) -> Batch:
    """Requests that differ in their user and query alone, through the stages."""
    batch = batch_of(state, task, requests)
    deadline = deadline or Deadline(requests[0].deadline_ms)
    deadline.margin_ms = state.stage_times.margin_ms if degrade else 0.0
    # threads of BLAS that wait for work would keep a core from the cross-encoder
    with ONE_BLAS_THREAD if ranks(state, batch) else nullcontext():
        batch = run(state, batch, deadline, until=until, degrade=degrade)
    if degrade and (late := deadline.late_ms) is not None:
        state.stage_times.ended(late)
    return batch


def warm_up(state: ReleaseState) -> None:
    """Answers a request that goes through every model, so that the first user does not wait for them."""
    answer(state, Request(history=state.version.ids_of(np.arange(1)), query=WARM_UP, k=1))


def batch_of(state: ReleaseState, task: Task, requests: Sequence[Request]) -> Batch:
    """Requests that differ in their user and query alone, and are of one task under the same rules, before any
    stage."""
    first = requests[0]
    return Batch(
        requests=LiveRequests(requests),
        task=task,
        k=first.k,
        rerank=first.rerank,
        spellcheck=first.spellcheck,
        filters=first.filters,
        explain=first.explain,
        diversity=first.diversity,
        diversify_by=first.diversify_by,
        one_per_group=first.one_per_group,
        query_is_empty=first.query is not None and not first.text,
        rules=rules_for(state, first, task),
    )
