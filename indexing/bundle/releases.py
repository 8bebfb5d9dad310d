"""A release: the set of parts that becomes live, can be rolled back, and is named in answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from indexing.bundle.manifest import JsonMap, Manifest, dump_json, load_json, sha256
from retrieval.errors import BadBundle, CorruptBundle, StaleArtefact

SCHEMA = 3
KINDS = ("towers", "ranker", "index", "shoppers", "words", "canaries", "second_stage")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REMEDY = {
    "towers": "shortlist train towers {bundle} --data DATA",
    "ranker": "shortlist train ranker {bundle} --data DATA",
    "index": "shortlist index build {bundle} --data DATA",
    "shoppers": "shortlist index build {bundle} --data DATA",
    "words": "shortlist index build {bundle} --data DATA",
    "canaries": "shortlist index build {bundle} --data DATA",
    "second_stage": "shortlist run {bundle} --data DATA",
}


@dataclass(frozen=True, kw_only=True)
class Release:
    """The parts that answer together, and how they were made.

    `towers`, `ranker`, `index`, `shoppers`, `words`, `canaries` and `second_stage` (the rankers that read features)
    name folders of the bundle. `created` is an ISO 8601 time from the caller's clock. `parent` (the release that was
    live when this one was recorded) and `manifests` (the sha256 of each part's manifest) are filled in by
    `Bundle.record`.
    """

    id: str
    created: str
    towers: str
    index: str
    ranker: str | None = None
    shoppers: str | None = None
    words: str | None = None
    canaries: str | None = None
    second_stage: str | None = None
    figures: JsonMap = field(default_factory=dict)
    gates: JsonMap = field(default_factory=dict)
    settings: JsonMap = field(default_factory=dict)
    split: JsonMap = field(default_factory=dict)
    who: str = ""
    why: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None
    manifests: Mapping[str, str] = field(default_factory=dict)

    def parts(self) -> dict[str, str]:
        """The names of its parts, by kind."""
        named = {kind: getattr(self, kind) for kind in KINDS}
        return {kind: name for kind, name in named.items() if name is not None}

    def to_json(self) -> bytes:
        """The bytes of releases/<id>.json, which hold their own checksum."""
        body = json.loads(dump_json({one.name: getattr(self, one.name) for one in fields(self)}))
        return dump_json({"schema": SCHEMA, "sha256": sha256(dump_json(body)), "release": body})

    @classmethod
    def read(cls, path: Path) -> Release:
        """Read a release; raises CorruptBundle where the file is cut short, changed or lacks a field, BadBundle where
        it is of another format."""
        envelope = load_json(path, schema=SCHEMA)
        body = envelope.get("release")
        if not isinstance(body, dict) or sha256(dump_json(body)) != envelope.get("sha256"):
            raise CorruptBundle(f"{path} is changed: its contents differ from its checksum; restore it or build again")
        if body.get("id") != path.stem:
            raise CorruptBundle(f"{path} holds release {body.get('id')}; give the file its own name back")
        known = {one.name for one in fields(cls)}
        try:
            return cls(**{key: value for key, value in body.items() if key in known})  # type: ignore[arg-type]
        except TypeError as error:
            raise CorruptBundle(f"{path} is not a release of this version ({error}); build again") from error


def rerank_gates(release: Release) -> JsonMap:
    """The gates of a release that switch the order by features and reranking on or off, by task."""
    return {
        name: gate
        for name, gate in release.gates.items()
        if isinstance(gate, dict) and {"on", "features"} & gate.keys()
    }


def release_id(created: str, *parts: str | None) -> str:
    """A name that sorts by time and differs between releases of the same second.

    >>> release_id("2024-05-06T07:08:09+00:00", "towers-a", None, "index-b")
    '20240506T070809-8937d261'
    """
    stamp = re.sub(r"[^0-9T]", "", created.partition("+")[0].partition(".")[0])
    digest = hashlib.blake2b(json.dumps([created, *parts]).encode("ascii"), digest_size=4)
    return f"{stamp}-{digest.hexdigest()}"


def check_name(name: str, where: str) -> str:
    """The name, if it is safe as a file name; raises BadBundle otherwise."""
    if not _NAME.fullmatch(name):
        raise BadBundle(f"{where}: {name!r} is not a valid name; use letters, digits, dots, dashes and underscores")
    return name


def require_coherent(release: Release, manifests: Mapping[str, Manifest], bundle: Path) -> None:
    """Raise StaleArtefact unless every part's required parts are in the release, such as an index's towers."""
    parts = release.parts()
    for kind, manifest in manifests.items():
        for needed, name in manifest.requires.items():
            if parts.get(needed) != name:
                run = _REMEDY[kind].format(bundle=bundle)
                raise StaleArtefact(
                    f"{kind}/{manifest.name} was made by {needed}/{name}, release {release.id} has "
                    f"{needed}/{parts.get(needed)}; run: {run}"
                )
