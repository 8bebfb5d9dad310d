"""The manifest of a part's folder: its kind and name, the parts it requires, and the checksum of each file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from retrieval.errors import BadBundle, CorruptBundle

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
JsonMap: TypeAlias = dict[str, Json]

MANIFEST = "manifest.json"
SCHEMA = 1


class FileSum(NamedTuple):
    """The size and the checksum of one file."""

    bytes: int
    sha256: str  # hexadecimal


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest of a part.

    `requires` maps a kind to the name of the part that has to be in the same release: an index requires the towers that
    made its vectors. `about` holds whatever its maker records: settings, measured recall, fingerprints.
    """

    kind: str
    name: str
    files: Mapping[str, FileSum]
    requires: Mapping[str, str] = field(default_factory=dict)
    about: JsonMap = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The bytes of manifest.json; equal manifests give equal bytes."""
        files = {path: file._asdict() for path, file in self.files.items()}
        return dump_json(
            {
                "schema": SCHEMA,
                "kind": self.kind,
                "name": self.name,
                "requires": dict(self.requires),
                "about": self.about,
            }
            | {"files": files}
        )

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read a folder's manifest; raises CorruptBundle where it is missing, damaged or of another form."""
        path = folder / MANIFEST
        fields = load_json(path, schema=SCHEMA)
        try:
            return cls(
                kind=str(fields["kind"]),
                name=str(fields["name"]),
                files=_sums(fields["files"]),
                requires=_strings(fields["requires"]),
                about=_map(fields["about"]),
            )
        except (KeyError, TypeError) as error:
            raise CorruptBundle(
                f"{path} is not a manifest of this version ({error}); restore it or build again"
            ) from error


def file_sums(folder: Path) -> dict[str, FileSum]:
    """The size and sha256 of every file below a folder, except its manifest, by relative path, sorted.

    Raises BadBundle for a link, since the file it points at could change.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise BadBundle(f"{path} is a link or not a plain file; put a copy of the file in its place")
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: file_sum(path) for name, path in names.items() if name != MANIFEST}


def file_sum(path: Path) -> FileSum:
    """The size and sha256 of one file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileSum(file.tell(), digest)


def sha256(data: bytes) -> str:
    """The checksum of bytes in memory, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def dump_json(value: Mapping[str, object]) -> bytes:
    """Indented ASCII JSON with sorted keys; numbers that are not finite become null, numpy values plain ones."""
    return (json.dumps(_plain(value), indent=1, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def load_json(path: Path, *, schema: int) -> JsonMap:
    """Read a JSON object of format `schema`; raises CorruptBundle for a file that cannot be read, BadBundle for another
    format."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CorruptBundle(f"{path} cannot be read: {error.strerror}; restore it or build again") from error
    except ValueError as error:
        raise CorruptBundle(f"{path} is not whole JSON ({error}); restore it or build again") from error
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        raise CorruptBundle(f"{path} does not name its schema; restore it or build again")
    found = value["schema"]
    if found != schema:
        remedy = "install a newer one" if found > schema else "make a new bundle: shortlist run NEW_BUNDLE --data DATA"
        raise BadBundle(f"{path} is of format {found}, this shortlist reads format {schema}; {remedy}")
    return value


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _sums(value: Json) -> dict[str, FileSum]:
    sums = {}
    for name, file in _map(value).items():
        size, digest = _map(file)["bytes"], _map(file)["sha256"]
        if not isinstance(size, int) or not isinstance(digest, str):
            raise TypeError(f"{name} has no size and sha256")
        sums[name] = FileSum(size, digest)
    return sums


def _strings(value: Json) -> dict[str, str]:
    return {key: str(part) for key, part in _map(value).items()}


def _map(value: Json) -> JsonMap:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an object")
    return value
