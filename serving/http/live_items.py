"""Changes the live index with items that come as JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from fastapi import FastAPI

from indexing.bundle.bundle import Bundle
from retrieval.errors import BadData, ShortlistError
from serving.engine import Engine
from serving.http.problems import Problem
from serving.jobs.update_index import Update

log = logging.getLogger(__name__)


class LiveItems:
    """The items of a bundle's live index, for one caller at a time."""

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self._bundle, self._engine = bundle, engine

    @classmethod
    def of(cls, app: FastAPI) -> Self:
        """Those of an application. Raises Problem 501 for one that has an engine alone."""
        if (found := getattr(app.state, "live_items", None)) is None:
            raise Problem(HTTPStatus.NOT_IMPLEMENTED, "this application changes no items; run shortlist serve BUNDLE")
        live: Self = found
        return live

    def update(self, upsert: Sequence[dict[str, Any]], delete: Sequence[str]) -> dict[str, Any]:
        """What an update did, once this process answers from it; see `serving.jobs.update_index.Update`.

        Raises BadData for items that the index cannot have, and BadBundle where another process writes.
        """
        with TemporaryDirectory(prefix="shortlist-") as name:
            folder = Path(name)
            try:
                items = _items(upsert, folder / "upsert.parquet") if upsert else None
                ids = _written(folder / "delete.parquet", pa.table({"item_id": list(delete)})) if delete else None
                update = Update(upsert=items, delete=ids, max_bad=0.0)
                found = update.apply(self._bundle, device="cpu", say=log.info)
            except ShortlistError as error:
                raise type(error)(str(error).replace(f"{folder}/", "")) from error
        self._engine.refresh()
        told = found.to_dict()
        return {name: value for name, value in told.items() if name != "not_patched"}


def _items(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    try:
        return _written(path, pa.table({name: pa.array([row.get(name) for row in rows]) for name in names}))
    except (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadData(
            f"the items cannot be read as columns: {error}; send values of one type in each column"
        ) from error


def _written(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path
