"""`index build` as a nightly job: what it makes of the catalogue, what it reuses, what it goes on from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import index_jobs
from index_jobs import Build, catalogue, retitled, with_column
from indexing.bundle.bundle import Bundle
from indexing.version import build as rebuild
from indexing.version.index_version import IndexVersion
from retrieval.encoders.text_encoder import TextEncoder
from retrieval.text.rendering import item_texts
from retrieval.topk import Vectors
from retrieval.towers.serving import Towers
from serving.engine import Engine
from serving.jobs.train_one import index_ids
from serving.jobs.update_index import Update

items, data, job = index_jobs.items, index_jobs.data, index_jobs.job


class Read:
    """Takes note of every text that an encoder reads as a document; breaks off before the `last`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int | None = None) -> None:
        self.texts: list[str] = []
        encode = TextEncoder.encode

        def noted(encoder: TextEncoder, texts: Sequence[str], side: str = "document", **options: object) -> Vectors:
            if side == "document":
                if last is not None and len(self.texts) + len(texts) >= last:
                    raise KeyboardInterrupt
                self.texts += texts
            return encode(encoder, texts, side, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(TextEncoder, "encode", noted)


def test_a_build_follows_the_catalogue_and_keeps_the_models_and_the_shoppers(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, engine: Engine
) -> None:
    new = with_column(items.slice(0, 1), "item_id", ["brand-new"])
    catalogue(data, pa.concat_tables([items.slice(10), retitled(new, "Small Red Mug")]))
    made, before = job(), engine.release
    made.require_live()
    release = Bundle.open(own_bundle).current()
    assert release.id == made.release.id
    assert (release.towers, release.ranker, release.shoppers) == (before.towers, before.ranker, before.shoppers)
    assert release.index != before.index
    assert {name: gate for name, gate in release.gates.items() if name in before.gates} == before.gates
    assert "evaluation" not in release.figures
    rebuilt = Engine.open(own_bundle, device="cpu")
    everything = {hit.item_id for hit in rebuilt.recommend(k=1000, filter_seen=False).items}
    assert everything == set(index_ids(Bundle.open(own_bundle), release))
    assert "brand-new" in everything
    assert len(everything) == items.num_rows - 9
    (step,) = rebuilt.state.steps
    assert step.stored is not None
    assert len(step.stored) == rebuilt.state.version.size
    known = engine.state.user_store.user_ids[0].as_py()
    assert rebuilt.recommend(user_id=known).fallbacks == ()
    assert made.built.texts == (items.num_rows - 10, 0, 1)


def test_rows_that_were_set_aside_lie_beside_the_output(
    job: Build, data: Path, own_bundle: Path, items: pa.Table
) -> None:
    nameless = with_column(items.slice(0, 1), "item_id", [None])
    catalogue(data, pa.concat_tables([items, nameless]))
    job()
    assert pq.read_table(own_bundle / "rejected.parquet")["row"].to_pylist() == [items.num_rows]
    catalogue(data, items)
    job()
    assert not (own_bundle / "rejected.parquet").exists()


def test_a_build_of_what_is_there_embeds_nothing_and_is_published(
    job: Build, own_bundle: Path, items: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    job()
    before = Bundle.open(own_bundle).current()
    read = Read(monkeypatch)
    made = job()
    assert read.texts == []
    assert made.live
    assert made.built.texts == (items.num_rows, 0, 0)
    after = Bundle.open(own_bundle).current()
    assert (after.index, after.words, after.canaries) == (before.index, before.words, before.canaries)
    assert after.parent == before.id


def test_new_prices_cost_no_transformer_pass_and_new_titles_one_each(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = [price * 1.0001 for price in items["price"].to_pylist()]  # within their bands, which the text names
    changed = with_column(retitled(items, "a new title", "another one"), "price", prices)
    catalogue(data, changed)
    read = Read(monkeypatch)
    assert job().built.texts == (items.num_rows - 2, 0, 2)
    assert read.texts == item_texts(changed.slice(0, 2))
    store = Bundle.open(own_bundle)
    version = IndexVersion.open(store.path_of("index", store.current().index))
    towers = Towers.open(store.path_of("towers", store.current().towers), device="cpu")
    expected = towers.item.vectors(towers.encode_items(item_texts(changed)), changed)
    np.testing.assert_allclose(version.readings, expected, atol=1e-5)


def test_an_update_leaves_out_the_sentences_that_the_catalogue_shares(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [f"Free shipping on every order. Own words, number {at}." for at in range(items.num_rows)]
    catalogue(data, with_column(items, "description", told))
    read = Read(monkeypatch)
    job(force=True, why="all descriptions are new").require_live()
    assert len(read.texts) == items.num_rows
    assert not any("Free shipping" in text for text in read.texts)
    changed = with_column(items, "description", [f"{one} They changed." for one in told]).slice(0, 1)
    pq.write_table(changed, tmp_path / "upserts.parquet")
    update = Update(upsert=tmp_path / "upserts.parquet", delete=None, max_bad=0.1)
    update.apply(Bundle.open(own_bundle), device="cpu", say=lambda _: None)
    assert read.texts[-1].endswith("Own words, number 0. They changed.")
    assert "Free shipping" not in read.texts[-1]
    state = Engine.open(own_bundle, device="cpu").state
    row = state.version.rows_of(changed["item_id"].to_pylist())
    assert state.item_texts(row) == read.texts[-1:]
    assert "Free shipping" in str(state.version.values_at("description", row)[0])


def test_what_an_update_embedded_is_not_embedded_again(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = retitled(items, "steel mug one", "steel mug two")
    pq.write_table(changed.slice(0, 2), tmp_path / "upserts.parquet")
    update = Update(upsert=tmp_path / "upserts.parquet", delete=None, max_bad=0.1)
    update.apply(Bundle.open(own_bundle), device="cpu", say=lambda _: None)
    catalogue(data, changed)
    read = Read(monkeypatch)
    assert job().built.texts == (items.num_rows, 0, 0)
    assert read.texts == []


def test_an_interrupted_build_goes_on_from_its_last_part(
    job: Build, data: Path, own_bundle: Path, items: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild, "EMBEDDED_AT_ONCE", 16)
    catalogue(data, retitled(items, *(f"{title} again" for title in items["title"].to_pylist()[:50])))
    before = Bundle.open(own_bundle).current_id()
    with monkeypatch.context() as killed:
        read = Read(killed, last=40)
        with pytest.raises(KeyboardInterrupt):
            job()
    assert len(read.texts) == 32
    assert Bundle.open(own_bundle).current_id() == before
    rest = Read(monkeypatch)
    made = job()
    assert made.built.texts == (items.num_rows - 50, 32, 18)
    assert len(rest.texts) == 18
    assert set(rest.texts).isdisjoint(read.texts)
    assert "32 embedded by the interrupted job, 18 embedded" in made.line()
    assert not (own_bundle / "work").exists()
