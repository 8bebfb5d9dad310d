"""What OpenAPI says beside the resources: the errors, which all of them have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from serving.http.problems import MEDIA_TYPE, ProblemBody

WHAT: Mapping[int, str] = {
    400: "The request is wrong; `detail` says what to change.",
    401: "There is no API key, or it is not known.",
    403: "The API key has not the scope for this.",
    404: "What the path names is not there.",
    405: "The resource is asked for in another way; see `Allow`.",
    408: "The body did not come in time.",
    409: "The bundle as it is does not allow it.",
    410: "The release of a cursor is not open any more; ask again without it.",
    413: "The body is too large.",
    415: "The body is not sent as JSON.",
    421: "The server answers to other names; `detail` says which.",
    422: "The items or rules cannot be used; `detail` says why.",
    429: "The server is full; see `Retry-After`.",
    500: "The server failed; its log has the reason.",
    501: "This server cannot do it.",
    503: "The bundle cannot be read or written now; see `Retry-After`.",
    504: "There was no answer in time.",
}
_SCHEMA = {"schema": {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "content": {MEDIA_TYPE: _SCHEMA}} for status, what in WHAT.items()
}


def describe(app: FastAPI) -> None:
    """Gives an application its OpenAPI document, made when it is first asked for."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            told = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )  # fmt: skip
            told["components"]["schemas"][ProblemBody.__name__] = ProblemBody.model_json_schema()
            app.openapi_schema = told
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]
