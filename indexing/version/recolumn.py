"""Item columns for an index version that is there already: a version of their own, whose other files are shared."""

from __future__ import annotations

from collections.abc import Sequence

from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import JsonMap, file_sums
from indexing.version.build import own_name
from indexing.version.index_version import COLUMNS, IndexVersion
from indexing.version.item_columns import ItemColumn, write_column
from indexing.version.segments import has_segment


def with_columns(bundle: Bundle, version: IndexVersion, columns: Sequence[ItemColumn]) -> str | None:
    """The name of a version like this one that holds these columns; its own name where it holds them all.

    None where updates were appended to it: they belong to this version alone, and it stays as it is. Nothing becomes
    live. Raises BadBundle where the disk refuses.
    """
    stored = version.manifest.about.get("columns")
    known = dict(stored) if isinstance(stored, dict) else {}
    missing = [column for column in columns if not _is_stored(known.get(column.name), column)]
    if not missing:
        return version.name
    if has_segment(version.folder, 1):
        return None
    replaced = {str(entry["file"]) for column in missing if isinstance(entry := known.get(column.name), dict)}
    with bundle.stage("index") as folder:
        bundle.link_files("index", version.name, folder, without=replaced)
        for column in missing:
            path = write_column(folder / COLUMNS, column, version.items)
            known[column.name] = {"fingerprint": column.fingerprint, "file": path.relative_to(folder).as_posix()}
        requires = dict(version.manifest.requires)
        about: JsonMap = {**version.manifest.about, "columns": known}
        name, about = own_name(bundle, file_sums(folder), requires, about)
        bundle.add("index", name, folder, requires=requires, about=about)
    return name


def _is_stored(entry: object, column: ItemColumn) -> bool:
    return isinstance(entry, dict) and entry.get("fingerprint") == column.fingerprint
