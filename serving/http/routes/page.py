"""The page at `/` and its files, by name: no path of a request reaches the file system."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from http import HTTPStatus
from importlib import resources
from pathlib import PurePath

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serving.http.answers import has_tag
from serving.http.problems import Problem

PACKAGE = "serving.page"
INDEX = "index.html"
KINDS = {  # browsers refuse scripts and styles of another media type
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def index(request: Request) -> Response:
    """The page."""
    return _file(INDEX, request)


@router.get("/page/{name}")
async def file(name: str, request: Request) -> Response:
    """A file that the page loads."""
    return _file(name, request)


def _file(name: str, request: Request) -> Response:
    found = files().get(name)
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, "the page has no such file")
    body, kind = found
    headers = {"Cache-Control": "no-cache", "ETag": f'"{blake2b(body, digest_size=12).hexdigest()}"'}
    if has_tag(headers["ETag"], request.headers.get("if-none-match", "")):
        return Response(None, HTTPStatus.NOT_MODIFIED.value, headers)
    return Response(body, HTTPStatus.OK.value, headers, kind)


@cache
def files() -> dict[str, tuple[bytes, str]]:
    """The contents and media types of the page's files, by name."""
    return {
        one.name: (one.read_bytes(), kind)
        for one in resources.files(PACKAGE).iterdir()
        if (kind := KINDS.get(PurePath(one.name).suffix))
    }
