"""What the engine knows of its shoppers, over whichever index it is opened with."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from indexing.version.hash_index import HashIndex, hash_keys
from indexing.version.index_version import IndexVersion
from retrieval.data.dataset import DataSet
from retrieval.errors import BadBundle
from retrieval.sources.recent import RecentCoOccurrence
from serving.answering.source_registry import OpenedParts, Sources
from serving.answering.user_store import UserStore, write_users


@pytest.fixture(scope="module")
def folder(data: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert data.events is not None
    path = tmp_path_factory.mktemp("shoppers")
    write_users(path, data, ["purchase"], np.ones(len(data.events), bool))
    return path


def index_of(ids: list[str]) -> IndexVersion:
    """An index that knows its items, and nothing else."""
    lookup = HashIndex.build(hash_keys(ids))
    found = SimpleNamespace(size=len(ids), items=pa.table({}), rows_of=lambda wanted: lookup.find(hash_keys(wanted)))
    return cast("IndexVersion", found)


def items_of(shoppers: UserStore, user: str, ids: list[str]) -> list[str | None]:
    code = shoppers.code(user)
    assert code is not None
    offsets, items = shoppers.timeline.offsets, shoppers.timeline.item
    mine = slice(offsets[code], offsets[code + 1])
    asked = shoppers.timeline.query[mine] >= 0
    return [ids[row] if row >= 0 else None for row in items[mine][~asked]]


def test_every_event_is_there_in_its_order(data: DataSet, folder: Path) -> None:
    assert data.events is not None
    ids = list(data.item_ids)
    shoppers = UserStore.open(folder, index_of(ids))
    for user in (0, 7, data.n_users - 1):
        rows = data.events.item[data.events.offsets[user] : data.events.offsets[user + 1]]
        assert items_of(shoppers, data.user_ids[user], ids) == [ids[row] for row in rows]


def test_rows_follow_the_index_and_items_that_it_lacks_are_absent(data: DataSet, folder: Path) -> None:
    assert data.events is not None
    ids = list(data.item_ids)
    fewer = ids[:0:-2]
    whole, part = UserStore.open(folder, index_of(ids)), UserStore.open(folder, index_of(fewer))
    user = data.user_ids[3]
    expected = [item if item in fewer else None for item in items_of(whole, user, ids)]
    assert items_of(part, user, fewer) == expected
    assert part.popularity.shape == (len(fewer),)
    for row in (0, len(fewer) - 1):
        assert part.popularity[row] == whole.popularity[ids.index(fewer[row])]


@pytest.mark.parametrize("what", ["together", "after", "lately"])
def test_what_goes_together_follows_the_rows_of_the_index(data: DataSet, folder: Path, what: str) -> None:
    ids = list(data.item_ids)
    fewer = ids[:0:-2]
    whole, part = (UserStore.open(folder, index_of(some)).similarities[what]() for some in (ids, fewer))
    rows = [ids.index(item) for item in fewer]
    assert whole.nnz > part.nnz > 0
    np.testing.assert_array_equal(part.toarray(), whole.toarray()[np.ix_(rows, rows)])


def test_a_folder_from_before_what_comes_right_after_was_kept_opens_without_it(
    folder: Path, data: DataSet, tmp_path: Path
) -> None:
    for path in folder.iterdir():
        if not path.name.startswith("after"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    version = index_of(list(data.item_ids))
    before, now = UserStore.open(tmp_path, version), UserStore.open(folder, version)
    assert set(now.similarities) - set(before.similarities) == {"after"}
    sources = [Sources(OpenedParts(version, store, ("purchase",), None, "en")) for store in (now, before)]
    assert set(sources[0]) - set(sources[1]) == {"right_after"}


def test_popularity_counts_the_events_that_count(data: DataSet, folder: Path) -> None:
    assert data.events is not None
    shoppers = UserStore.open(folder, index_of(list(data.item_ids)))
    bought = data.events.item[data.events.is_kind(["purchase"])]
    np.testing.assert_array_equal(shoppers.popularity, np.bincount(bought, minlength=data.n_items))


def test_a_shopper_who_is_not_known_has_no_code(folder: Path, data: DataSet) -> None:
    shoppers = UserStore.open(folder, index_of(list(data.item_ids)))
    assert shoppers.code("nobody") is None
    assert shoppers.code("") is None
    assert UserStore.nobody(3).code(data.user_ids[0]) is None


def test_kinds_are_coded_as_a_tower_knows_them(folder: Path, data: DataSet) -> None:
    shoppers = UserStore.open(folder, index_of(list(data.item_ids)))
    recoded = shoppers.recoded(("view", "purchase"))
    names = np.array([*shoppers.timeline.kinds])[shoppers.timeline.kind]
    assert set(names[recoded.timeline.kind == 1]) == {"purchase"}
    assert set(names[recoded.timeline.kind == 0]) == {"view"}
    assert set(names[recoded.timeline.kind == -1]) == set(names) - {"view", "purchase"}


def test_a_folder_that_names_no_kinds_is_refused(folder: Path, data: DataSet, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "about.json").write_text(json.dumps({"kinds": 3}))
    with pytest.raises(BadBundle, match=r"about\.json names no kinds"):
        UserStore.open(tmp_path, index_of(list(data.item_ids)))


def test_what_was_taken_together_of_late_is_kept_as_of_today_and_follows_the_index(data: DataSet, folder: Path) -> None:
    ids = list(data.item_ids)
    order = np.random.default_rng(0).permutation(len(ids))
    turned = UserStore.open(folder, index_of([ids[row] for row in order]))
    whole = UserStore.open(folder, index_of(ids))
    kept = whole.similarities["lately"]().toarray()
    made = RecentCoOccurrence.of_timeline(whole.timeline, ["purchase"], len(ids)).similar(whole.today).toarray()
    assert made.any()
    np.testing.assert_array_equal(kept, made)
    np.testing.assert_array_equal(turned.similarities["lately"]().toarray(), made[order][:, order])
