"""The commands of `shortlist index` that tell of releases, move, check, remove and export them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.options import AsJson, Bundle
from serving.cli.show import show_json

if TYPE_CHECKING:
    from indexing.bundle.releases import Release

ReleaseName = Annotated[str, typer.Argument(metavar="RELEASE", help="Its name, as `shortlist index versions` has it.")]
OneOrLive = Annotated[str | None, typer.Argument(metavar="[RELEASE]", help="A release; the live one if none is named.")]


def add_commands(index: typer.Typer) -> None:
    """Add the commands of this module to `shortlist index`."""
    for command in (status, versions, activate, rollback, prune, verify, export):
        index.command()(command)


def status(bundle: Bundle, as_json: AsJson = False) -> None:
    """What is live, what was updated since, who writes now, and what all of it takes on the disk."""
    from indexing.bundle.bundle import Bundle as Releases
    from serving.cli.show_bundle import status_lines
    from serving.jobs.bundle_status import status as status_of

    found = status_of(Releases.open(bundle))
    show_json(found.to_dict()) if as_json else print("\n".join(status_lines(found)))


def versions(bundle: Bundle, as_json: AsJson = False) -> None:
    """Every release, the oldest first; the live one is marked."""
    from dataclasses import asdict

    from indexing.bundle.bundle import Bundle as Releases
    from serving.cli.show_bundle import show_versions
    from serving.jobs.bundle_status import versions as versions_of

    found = versions_of(Releases.open(bundle))
    show_json({"versions": [asdict(one) for one in found]}) if as_json else show_versions(found)


def activate(bundle: Bundle, release: ReleaseName, as_json: AsJson = False) -> None:
    """Make a release live, after reading every file of it."""
    from indexing.bundle.bundle import Bundle as Releases

    _tell_live(bundle, Releases.open(bundle).activate(release, **_by_whom()), as_json)


def rollback(bundle: Bundle, as_json: AsJson = False) -> None:
    """Make live again the release that was live before, after reading every file of it."""
    from indexing.bundle.bundle import Bundle as Releases

    _tell_live(bundle, Releases.open(bundle).rollback(**_by_whom()), as_json)


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


def verify(bundle: Bundle, release: OneOrLive = None, as_json: AsJson = False) -> None:
    """Read every file of a release and of its updates; name each that is not as it was written, and end with 2."""
    from rich.filesize import decimal

    from indexing.bundle.bundle import Bundle as Releases

    verdict = Releases.open(bundle).verify(release)
    if as_json:
        faults = [{"path": str(fault.path), "what": fault.what} for fault in verdict.faults]
        about = {"subject": verdict.subject, "sound": verdict.sound, "files": verdict.files, "bytes": verdict.bytes}
        show_json(about | {"faults": faults})
    else:
        print("".join(f"{fault}\n" for fault in verdict.faults), end="")
    verdict.require_sound()
    if not as_json:
        print(f"{verdict.subject}: {verdict.files:,} files, {decimal(verdict.bytes)}, all as they were written")


def export(
    bundle: Bundle,
    out: Annotated[Path, typer.Option("--out", help="The Parquet file to write.")],
    attributes: Annotated[bool, typer.Option("--attributes", help="Every attribute of the items too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the ids and vectors of the live index, with its updates, to Parquet, for any vector database."""
    from indexing.bundle.bundle import Bundle as Releases
    from indexing.version.export import export_version
    from indexing.version.index_version import IndexVersion

    releases = Releases.open(bundle)
    live = releases.current()
    version = IndexVersion.open(releases.path_of("index", live.index), device="cpu").updated()
    found = export_version(version, out, release=live.id, attributes=attributes)
    if as_json:
        show_json(found._asdict() | {"release": live.id, "update": version.update})
    else:
        print(f"{found.path}: {found.items:,} items of release {live.id}, vectors of {found.dim} numbers")


def _by_whom() -> dict[str, str]:
    from serving.jobs.bundle_parts import user_name

    return {"who": user_name(), "at": datetime.now(UTC).isoformat(timespec="seconds")}


def _tell_live(bundle: Path, release: Release, as_json: bool) -> None:
    if as_json:
        show_json({"release": release.id, "live": True})
    else:
        print(f"release {release.id} of {bundle} is live")
