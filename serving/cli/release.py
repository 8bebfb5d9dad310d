"""`shortlist release ...`: which releases there are and which of them is live."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

import typer

from serving.cli.options import AsJson, Bundle
from serving.cli.show import show_json, show_live

ReleaseId: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="A release; `shortlist release list` shows them.")
]
OptionalId: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="A release; by default the live one.")
]

release = typer.Typer(no_args_is_help=True, help="List, activate, roll back, prune and verify releases.")


@release.command("list")
def list_releases(bundle: Bundle, as_json: AsJson = False) -> None:
    """List all releases, oldest first."""
    from dataclasses import asdict

    from indexing.bundle.bundle import Bundle as Releases
    from serving.cli.show_bundle import show_releases
    from serving.jobs.bundle_status import releases_of

    found = releases_of(Releases.open(bundle))
    show_json({"releases": [asdict(one) for one in found]}) if as_json else show_releases(found)


@release.command()
def activate(bundle: Bundle, release_id: ReleaseId, as_json: AsJson = False) -> None:
    """Make a release live.

    Every file of it is verified first.
    """
    from indexing.bundle.bundle import Bundle as Releases

    show_live(Releases.open(bundle).activate(release_id, **_author()), bundle, as_json)


@release.command()
def rollback(bundle: Bundle, as_json: AsJson = False) -> None:
    """Make the previous release live again.

    Every file of it is verified first.
    """
    from indexing.bundle.bundle import Bundle as Releases

    show_live(Releases.open(bundle).rollback(**_author()), bundle, as_json)


@release.command()
def prune(
    bundle: Bundle,
    keep: Annotated[int, typer.Option(help="How many releases to keep: the live one and those before it.")],
    as_json: AsJson = False,
) -> None:
    """Delete old releases.

    Files that no kept release uses are deleted. The newest release is always kept, live or not.
    """
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
    """Check every file of a release.

    Names each file that is missing or differs from what was written, and then ends with exit code 2.
    """
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
        print(f"{verdict.subject}: {verdict.files:,} files, {decimal(verdict.bytes)}, all intact")


def _author() -> dict[str, str]:
    from serving.jobs.bundle_parts import user_name

    return {"who": user_name(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
