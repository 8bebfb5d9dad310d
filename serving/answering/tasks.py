"""What a caller can ask for. Everything that differs between tasks is a field of Task."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from serving.answering.release_settings import OrderName
from serving.request import TaskName

if TYPE_CHECKING:
    from serving.answering.release_state import ReleaseState
    from serving.request import Request

GateName: TypeAlias = Literal["recommend", "recommend_unseen", "search", "personalised_search", "complete_cart"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One way of asking: which weights order its candidates, what is never answered, what its vector is made of."""

    name: TaskName
    order: OrderName | None  # whose weights of sources and blends count; None: the towers alone
    gate: GateName | None  # whose gate lets the cross-encoder on; None: it is never reranked
    excludes_taken: bool = False  # items that the shopper took before
    excludes_given: bool = False  # items that came with the request: a cart, the item that others are to be like
    by_content: bool = False  # asked for with the content of the given items, not with a user's vector


TASKS: Mapping[TaskName, Task] = {
    task.name: task
    for task in (
        Task(name="recommend", order="recommend", gate="recommend"),
        Task(name="recommend_unseen", order="recommend_unseen", gate="recommend_unseen", excludes_taken=True),
        Task(name="search", order="search", gate="search"),
        Task(name="personalised_search", order="search", gate="personalised_search"),
        Task(name="similar", order=None, gate=None, excludes_given=True, by_content=True),
        Task(name="complete_cart", order="complete_cart", gate="complete_cart", excludes_given=True),
    )
}


def task_of(state: ReleaseState, request: Request) -> Task:
    """What a request asks a release for. A search without a query is a recommendation; whether items that were taken
    before are answered is the request's `filter_seen` or, where it does not say, what suits the shop."""
    unseen = request.filter_seen
    if request.task == "complete_cart":
        repeats = state.user_contexts.has_taken(request.user_id)
        filter_seen = state.filter_seen if unseen is None else unseen
        return cart_task(state, filter_seen, repeats=repeats, empty=not request.history)
    if request.task == "similar":
        return TASKS["similar"]
    if request.text:
        known = request.user_id is not None or request.history is not None
        return replace(TASKS["personalised_search" if known else "search"], excludes_taken=bool(unseen))
    if request.task == "recommend_unseen" or (state.filter_seen if unseen is None else unseen):
        return TASKS["recommend_unseen"]
    return TASKS["recommend"]


def cart_task(state: ReleaseState, filter_seen: bool, *, repeats: bool, empty: bool = False) -> Task:
    """Completing carts, with or without what their shoppers took before.

    Where a release has no weights of its own for it, or the cart is empty, it is the order of any recommendation for
    shoppers who are known to have taken something (`repeats`), and for others that of new things, for nothing can be
    taken again.
    """
    own = "complete_cart" in state.retriever.fusions and not empty
    order: OrderName = "complete_cart" if own else "recommend" if repeats else "recommend_unseen"
    return replace(TASKS["complete_cart"], order=order, excludes_taken=filter_seen)


def orders_of_gates(gates: Collection[str], fitted: Collection[str]) -> set[OrderName]:
    """The orders by which tasks whose gates are on are answered, where weights were `fitted` for some orders."""
    orders = {task.order for task in TASKS.values() if task.gate in gates and task.order is not None}
    if "complete_cart" in orders - set(fitted):
        orders = orders - {"complete_cart"} | {"recommend"}
    return orders
