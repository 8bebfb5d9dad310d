"""The sources of a release: read back as written, made when read, kept through updates, and codes that name an item."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexing.bundle.bundle import Bundle
from indexing.version.index_version import IndexVersion
from retrieval.errors import CorruptBundle
from retrieval.sources import registry
from retrieval.sources.behaviour import TakenBefore
from retrieval.sources.lexical import Lexical
from retrieval.sources.protocols import CandidateSource, RequestBatch
from retrieval.sources.registry import ReleaseParts, SourceSpec, register_source, source_specs
from retrieval.text.analysis import Analyzer
from serving.answering.source_registry import VOCABULARY, OpenedParts, Sources, read_words, write_words
from serving.engine import Engine
from serving.jobs.update_index import Update
from serving.request import Request

TEXTS = ["red mug", "blue mug mug", "a red lamp, 40w"]


def sources_over(engine: Engine, version: IndexVersion, *, words: Path | None) -> Sources:
    return Sources(OpenedParts(version, engine.state.user_store, engine.state.settings.targets, words, "en"))


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_SPECS", {spec.name: spec for spec in source_specs()})


def counted(name: str, made: list[tuple[str, int]], **how: bool) -> SourceSpec:
    """A source that notes the size of the version whenever it is made."""

    def make(parts: ReleaseParts) -> CandidateSource:
        made.append((name, parts.n_items))
        return TakenBefore()

    return SourceSpec(name=name, about="a test", make=make, counts_for=lambda case: False, **how)


@pytest.fixture
def updated_version(own_bundle: Path, sample_folder: Path, tmp_path: Path) -> IndexVersion:
    """The index with one item more."""
    return _updated(own_bundle, sample_folder, tmp_path, "KX-0011-B")


def _updated(bundle: Path, sample_folder: Path, tmp_path: Path, item_id: str) -> IndexVersion:
    """The index after the first item was upserted under an id."""
    store = Bundle.open(bundle)
    items = pq.read_table(sample_folder / "items.parquet").slice(0, 1)
    at = items.schema.get_field_index("item_id")
    pq.write_table(items.set_column(at, "item_id", pa.array([item_id])), tmp_path / "items.parquet")
    Update(upsert=tmp_path / "items.parquet", delete=None, max_bad=0.1).apply(store, device="cpu", say=lambda _: None)
    return IndexVersion.open(store.path_of("index", store.current().index), device="cpu").updated()


def test_words_are_read_as_they_were_written(engine: Engine, tmp_path: Path) -> None:
    write_words(tmp_path, TEXTS, Analyzer())
    found = sources_over(engine, engine.state.version, words=tmp_path)["words"]
    asked = RequestBatch.of_texts(["red mug", "lamp 40"])
    for ours, theirs in zip(found.read(asked).top(3), Lexical.of(TEXTS, Analyzer()).read(asked).top(3), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_compounds_are_split_by_the_words_of_the_release(tmp_path: Path) -> None:
    texts = ["Regenjacke", "Jacke", "Regen", "Cafetière", "Cafetiere"]
    write_words(tmp_path, texts, Analyzer.of_catalogue("de", texts))
    read = read_words(tmp_path, "de")
    assert read.analyzer.words("Regenjacken") == ["regenjacken", "regen", "jacken"]
    assert read.read(RequestBatch.of_texts(["cafetière"])).top(2).rows.tolist() == [[3, 4]]


def test_torn_words_are_named(engine: Engine, tmp_path: Path) -> None:
    write_words(tmp_path, TEXTS, Analyzer())
    (tmp_path / VOCABULARY).write_text("{", "utf-8")
    with pytest.raises(CorruptBundle, match=str(tmp_path)):
        sources_over(engine, engine.state.version, words=tmp_path)["words"]


def test_an_item_is_found_by_its_codes(engine: Engine) -> None:
    version = engine.state.version
    codes = [None if row % 2 else f"0-19-85{row:04d}" for row in range(version.size)]
    coded = replace(version, items=version.items.append_column("ISBN", pa.array(codes, pa.string())))
    numbers = pa.array(range(9_000_000, 9_000_000 + version.size), pa.int64())
    coded = replace(coded, items=coded.items.append_column("gtin", numbers))
    exact = sources_over(engine, coded, words=None)["exact"]
    asked = RequestBatch.of_texts([codes[4] or "", f" {version.ids[9].as_py()}", "0-19-859999", "", "9000003"])
    assert exact.read(asked).top(1).rows[:, 0].tolist() == [4, 9, -1, -1, 3]


def test_a_release_has_the_sources_that_it_has_the_parts_for(engine: Engine, tmp_path: Path) -> None:
    version = engine.state.version
    every = {spec.name for spec in source_specs()} - {"complements"}  # the shop relates nothing
    assert set(engine.state.retriever.sources) == every
    assert set(sources_over(engine, version, words=None)) == every - {"words"}
    without_price = replace(version, items=version.items.drop_columns(["price"]))
    assert set(sources_over(engine, without_price, words=tmp_path)) == every - {"price_fit"}


@pytest.mark.usefixtures("own_registry")
def test_a_source_is_made_once_and_not_before_it_is_read(engine: Engine) -> None:
    made: list[tuple[str, int]] = []
    register_source(counted("mine", made))
    sources = sources_over(engine, engine.state.version, words=None)
    assert "mine" in sources
    assert made == []
    assert sources["mine"] is sources["mine"]
    assert made == [("mine", engine.state.version.size)]


@pytest.mark.usefixtures("own_registry")
def test_an_update_makes_again_what_follows_updates_and_was_read_and_nothing_else(
    engine: Engine, updated_version: IndexVersion
) -> None:
    made: list[tuple[str, int]] = []
    for name, follows in (("stays", False), ("follows", True), ("unread", True)):
        register_source(counted(name, made, follows_updates=follows))
    before, size = sources_over(engine, engine.state.version, words=None), engine.state.version.size
    kept, followed = before["stays"], before["follows"]
    after = before.updated(updated_version)
    assert made == [("stays", size), ("follows", size), ("follows", size + 1)]
    assert after["stays"] is kept
    assert before["follows"] is followed
    assert after["follows"] is not followed
    assert set(after) == set(before)
    assert after["unread"] is not None
    assert made[-1] == ("unread", size + 1)


def test_a_new_item_is_found_by_its_id_after_the_update_alone(engine: Engine, updated_version: IndexVersion) -> None:
    before = sources_over(engine, engine.state.version, words=None)
    asked = RequestBatch.of_texts(["KX-0011-B", "kx 0011 b"])
    assert before["exact"].read(asked).top(1).rows.tolist() == [[-1], [-1]]
    after = before.updated(updated_version)
    assert after["exact"].read(asked).top(1).rows.tolist() == [[engine.state.version.size]] * 2
    assert before["exact"].read(asked).top(1).rows.tolist() == [[-1], [-1]]


def test_codes_of_an_item_follow_its_updates(
    engine: Engine, own_bundle: Path, sample_folder: Path, tmp_path: Path
) -> None:
    store = Bundle.open(own_bundle)
    before = IndexVersion.open(store.path_of("index", store.current().index), device="cpu")
    coded = before.items.append_column("ean", pa.array([f"40063813{row:05d}" for row in range(before.size)]))
    delta = _updated(own_bundle, sample_folder, tmp_path, "item-00000").delta
    assert delta is not None
    recoded = delta.items.append_column("ean", pa.array(["9780198526636"]))
    version = replace(before, items=coded, delta=replace(delta, items=recoded))
    exact = sources_over(engine, version, words=None)["exact"]
    asked = RequestBatch.of_texts(["0978 019 852663 6", "40063813-00000", "40063813-00001"])
    row = int(version.rows_of(["item-00000"])[0])
    assert exact.read(asked).top(1).rows[:, 0].tolist() == [row, -1, 1]


@pytest.mark.parametrize("read_before", [True, False])
def test_every_source_reads_users_of_new_items_after_an_update(
    engine: Engine, updated_version: IndexVersion, read_before: bool
) -> None:
    state = engine.state
    sources = Sources(OpenedParts(state.version, state.user_store, state.settings.targets, None, "en"))
    if read_before:
        assert all(source is not None for source in sources.values())
    contexts = replace(state.user_contexts, version=updated_version)
    behaviour = contexts.of_request(Request(history=["KX-0011-B", "item-00003"])).behaviour
    every = np.ones(updated_version.size, bool)
    for name, source in sources.updated(updated_version).items():
        assert (source.read(behaviour).top(5, None, every).rows < updated_version.size).all(), name
