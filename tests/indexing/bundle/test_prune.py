"""What is removed, what stays, and that it can be interrupted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from indexing.bundle import prune as pruning
from indexing.bundle.bundle import Bundle
from indexing.bundle.prune import discard, kept_releases, prune
from indexing.bundle.releases import Release
from retrieval.errors import BadBundle, BadConfig, CorruptBundle

Publish = Callable[[int], Release]
NAMES = {"towers": "t", "ranker": "k", "index": "i"}


def parts_of(bundle: Bundle) -> set[str]:
    kinds = (*NAMES, "runtime")
    return {path.name for kind in kinds for path in (bundle.path / kind).glob("*")}


def ids(bundle: Bundle) -> list[str]:
    return [release.id for release in bundle.releases()]


def test_the_live_release_and_those_that_rollbacks_go_to_stay(bundle: Bundle, publish: Publish) -> None:
    for number in range(1, 5):
        publish(number)
    done = prune(bundle, 2)
    assert done.releases == ("r1", "r2")
    assert set(done.parts) == {f"{kind}/{name}{n}" for kind, name in NAMES.items() for n in (1, 2)}
    assert done.bytes > 0
    assert ids(bundle) == ["r3", "r4"]
    assert parts_of(bundle) == {"t3", "k3", "i3", "t4", "k4", "i4"}
    assert bundle.verify().sound
    assert bundle.rollback().id == "r3"
    assert prune(bundle, 2).releases == ()


def test_what_is_live_stays_however_old_and_so_does_the_newest(bundle: Bundle, publish: Publish) -> None:
    for number in range(1, 5):
        publish(number)
    bundle.activate("r2")
    prune(bundle, 1)
    assert ids(bundle) == ["r2", "r4"]
    assert bundle.current().id == "r2"
    assert bundle.verify("r4").sound


@pytest.mark.parametrize(
    ("way", "keep", "kept"),
    [
        (["a", "b", "c"], 1, {"c"}),
        (["a", "b", "c"], 2, {"b", "c"}),
        (["a", "b"], 1, {"b", "c"}),
        (["a", "c", "a"], 2, {"a", "c"}),
        (["a", "b", "c"], 9, {"a", "b", "c"}),
    ],
)
def test_keep_counts_back_from_the_live_release(way: list[str], keep: int, kept: set[str]) -> None:
    releases = [Release(id=name, created=name, towers="t", index="i") for name in "abc"]
    assert kept_releases(releases, way, keep) == kept


def test_a_part_that_a_kept_release_shares_stays_and_one_that_nothing_names_goes(
    bundle: Bundle, publish: Publish
) -> None:
    first = publish(1)
    for name in ("t1", "old"):
        with bundle.stage("runtime") as folder:
            (folder / "graph.xml").write_text("x")
            bundle.keep_runtime(name, folder)
    bundle.publish(Release(id="r2", created="2025", towers=first.towers, index=first.index))
    with bundle.stage("towers") as folder:
        (folder / "weights.bin").write_bytes(b"of a run that was killed")
        bundle.add("towers", "orphan", folder)
    assert prune(bundle, 1).parts == ("towers/orphan", "ranker/k1", "runtime/old")
    assert parts_of(bundle) == {"t1", "i1"}
    assert bundle.verify().sound


def test_bytes_that_another_file_shares_are_not_counted_as_free(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    publish(2)
    kept = {path for path in (bundle.path / "towers" / "t1").rglob("*") if path.is_file()}
    for number, path in enumerate(sorted(kept)):
        os.link(path, bundle.path.parent / f"elsewhere-{number}")
    folders = (bundle.path / "ranker" / "k1", bundle.path / "index" / "i1")
    expected = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    assert prune(bundle, 1).bytes == expected


def test_an_interrupted_prune_leaves_whole_releases_and_the_next_ends_it(
    bundle: Bundle, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def killed_after(steps: int) -> Callable[[Bundle, Path], int]:
        left = iter(range(steps))
        remove = pruning._remove

        def step(bundle: Bundle, path: Path) -> int:
            if next(left, None) is None:
                raise Killed
            return remove(bundle, path)

        return step

    for number in range(1, 4):
        publish(number)
    for steps in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(pruning, "_remove", killed_after(steps))
            with pytest.raises(Killed):
                prune(bundle, 1)
        assert all(bundle.verify(name).sound for name in ids(bundle))
        assert bundle.current().id == "r3"
    prune(bundle, 1)
    assert parts_of(bundle) == {"t3", "k3", "i3"}
    assert list((bundle.path / ".staging").iterdir()) == []


def test_nothing_is_removed_where_the_live_release_is_damaged_or_another_writes(
    bundle: Bundle, publish: Publish
) -> None:
    publish(1)
    publish(2)
    with pytest.raises(BadConfig, match="keep is 0"):
        prune(bundle, 0)
    with Bundle.open(bundle.path).lock(), pytest.raises(BadBundle, match=f"being written by process {os.getpid()}"):
        prune(bundle, 1)
    (bundle.path / "towers" / "t2" / "weights.bin").unlink()
    with pytest.raises(CorruptBundle, match=r"t2/weights\.bin is missing"):
        prune(bundle, 1)
    assert ids(bundle) == ["r1", "r2"]


def test_what_a_writer_made_on_its_way_is_discarded_unless_a_release_names_it(
    bundle: Bundle, publish: Publish, tmp_path: Path
) -> None:
    publish(1)
    (tmp_path / "part").mkdir()
    bundle.add("index", "half", tmp_path / "part")
    discard(bundle, {"index": "half", "ranker": "k1"})
    discard(bundle, {"index": "half"})  # it is gone already
    assert parts_of(bundle) == {"t1", "k1", "i1"}
