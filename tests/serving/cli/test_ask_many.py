"""Many requests on the shell: from a file or of the whole release, into a file that is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from serving.cli.app import app
from serving.engine import Engine


def shortlist(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="shortlist")


def test_shoppers_of_a_file_are_answered_into_another(bundle_path: Path, engine: Engine, tmp_path: Path) -> None:
    users = ["shopper-00001", "nobody", "shopper-00002"]
    pq.write_table(pa.table({"note": ["a", "b", "c"], "user_id": users}), tmp_path / "users.parquet")
    asked = ("recommend", bundle_path, "--users", tmp_path / "users.parquet", "--device", "cpu", "-k", "4")
    done = shortlist(*asked, "--out", tmp_path / "out.parquet", "--no-rerank")
    assert done.exit_code == 0, done.stderr
    assert f"3 answered by release {engine.release.id}" in done.stdout
    assert "1 of them: popular items" in done.stdout
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.to_pylist() == pa.Table.from_batches(engine.recommend_many(users, k=4, rerank=False)).to_pylist()
    assert found.schema.metadata[b"release"].decode() == engine.release.id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "users.parquet"]


def test_every_item_and_every_shopper_of_a_release(bundle_path: Path, engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    done = shortlist("similar", bundle_path, "--all", "--out", out, "-k", "2", "--device", "cpu", "--json")
    told = json.loads(done.stdout)
    assert (told["answered"], told["hits"], told["fallbacks"]) == (engine.state.version.size, 240, {})
    assert pq.read_table(out)["item_id"].unique().to_pylist() == engine.state.version.ids.to_pylist()
    done = shortlist(
        "recommend", bundle_path, "--all", "--out", out, "-k", "1", "--no-rerank", "--device", "cpu", "--json"
    )
    assert json.loads(done.stdout)["answered"] == len(engine.state.user_store.user_ids)


def test_queries_of_a_file(bundle_path: Path, engine: Engine, tmp_path: Path) -> None:
    table = pa.table({"query": ["red mug", "lamp"], "user_id": ["shopper-00001", "shopper-00002"]})
    pq.write_table(table, tmp_path / "queries.parquet")
    out = tmp_path / "out.parquet"
    done = shortlist("search", bundle_path, "--queries", tmp_path / "queries.parquet", "--out", out, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    expected = engine.search("lamp", user_id="shopper-00002").items
    assert pq.read_table(out)["item_id"].to_pylist()[10:] == [hit.item_id for hit in expected]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("recommend", "--users", "F"), "--users: give --out FILE.parquet for the answers"),
        (("recommend", "--all"), "--all: give --out"),
        (("recommend", "--out", "G"), "--out is for many requests; give --users FILE as well"),
        (("recommend", "--users", "F", "--all", "--out", "G"), "--users and --all are two ways"),
        (("recommend", "--all", "--user", "u", "--explain", "--out", "G"), "--user, --explain: of one request"),
        (("similar", "i", "--all", "--out", "G"), "ITEM: of one request, not of many"),
        (("similar",), "similar: give an item id; for many --items FILE or --all"),
        (("search",), "search: give the query; for many --queries FILE"),
        (("recommend", "--users", "nowhere.parquet", "--out", "G"), "nowhere.parquet cannot be read"),
    ],
)
def test_what_does_not_go_together_is_one_line(bundle_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = shortlist(arguments[0], bundle_path, *arguments[1:], "--device", "cpu")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_a_bad_file_leaves_what_was_there(bundle_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_text("before")
    users = tmp_path / "users.parquet"
    for table, said in (
        (pa.table({"user": ["u1"]}), "call the column of ids or texts user_id"),
        (pa.table({"user_id": pa.array(["u1", None])}), "user_id None of row 1"),
        (pa.table({"user_id": pa.array([], pa.string())}), "there is nothing to answer"),
    ):
        pq.write_table(table, users)
        done = shortlist("recommend", bundle_path, "--users", users, "--out", out, "--device", "cpu")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "users.parquet"]


def test_a_folder_that_is_not_there_is_one_line(bundle_path: Path, tmp_path: Path) -> None:
    done = shortlist("similar", bundle_path, "--all", "--out", tmp_path / "no" / "out.parquet", "--device", "cpu")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "there is no such folder" in done.stderr
