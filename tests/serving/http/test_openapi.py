"""The OpenAPI document, and requests that a machine makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from serving.http.access import SCOPES, Scope

CHANGES = ("record_events", "update_items", "delete_item", "forget_user", "activate_release", "roll_back")
FEW = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # of each operation; docs/client.md has the command for more


KEY = "sl_key"
UNFIT = (positive_data_acceptance,)  # a filter over a column that no item has; of an address, all is a text


class OneKey:
    """Knows one key, which may do everything."""

    needed = True

    def scopes_of(self, key: str) -> frozenset[Scope] | None:
        return frozenset(SCOPES) if key == KEY else None

    def name_of(self, key: str) -> str | None:
        return "fuzzer"


@pytest.fixture(scope="module")
def described(http: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/openapi.json").json()
    return found


def operations(described: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_each_operation_has_an_id_of_its_own_a_summary_and_its_errors(described: dict[str, Any]) -> None:
    ids = Counter(operation["operationId"] for _, _, operation in operations(described))
    assert set(ids.values()) == {1}
    assert {"recommend", "search", "similar", "complete_cart", "batch", "explain", "why_not", *CHANGES} <= set(ids)
    for path, _, operation in operations(described):
        assert operation["description"]
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (path, status)
        assert {"400", "429", "500", "503"} <= set(operation["responses"])


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from [node["$ref"]] if "$ref" in node else []
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    schemas = described["components"]["schemas"]
    assert all(reference.removeprefix("#/components/schemas/") in schemas for reference in references(described))


def test_every_example_is_answered(http: TestClient, described: dict[str, Any]) -> None:
    asked = 0
    for path, method, operation in operations(described):
        if method != "post" or operation["operationId"] in CHANGES:
            continue
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        for example in body["examples"]:
            found = http.post(path, json=example)
            assert found.status_code == 200, (path, found.text)
            asked += 1
    assert asked >= 7


def test_only_health_needs_no_key(described: dict[str, Any]) -> None:
    free = {operation["operationId"] for _, _, operation in operations(described) if "security" not in operation}
    assert free == {"is_alive", "is_ready"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the library's own
@pytest.mark.parametrize("allowed", [True, False])
def test_no_request_that_the_description_allows_or_forbids_makes_the_server_fail(
    own_app: FastAPI, allowed: bool
) -> None:
    own_app.state.keys = OneKey()
    schema = schemathesis.openapi.from_asgi("/openapi.json", own_app)
    mode = GenerationMode.POSITIVE if allowed else GenerationMode.NEGATIVE
    asked = Counter[str]()
    for result in schema.get_all_operations():
        operation = result.ok()
        assert operation is not None

        @FEW
        @given(case=operation.as_strategy(mode))
        def ask(case: Case) -> None:
            headers = {"Authorization": f"Bearer {KEY}"}
            unfit = UNFIT if case.method == "POST" else (*UNFIT, negative_data_rejection)
            case.call_and_validate(headers=headers, excluded_checks=list(unfit))
            asked[case.operation.label] += 1

        try:
            ask()
        except Unsatisfiable:  # an operation without anything to be wrong
            continue
    assert len(asked) >= 15
