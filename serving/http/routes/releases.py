"""Releases: which there are, which answers, and moving between them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from serving.http.access import BEARER, caller_of, needs
from serving.http.as_json import as_json
from serving.http.releases import BundleReleases
from serving.http.routes.sending import change, json_response, run
from serving.http.shapes import MovedShape, ReleasesShape

ReleaseName = Annotated[str, Path(pattern=r"^[\w.-]{1,128}$", description="A release, as `GET /v1/releases` names it.")]

router = APIRouter(prefix="/v1", tags=["releases"], dependencies=[Depends(BEARER)])


@router.get(
    "/releases", operation_id="list_releases", response_model=ReleasesShape, dependencies=[Depends(needs("read"))]
)
async def releases(request: Request) -> Response:
    """Every release, oldest first, with its gates."""
    bundle = BundleReleases.of(request.app)
    return json_response(as_json(await run(request, bundle.listed)))


@router.post("/releases/{release}/activate", operation_id="activate_release", dependencies=[Depends(needs("admin"))])
async def activate(release: ReleaseName, request: Request) -> MovedShape:
    """Make a release live; every file of it is verified first. Answers once it answers."""
    bundle = BundleReleases.of(request.app)
    return MovedShape(**(await change(request, lambda: bundle.activate(release, caller_of(request)))))


@router.post("/releases/rollback", operation_id="roll_back", dependencies=[Depends(needs("admin"))])
async def roll_back(request: Request) -> MovedShape:
    """Make the release before live again; every file of it is verified first. Answers once it answers."""
    bundle = BundleReleases.of(request.app)
    return MovedShape(**(await change(request, lambda: bundle.roll_back(caller_of(request)))))
