"""Readers are found, have names of their own, and stay declarations."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.errors import BadConfig
from retrieval.importing import readers as folder
from retrieval.importing.registry import TABLES, Reader, reader_named, readers, register_reader

LINES = 60


def test_every_reader_is_found_by_its_name() -> None:
    assert {"shopify"} <= {reader.name for reader in readers()}
    assert all(reader_named(reader.name) is reader for reader in readers())


def test_a_reader_names_tables_of_the_contract_and_columns_that_it_has() -> None:
    for reader in readers():
        assert set(reader.tables) <= set(TABLES)
        for one in reader.inputs:
            assert set(one.required.split()) <= set(one.columns)
            assert one.required or one.file


def test_a_reader_is_a_declaration_of_at_most_sixty_lines() -> None:
    long = [
        path.name for path in Path(folder.__path__[0]).glob("*.py") if len(path.read_text("utf-8").splitlines()) > LINES
    ]
    assert long == []


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(BadConfig, match=r"--from shoppify: no such reader; there are: .*shopify"):
        reader_named("shoppify")


def test_a_name_is_taken_once() -> None:
    first = readers()[0]
    with pytest.raises(BadConfig, match="already registered"):
        register_reader(Reader(name=first.name, title="Another", inputs=(), tables={}))
