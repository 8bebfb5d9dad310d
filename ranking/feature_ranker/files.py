"""The JSON file that says what a saved feature ranker is, beside which a kind may keep others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval.errors import BadBundle, CorruptBundle

VERSION = 1  # of the layout of the files
REMEDY = "restore it or train the ranker again"


def write_about(folder: Path, name: str, kind: str, about: Mapping[str, Any]) -> None:
    """Writes `about` and the kind to `name`.json in `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"kind": kind, "version": VERSION, **about}, indent=1, allow_nan=False)
    (folder / f"{name}.json").write_text(text + "\n", "utf-8")


def read_about(folder: Path, name: str) -> dict[str, Any]:
    """What `write_about` wrote, with `kind`. Raises BadBundle where the file is missing or of another version,
    CorruptBundle where it is not JSON."""
    path = folder / f"{name}.json"
    try:
        about = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise BadBundle(f"{path} is missing; {REMEDY}") from error
    except ValueError as error:
        raise CorruptBundle(f"{path} cannot be read ({error}); {REMEDY}") from error
    if not isinstance(about, dict) or about.get("version") != VERSION or not isinstance(about.get("kind"), str):
        raise BadBundle(f"{path} is not a feature ranker of this version; train the ranker again")
    return about


def not_of_this_version(folder: Path, name: str, error: Exception) -> BadBundle:
    """What to raise where an entry of `name`.json is missing or is something else."""
    return BadBundle(f"{folder / name}.json is not of this version ({error!r}); train the ranker again")
