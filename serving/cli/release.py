"""`shortlist release ...`: which releases there are and which of them is live."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from serving.cli.options import AsJson, Bundle
from serving.cli.show import show_json

if TYPE_CHECKING:
    from indexing.bundle.releases import Release

ReleaseId: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="A release; `shortlist release list` shows them.")
]
OptionalId: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="A release; by default the live one.")
]

release = typer.Typer(no_args_is_help=True, help="List, activate, roll back, prune and verify releases.")


@release.command("list")
def list_releases(bundle: Bundle, as_json: AsJson = False) -> None:
    """Every release, the oldest first; the live one is marked."""
    from dataclasses import asdict

    from indexing.bundle.bundle import Bundle as Releases
    from serving.cli.show_bundle import show_releases
    from serving.jobs.bundle_status import releases_of

    found = releases_of(Releases.open(bundle))
    show_json({"releases": [asdict(one) for one in found]}) if as_json else show_releases(found)


@release.command()
def activate(bundle: Bundle, release_id: ReleaseId, as_json: AsJson = False) -> None:
    """Make a release live, after reading every file of it."""
    from indexing.bundle.bundle import Bundle as Releases

    _tell_live(bundle, Releases.open(bundle).activate(release_id, **_by_whom()), as_json)


@release.command()
def rollback(bundle: Bundle, as_json: AsJson = False) -> None:
    """Make live again the release that was live before, after reading every file of it."""
    from indexing.bundle.bundle import Bundle as Releases

    _tell_live(bundle, Releases.open(bundle).rollback(**_by_whom()), as_json)


@release.command()
def prune(
    bundle: Bundle,
    keep: Annotated[int, typer.Option(help="Releases to keep: the live one, and those that rollbacks go to.")],
    as_json: AsJson = False,
) -> None:
    """Remove older releases and the parts that only they name; the newest release of all stays, live or not."""
    from rich.filesize import decimal

    from indexing.bundle.bundle import Bundle as Releases
    from indexing.bundle.prune import prune as prune_releases

    found = prune_releases(Releases.open(bundle), keep)
    if as_json:
        show_json(found._asdict())
    else:
        print(f"removed {len(found.releases):,} releases and {len(found.parts):,} parts, {decimal(found.bytes)}")


@release.command()
def verify(bundle: Bundle, release_id: OptionalId = None, as_json: AsJson = False) -> None:
    """Read every file of a release and of its updates; name each that is not as it was written, and end with 2."""
    from rich.filesize import decimal

    from indexing.bundle.bundle import Bundle as Releases

    verdict = Releases.open(bundle).verify(release_id)
    if as_json:
        faults = [{"path": str(fault.path), "what": fault.what} for fault in verdict.faults]
        about = {"subject": verdict.subject, "sound": verdict.sound, "files": verdict.files, "bytes": verdict.bytes}
        show_json(about | {"faults": faults})
    else:
        print("".join(f"{fault}\n" for fault in verdict.faults), end="")
    verdict.require_sound()
    if not as_json:
        print(f"{verdict.subject}: {verdict.files:,} files, {decimal(verdict.bytes)}, all as they were written")


def _by_whom() -> dict[str, str]:
    from serving.jobs.bundle_parts import user_name

    return {"who": user_name(), "at": datetime.now(UTC).isoformat(timespec="seconds")}


def _tell_live(bundle: Path, release: Release, as_json: bool) -> None:
    if as_json:
        show_json({"release": release.id, "live": True})
    else:
        print(f"release {release.id} of {bundle} is live")
