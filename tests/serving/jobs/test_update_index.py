"""`index update`: what it changes, what it leaves alone, what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from engine_changes import changed, ids
from index_jobs import with_column
from indexing.bundle.bundle import Bundle
from indexing.version.index_version import IndexVersion
from ranking.models.pair_tokens import TokenLists
from retrieval.data.dataset import DataSet
from retrieval.encoders.text_encoder import TextEncoder
from retrieval.errors import BadBundle, BadConfig, BadData, BadRequest
from retrieval.sources.fusion import Fusion
from retrieval.sources.scorers import PriceFit
from retrieval.text.rendering import item_texts
from retrieval.topk import Rows
from retrieval.towers.serving import Towers
from serving.answering.release_state import ReleaseState
from serving.answering.stages.encode import history_vectors
from serving.cli.app import app
from serving.engine import Engine
from serving.jobs.update_index import Update, Updated

FUSIONS = {
    "recommend": Fusion({"towers": 1.0, "co_occurrence": 0.7, "own_frequency": 5.0, "popularity_30d": 0.2}),
    "search": Fusion({"towers": 1.0, "words": 0.1}),
}


@pytest.fixture(scope="module")
def items(sample_folder: Path) -> pa.Table:
    return pq.read_table(sample_folder / "items.parquet")


@pytest.fixture
def said() -> list[str]:
    return []


def update(
    bundle: Path, upsert: Path | None = None, delete: Path | None = None, said: list[str] | None = None
) -> Updated:
    told = [] if said is None else said
    return Update(upsert=upsert, delete=delete, max_bad=0.1).apply(Bundle.open(bundle), device="cpu", say=told.append)


def upserts(folder: Path, table: pa.Table, name: str = "upserts") -> Path:
    path = folder / f"{name}.parquet"
    pq.write_table(table, path)
    return path


def ids_file(folder: Path, ids: Sequence[str]) -> Path:
    path = folder / "gone.txt"
    path.write_text("".join(f"{one}\n" for one in ids))
    return path


def live(bundle: Path) -> IndexVersion:
    store = Bundle.open(bundle)
    return IndexVersion.open(store.path_of("index", store.current().index), device="cpu").updated()


def fused(engine: Engine) -> Engine:
    return changed(engine, retriever=replace(engine.state.retriever, fusions=FUSIONS))


def reranking(engine: Engine) -> Engine:
    return changed(engine, reranks=frozenset({"search"}))


def test_upserts_have_the_vectors_that_a_build_would_give_them(
    own_bundle: Path, items: pa.Table, tmp_path: Path
) -> None:
    some = items.slice(3, 4)
    titles = ["red steel mug", *some["title"].to_pylist()[1:]]
    some = with_column(with_column(some, "title", titles), "item_id", ["brand-new", *some["item_id"].to_pylist()[1:]])
    done = update(own_bundle, upserts(tmp_path, some))
    assert (done.number, done.upserted, done.new, done.embedded, done.deleted, done.set_aside) == (1, 4, 1, 1, 0, 0)
    version, store = live(own_bundle), Bundle.open(own_bundle)
    rows = version.rows_of(some["item_id"].to_pylist())
    assert rows.tolist() == [items.num_rows, 4, 5, 6]
    towers = Towers.open(store.path_of("towers", store.current().towers), device="cpu")
    stored = version.items_at(rows)
    assert stored.equals(some.cast(stored.schema))
    expected = towers.item.vectors(towers.encode_items(item_texts(some)), some)
    np.testing.assert_allclose(version.readings_at(rows), expected, atol=1e-5)


def test_a_new_price_costs_no_transformer_pass(
    own_bundle: Path, items: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a text was encoded")

    prices = [price * 1.0001 for price in items["price"].to_pylist()]  # within their bands, which the text names
    monkeypatch.setattr(TextEncoder, "encode", refuse)
    done = update(own_bundle, upserts(tmp_path, with_column(items, "price", prices)))
    assert (done.upserted, done.new, done.embedded) == (items.num_rows, 0, 0)
    assert live(own_bundle).values_at("price", np.arange(3)).to_pylist() == prices[:3]


def test_items_fit_a_shopper_by_their_new_prices(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    engine = Engine.open(own_bundle)
    before = engine.state.retriever.sources["price_fit"]
    assert isinstance(before, PriceFit)
    some = with_column(items.slice(3, 1), "price", [77.0])
    new = with_column(with_column(items.slice(5, 1), "item_id", ["brand-new"]), "price", [88.0])
    update(own_bundle, upserts(tmp_path, pa.concat_tables([some, new])))
    after = Engine.open(own_bundle).state.retriever.sources["price_fit"]
    assert isinstance(after, PriceFit)
    np.testing.assert_allclose(np.exp(after.prices[[3, items.num_rows]]), [77.0, 88.0])
    np.testing.assert_array_equal(np.delete(after.prices[:-1], 3), np.delete(before.prices, 3))


def test_a_text_that_an_update_brought_is_not_embedded_again(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    path = upserts(tmp_path, with_column(items.slice(0, 2), "title", ["red mug", "blue lamp"]))
    assert [update(own_bundle, path).embedded for _ in range(2)] == [2, 0]


def test_columns_that_the_file_lacks_stay_as_they_were(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    known, path = items.slice(2, 1), tmp_path / "part.parquet"
    titles = [known["title"][0].as_py(), "red mug"]
    pq.write_table(
        pa.table({"title": titles, "item_id": [known["item_id"][0].as_py(), "new"], "in_stock": [False] * 2}), path
    )
    update(own_bundle, path)
    version = live(own_bundle)
    first, second = version.items_at(version.rows_of([known["item_id"][0].as_py(), "new"])).to_pylist()
    assert first == known.to_pylist()[0] | {"in_stock": False}
    assert {name for name, value in second.items() if value is not None} == {"item_id", "title", "in_stock"}


@pytest.mark.parametrize("parquet", [True, False])
def test_a_deleted_item_is_never_answered_whoever_bought_it(
    own_bundle: Path, engine: Engine, data: DataSet, tmp_path: Path, parquet: bool
) -> None:
    assert data.events is not None
    before = fused(engine)
    user = data.user_ids[1]
    bought = [data.item_ids[row] for row in data.events.item[data.events.user == 1].tolist()]
    gone = {*bought, *ids(before.recommend(user_id="nobody"))[:4], *ids(before.search("red mug"))[:4]}
    path = ids_file(tmp_path, sorted(gone))
    if parquet:
        path = tmp_path / "gone.parquet"
        pq.write_table(pa.table({"item_id": sorted(gone)}), path)
    done = update(own_bundle, delete=path)
    assert (done.deleted, done.unknown, done.upserted) == (len(gone), 0, 0)
    after = fused(Engine.open(own_bundle, device="cpu", auto_reload=False))
    k, some = data.n_items, sorted(gone)[0]
    answers = [
        after.recommend(user_id=user, filter_seen=False, k=k),
        after.recommend(user_id="nobody", k=k),
        after.recommend(history=bought, filter_seen=False, k=k),
        after.search("red mug", k=k),
        after.search(some, k=k),
        after.similar(some, k=k),
        after.complete_cart([some], user_id=user, k=k),
    ]
    assert not any(gone & set(ids(answer)) for answer in answers)
    assert all(len(answer.items) == k - len(gone) for answer in answers[:6])
    vectors = [history_vectors(one.state, one.state.user_contexts.of_user(user)) for one in (before, after)]
    np.testing.assert_allclose(*vectors, atol=1e-6)  # what was bought still tells who it is


def test_an_item_that_comes_again_is_answered_again(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    one = items["item_id"][5].as_py()
    gone = ids_file(tmp_path, [one, "no such item"])
    done = [update(own_bundle, delete=gone) for _ in range(2)]
    assert [(each.deleted, each.unknown, each.number) for each in done] == [(1, 1, 1), (0, 2, 1)]
    assert update(own_bundle, upserts(tmp_path, items.slice(5, 1))).new == 0
    assert ids(Engine.open(own_bundle, device="cpu", auto_reload=False).search(one))[0] == one


def test_a_new_item_is_found_by_its_id_and_its_text_and_read_in_a_history(
    own_bundle: Path, items: pa.Table, tmp_path: Path
) -> None:
    new = with_column(with_column(items.slice(7, 1), "item_id", ["brand-new"]), "title", ["green cordless drill"])
    update(own_bundle, upserts(tmp_path, new))
    engine = fused(Engine.open(own_bundle, device="cpu", auto_reload=False))
    assert ids(engine.search("brand-new"))[0] == "brand-new"
    text = item_texts(new)[0]
    vectors = engine.state.user_tower.queries([text])
    nearest = engine.state.retriever.by_towers(vectors, 1).rows
    assert engine.state.version.ids_of(nearest[0]) == ["brand-new"]
    answer = engine.recommend(history=["brand-new", items["item_id"][0].as_py()], filter_seen=True)
    assert answer.fallbacks == ()
    assert "brand-new" not in ids(answer)
    assert len(engine.similar("brand-new").items) == 10


def test_a_word_that_an_update_brought_is_not_corrected(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    engine = Engine.open(own_bundle, device="cpu")
    assert engine.search("titanuim").corrected_query == "titanium"
    update(own_bundle, upserts(tmp_path, with_column(items.slice(3, 1), "title", ["Titanuim Mugs"])))
    engine.refresh()
    assert engine.search("titanuim").corrected_query == ""
    assert engine.search("titanuum").corrected_query == "titanium"


def test_filters_are_obeyed_as_items_are_now(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    cheap = with_column(items.slice(10, 2), "price", [0.5, 0.75])
    new = with_column(with_column(items.slice(12, 1), "price", [0.25]), "item_id", ["brand-new"])
    update(
        own_bundle,
        upserts(tmp_path, pa.concat_tables([cheap, new])),
        ids_file(tmp_path, [items["item_id"][20].as_py()]),
    )
    engine = fused(Engine.open(own_bundle, device="cpu", auto_reload=False))
    wanted, filters = {*cheap["item_id"].to_pylist(), "brand-new"}, [("price", "<", 1.0)]
    known = items["item_id"][3].as_py()
    for answer in (
        engine.search("red mug", filters=filters),
        engine.recommend(user_id="nobody", filters=filters),
        engine.recommend(history=[known], filters=filters),
        engine.similar(known, filters=filters),
        engine.complete_cart([known], filters=filters),
    ):
        assert set(ids(answer)) == wanted
        assert "all items that may be answered" in answer.fallbacks
    stock = items.filter(items["in_stock"])["item_id"].to_pylist()
    found = ids(engine.search("red mug", k=1_000, filters=[[("in_stock", "=", True)], [("price", "<", 1.0)]]))
    assert set(found) == {*stock, *wanted} - {items["item_id"][20].as_py()}
    assert engine.search(known, filters=filters).items[0].item_id in wanted  # named, and not allowed
    with pytest.raises(BadRequest, match="colour"):
        engine.search("red mug", filters=[("colour", "=", "red")])


def test_an_updated_item_is_reranked_by_its_new_text_and_the_others_by_their_stored_tokens(
    own_bundle: Path, items: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = with_column(items.slice(10, 2), "title", ["red steel mug", "green cordless drill"])
    some = with_column(some, "item_id", [items["item_id"][10].as_py(), "brand-new"])
    wanted = [*some["item_id"].to_pylist(), *items["item_id"].to_pylist()[20:23]]
    filters = [("item_id", "in", wanted)]
    before = reranking(Engine.open(own_bundle, device="cpu", auto_reload=False)).search("red mug", filters=filters)
    update(own_bundle, upserts(tmp_path, some))
    engine = reranking(Engine.open(own_bundle, device="cpu", auto_reload=False))
    without = tuple(replace(step, stored=None) for step in engine.state.steps)
    from_texts = changed(engine, steps=without).search("red mug", filters=filters)
    rendered: list[str] = []
    item_texts = ReleaseState.item_texts

    def recorded(state: ReleaseState, rows: Rows) -> list[str]:
        rendered.extend(state.version.ids_of(rows))
        return item_texts(state, rows)

    monkeypatch.setattr(ReleaseState, "item_texts", recorded)
    answer = engine.search("red mug", filters=filters)
    assert answer.reranked
    assert answer.items == from_texts.items
    assert sorted(ids(answer)) == sorted(wanted)
    assert sorted(rendered) == sorted(some["item_id"].to_pylist())
    scores, scores_before = ({hit.item_id: hit.score for hit in found.items} for found in (answer, before))
    assert scores[wanted[0]] != scores_before[wanted[0]]


def test_a_build_after_updates_stores_the_tokens_of_the_items_as_they_are_then(
    own_bundle: Path, sample_folder: Path, items: pa.Table, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(sample_folder, tmp_path / "shop"))
    changed = with_column(items, "title", ["red steel mug", *items["title"].to_pylist()[1:]])
    update(own_bundle, upserts(tmp_path, changed.slice(0, 1)))
    pq.write_table(changed, data / "items.parquet")
    built = CliRunner().invoke(app, ["index", "build", str(own_bundle), "--data", str(data), "--device", "cpu"])
    assert built.exit_code == 0, built.output
    engine = Engine.open(own_bundle, device="cpu", auto_reload=False)
    (step,), version = engine.state.steps, engine.state.version
    rows = np.arange(version.size)
    assert (version.revision, version.ids.to_pylist()) == (0, changed["item_id"].to_pylist())
    assert step.stored is not None
    expected = step.scorer.tokenizer.encode(item_texts(changed), "item")
    np.testing.assert_array_equal(TokenLists.of(step.stored.at(rows)).ids, expected.ids)


def test_a_release_is_evaluated_as_it_was_built(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    update(own_bundle, delete=ids_file(tmp_path, items["item_id"].to_pylist()[:3]))
    store = Bundle.open(own_bundle)
    built = Engine.of_release(store, store.current(), device="cpu")
    assert built.state.version.ids.to_pylist() == items["item_id"].to_pylist()
    assert built.search("red mug").index_revision == 0


def test_a_bad_row_is_set_aside_and_counted(own_bundle: Path, items: pa.Table, tmp_path: Path, said: list[str]) -> None:
    some = items.slice(0, 12)
    some = with_column(some, "title", [*some["title"].to_pylist()[:11], " "])
    done = update(own_bundle, upserts(tmp_path, some), said=said)
    assert (done.upserted, done.set_aside) == (11, 1)
    assert any("title null or blank" in line for line in said)
    assert pq.read_table(own_bundle / "rejected.parquet")["row"].to_pylist() == [11]


def test_what_is_not_fit_for_an_update_is_refused_and_changes_nothing(
    own_bundle: Path, items: pa.Table, tmp_path: Path
) -> None:
    one = items["item_id"][0].as_py()
    other = items.slice(0, 1).append_column("colour", pa.array(["red"]))
    listed = with_column(items.slice(0, 1), "title", ["x"]).drop_columns(["category"])
    listed = listed.append_column("category", pa.array(["Mugs"]))
    bad_rows = with_column(items.slice(0, 4), "title", ["a", "b", None, None])
    empty, binary = tmp_path / "empty.txt", tmp_path / "binary.txt"
    empty.write_text("\n \n")
    binary.write_bytes(b"\xff\xfe\x00")
    cases: list[tuple[type[Exception], str, Path | None, Path | None]] = [
        (BadConfig, "--upsert FILE", None, None),
        (BadData, "does not exist", tmp_path / "none.parquet", None),
        (BadData, "no column colour", upserts(tmp_path, other, "colour"), None),
        (BadData, "both name 1 items", upserts(tmp_path, items.slice(0, 2), "both"), ids_file(tmp_path, [one])),
        (BadData, "column category is string", upserts(tmp_path, listed, "category"), None),
        (BadData, "2 of 4 rows", upserts(tmp_path, bad_rows, "rows"), None),
        (BadData, "holds no item ids", None, empty),
        (BadData, "not UTF-8", None, binary),
        (BadData, "cannot be read", None, tmp_path / "none.txt"),
        (BadData, "has no column item_id", None, upserts(tmp_path, pa.table({"sku": ["a"]}), "sku")),
    ]
    for error, message, upsert, delete in cases:
        with pytest.raises(error, match=message):
            update(own_bundle, upsert, delete)
    assert live(own_bundle).revision == 0
    assert not (own_bundle / "rejected.parquet").exists()


def test_given_vectors_can_only_be_deleted(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    store = Bundle.open(own_bundle)
    given = replace(store.current(), id="given", parent=None, manifests={})
    store.publish(replace(given, settings=given.settings | {"item_vectors": "given"}))
    with pytest.raises(BadBundle, match=r"supplied from outside and cannot be computed here; run: shortlist adopt"):
        update(own_bundle, upserts(tmp_path, items.slice(0, 1)))
    assert update(own_bundle, delete=ids_file(tmp_path, [items["item_id"][0].as_py()])).deleted == 1


def test_a_second_writer_is_refused(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    with Bundle.open(own_bundle).lock(), pytest.raises(BadBundle, match="is being written by process"):
        update(own_bundle, delete=ids_file(tmp_path, [items["item_id"][0].as_py()]))


def test_the_command_says_what_it_did(own_bundle: Path, items: pa.Table, tmp_path: Path) -> None:
    path = upserts(tmp_path, with_column(items.slice(0, 2), "title", ["red mug", "blue lamp"]))
    gone = ids_file(tmp_path, [items["item_id"][9].as_py(), "unknown"])
    command = ["index", "update", str(own_bundle), "--upsert", str(path), "--delete", str(gone), "--device", "cpu"]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    assert "2 items upserted, 0 of them new, 2 texts embedded; 1 deleted" in told.stdout
    assert "1 of the ids to delete were not in the index" in told.stdout
    again = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (again["number"], again["embedded"], again["deleted"], again["unknown"]) == (2, 0, 0, 2)
    shown = CliRunner().invoke(app, ["search", str(own_bundle), "red", "--json", "--filter", '[["item_id", "=", "x"]]'])
    assert json.loads(shown.stdout)["items"] == []
    assert json.loads(shown.stdout)["index_revision"] == 2
