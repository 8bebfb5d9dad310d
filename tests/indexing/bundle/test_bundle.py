"""The bundle on disk: what is published, found, refused and gone back to."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from modes import read_only

from indexing.bundle import verify
from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import MANIFEST, Manifest
from indexing.bundle.releases import Release, release_id
from retrieval import fingerprint
from retrieval.errors import BadBundle, CorruptBundle, StaleArtefact

FILES = {"weights.bin": b"weights of the model", "tokenizer.json": b"{}", "deep/er/config.json": b'{"a": 1}'}
Publish = Callable[[int], Release]


def add(bundle: Bundle, kind: str, name: str, files: dict[str, bytes] = FILES, **extra: object) -> Path:
    with bundle.stage(kind) as folder:
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        return bundle.add(kind, name, folder, **extra)  # type: ignore[arg-type]


def test_a_published_release_is_the_current_one_with_its_figures(bundle: Bundle, publish: Publish) -> None:
    published = publish(1)
    current = Bundle.open(bundle.path).current()
    assert current == published
    assert current.parts() == {"towers": "t1", "ranker": "k1", "index": "i1"}
    assert current.figures == {"ndcg@10": 0.05}
    assert bundle.path_of("towers", "t1").joinpath("deep/er/config.json").exists()


def test_rollback_goes_to_what_was_live_before_and_not_to_what_was_only_recorded(
    bundle: Bundle, publish: Publish
) -> None:
    publish(1)
    refused = replace(publish(2), id="refused", created="2024-01-01T00:00:03+00:00")
    bundle.record(refused)
    publish(4)
    assert bundle.rollback().id == "r2"
    assert bundle.rollback().id == "r1"
    with pytest.raises(BadBundle, match="no release that was live before r1"):
        bundle.rollback()
    assert [release.id for release in bundle.releases()] == ["r1", "r2", "refused", "r4"]


def test_any_recorded_release_can_be_activated_and_an_unknown_one_is_refused_with_the_list(
    bundle: Bundle, publish: Publish
) -> None:
    publish(1)
    publish(2)
    assert bundle.activate("r1").id == bundle.current().id == "r1"
    with pytest.raises(BadBundle, match=r"no release r9; it has: r1, r2"):
        bundle.activate("r9")
    assert bundle.current().id == "r1"


def test_an_opened_release_stays_readable_after_the_next_is_published(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    reader = Bundle.open(bundle.path)
    release = reader.current()
    weights = np.memmap(reader.path_of("towers", release.towers) / "weights.bin", mode="r")
    publish(2)
    assert reader.current().id == "r2"
    assert bytes(weights).startswith(b"weights of the model")
    assert reader.path_of("towers", release.towers).is_dir()


@pytest.mark.parametrize("name", sorted([*FILES, MANIFEST]))
@pytest.mark.parametrize("kind", ["towers", "ranker", "index"])
def test_a_flipped_byte_in_any_file_is_found_by_name(bundle: Bundle, publish: Publish, kind: str, name: str) -> None:
    release = publish(1)
    path = bundle.path_of(kind, release.parts()[kind]) / name
    data = bytearray(path.read_bytes())
    place = data.index(b"1") if name == MANIFEST else len(data) // 2
    data[place] ^= 1
    path.write_bytes(bytes(data))
    assert str(path) in found_damage(bundle)


def test_a_flipped_byte_in_the_release_or_in_current_is_found_by_name(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    record = bundle.path / "releases" / "r1.json"
    whole = record.read_bytes()
    record.write_bytes(whole.replace(b"0.05", b"0.95"))
    assert str(record) in found_damage(bundle)
    record.write_bytes(whole)
    bundle.verify().require_sound()
    for damaged in (b"q1\n", b"\xf21\n", b"../r1", b""):
        (bundle.path / "CURRENT").write_bytes(damaged)
        assert str(bundle.path / "CURRENT") in found_damage(bundle)


def test_a_manifest_rewritten_in_good_order_is_still_not_the_one_released(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    folder = bundle.path_of("towers", "t1")
    (folder / MANIFEST).write_bytes(replace(Manifest.read(folder), about={"epochs": 3}).to_json())
    with pytest.raises(CorruptBundle, match=r"t1/manifest\.json is changed"):
        bundle.current()


def found_damage(bundle: Bundle) -> str:
    """What verification says, whether it lists the damage or cannot go on."""
    with pytest.raises(BadBundle) as caught:
        bundle.verify().require_sound()
    return str(caught.value)


def test_verification_names_missing_and_additional_files_and_open_sees_them_too(
    bundle: Bundle, publish: Publish
) -> None:
    publish(1)
    folder = bundle.path_of("towers", "t1")
    (folder / "weights.bin").unlink()
    (folder / "stray.txt").write_text("?")
    verdict = bundle.verify()
    assert not verdict.sound
    assert [(fault.path.name, fault.what) for fault in verdict.faults] == [
        ("weights.bin", "missing"),
        ("stray.txt", "additional"),
    ]
    with pytest.raises(CorruptBundle, match=r"weights\.bin is missing"):
        bundle.current()


def test_a_file_cut_short_is_seen_at_open_without_reading_contents(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    path = bundle.path_of("index", "i1") / "weights.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptBundle, match=r"weights\.bin is changed"):
        bundle.current()


def test_truncated_json_is_named(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    for path in (bundle.path / "releases" / "r1.json", bundle.path_of("index", "i1") / MANIFEST):
        whole = path.read_bytes()
        for size in (0, 1, len(whole) // 2, len(whole) - 3):
            path.write_bytes(whole[:size])
            with pytest.raises(CorruptBundle, match=path.name):
                bundle.current()
        path.write_bytes(whole)
    assert bundle.current().id == "r1"


def test_verification_goes_on_after_a_fault_and_names_them_all(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    (bundle.path_of("towers", "t1") / MANIFEST).write_text("{")
    (bundle.path_of("ranker", "k1") / MANIFEST).unlink()
    index = bundle.path_of("index", "i1")
    index.rename(bundle.path / "elsewhere")
    faults = [(str(fault.path.relative_to(bundle.path)), fault.what) for fault in bundle.verify().faults]
    assert faults == [
        ("towers/t1/manifest.json", "changed"),
        ("ranker/k1/manifest.json", "missing"),
        ("index/i1", "missing"),
    ]


@pytest.mark.parametrize("name", sorted([*FILES, MANIFEST]))
def test_a_flipped_byte_is_found_at_open_by_name(
    bundle: Bundle, publish: Publish, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(1)
    bundle.current()
    path = bundle.path_of("towers", "t1") / name
    data = bytearray(path.read_bytes())
    data[data.index(b"1")] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptBundle, match=f"{path} is changed"):
        bundle.current()
    monkeypatch.setattr(verify, "READ_AT_OPEN", 0)  # of what is larger, opening compares the size
    if name != MANIFEST:
        assert bundle.current().id == "r1"
    assert not bundle.verify().sound


def test_a_file_that_is_not_touched_is_read_once_by_opening_and_each_time_by_verification(
    bundle: Bundle, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(1)
    bundle.current()
    read: list[str] = []
    monkeypatch.setattr(fingerprint, "file_sha256", lambda path: read.append(path.name))
    assert bundle.current().id == "r1"
    assert read == []
    path = bundle.path_of("towers", "t1") / "weights.bin"
    path.write_bytes(path.read_bytes())
    with pytest.raises(CorruptBundle):
        bundle.current()
    assert read == ["weights.bin"]
    assert bundle.verify().sound


def test_a_damaged_release_cannot_be_activated_and_the_live_one_stays(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    publish(2)
    (bundle.path_of("towers", "t1") / "weights.bin").write_bytes(b"x")
    with pytest.raises(CorruptBundle, match=r"t1/weights\.bin is changed"):
        bundle.rollback()
    assert bundle.current().id == "r2"


def test_an_index_of_other_towers_is_refused_naming_both_and_the_command(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    publish(2)
    mixed = Release(id="mixed", created="2024-02-01T00:00:00+00:00", towers="t2", index="i1")
    with pytest.raises(
        StaleArtefact, match=r"index/i1 was made by towers/t1, .* towers/t2; run: shortlist index build"
    ):
        bundle.publish(mixed)
    assert bundle.current().id == "r2"
    assert not (bundle.path / "releases" / "mixed.json").exists()


def test_a_release_of_a_missing_part_is_refused(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    with pytest.raises(BadBundle, match=r"towers/t7 is missing"):
        bundle.publish(Release(id="r7", created="2024-02-01", towers="t7", index="i1"))


def test_a_release_id_is_given_once(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    with pytest.raises(BadBundle, match="another id"):
        bundle.record(bundle.current())


def test_names_cannot_lead_out_of_the_bundle(bundle: Bundle) -> None:
    for name in ("../x", "a/b", "", ".hidden", "x" * 200):
        with pytest.raises(BadBundle, match="is not a valid name"):
            bundle.path_of("towers", name)


@pytest.mark.parametrize(("step", "remedy"), [(1, "install a newer one"), (-1, "make a new bundle: shortlist run")])
def test_another_format_is_refused_in_one_line(bundle: Bundle, publish: Publish, step: int, remedy: str) -> None:
    publish(1)
    for path in (bundle.path_of("index", "i1") / MANIFEST, bundle.path / "releases" / "r1.json"):
        fields = json.loads(path.read_text())
        path.write_text(json.dumps(fields | {"schema": fields["schema"] + step}))
        with pytest.raises(BadBundle, match=rf"{path.name} is of format .*; {remedy}") as refused:
            bundle.current()
        assert "\n" not in str(refused.value)


def test_release_and_manifest_survive_the_round_trip_with_numpy_and_not_finite_figures(tmp_path: Path) -> None:
    figures = {"a": np.float32(0.5), "b": float("nan"), "c": np.arange(2), "d": {"e": (1, None)}}
    release = Release(id="r", created="2024", towers="t", index="i", figures=figures, libraries={"numpy": "2"})  # type: ignore[arg-type]
    (tmp_path / "r.json").write_bytes(release.to_json())
    again = Release.read(tmp_path / "r.json")
    assert again.figures == {"a": 0.5, "b": None, "c": [0, 1], "d": {"e": [1, None]}}
    assert replace(again, figures=release.figures) == release
    manifest = Manifest(kind="index", name="i", files={}, requires={"towers": "t"}, about={"n": 3})
    (tmp_path / MANIFEST).write_bytes(manifest.to_json())
    assert Manifest.read(tmp_path) == manifest


def test_a_release_file_under_another_name_is_refused(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    releases = bundle.path / "releases"
    (releases / "r2.json").write_bytes((releases / "r1.json").read_bytes())
    with pytest.raises(CorruptBundle, match=r"r2\.json holds release r1"):
        bundle.activate("r2")


def test_release_ids_sort_by_time_and_differ_within_a_second() -> None:
    early, late = release_id("2024-01-01T00:00:01+00:00", "t"), release_id("2024-01-01T00:00:02.5+00:00", "t")
    assert early < late
    assert early != release_id("2024-01-01T00:00:01+00:00", "u")
    assert late != release_id("2024-01-01T00:00:02.6+00:00", "t")


def test_adding_a_part_again_keeps_the_first_and_checks_it(bundle: Bundle) -> None:
    first = add(bundle, "towers", "t")
    inode = (first / "weights.bin").stat().st_ino
    assert add(bundle, "towers", "t") == first
    assert (first / "weights.bin").stat().st_ino == inode
    (first / "weights.bin").write_bytes(b"rotten")
    with pytest.raises(CorruptBundle, match=r"weights\.bin is changed"):
        add(bundle, "towers", "t")


def test_files_equal_to_those_of_the_version_before_are_hard_links(bundle: Bundle) -> None:
    first = add(bundle, "index", "one")
    second = add(bundle, "index", "two", files=FILES | {"tokenizer.json": b"[]"}, like=first)
    same = {name for name in FILES if (first / name).stat().st_ino == (second / name).stat().st_ino}
    assert same == {"weights.bin", "deep/er/config.json"}
    assert sorted(path.name for path in second.iterdir()) == ["deep", MANIFEST, "tokenizer.json", "weights.bin"]


def test_a_damaged_file_of_the_version_before_is_not_linked(bundle: Bundle) -> None:
    first = add(bundle, "index", "one")
    (first / "weights.bin").write_bytes(b"weights of the modem")
    second = add(bundle, "index", "two", files=FILES | {"tokenizer.json": b"[]"}, like=first)
    assert (second / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_a_folder_from_elsewhere_is_copied_and_left_alone(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "weights.bin").write_bytes(b"w")
    part = bundle.add("towers", "t", source)
    assert (part / "weights.bin").read_bytes() == b"w"
    assert sorted(path.name for path in source.iterdir()) == ["weights.bin"]


def test_what_is_staged_under_a_relative_path_is_taken_as_it_is_on_every_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = tempfile.mkdtemp  # Python 3.12's answers with an absolute path whatever it is given, 3.11's does not
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **options: str(Path(absolute(**options)).absolute()))
    monkeypatch.setattr("shutil.copytree", lambda *_, **__: pytest.fail("it was staged here and is copied again"))
    monkeypatch.chdir(tmp_path)
    part = add(Bundle.create(Path("shop")), "towers", "t")
    assert (part / "weights.bin").read_bytes() == FILES["weights.bin"]


def test_a_staged_link_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"w")
    with bundle.stage("towers") as folder:
        (folder / "weights.bin").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(BadBundle, match=r"weights\.bin is a link"):
            bundle.add("towers", "t", folder)
    assert not (bundle.path / "towers" / "t").exists()


def test_a_staged_folder_that_was_not_added_is_gone_and_a_dead_writer_s_is_cleared(bundle: Bundle) -> None:
    with bundle.stage("index") as folder:
        (folder / "half").write_bytes(b"h")
    assert not folder.exists()
    (bundle.path / ".staging" / "towers-dead").mkdir()
    (bundle.path / ".staging" / "CURRENT").write_text("half")
    with bundle.lock():
        assert list((bundle.path / ".staging").iterdir()) == []


def test_derived_files_are_kept_apart_and_may_be_deleted(bundle: Bundle, publish: Publish) -> None:
    publish(1)
    assert bundle.runtime("t1") is None
    with bundle.stage("runtime") as folder:
        (folder / "model.xml").write_text("<net/>")
        bundle.keep_runtime("t1", folder)
    kept = bundle.runtime("t1")
    assert kept is not None
    assert (kept / "model.xml").exists()
    (kept / "model.xml").unlink()
    assert bundle.verify().sound


def test_what_is_no_bundle_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadBundle, match=r"there is no bundle at .* shortlist run .* --data DATA"):
        Bundle.open(tmp_path / "nowhere")
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(BadBundle, match="is no bundle; choose an empty or a new folder"):
        Bundle.create(tmp_path)
    with pytest.raises(BadBundle, match=r"holiday\.jpg"):
        Bundle.create(tmp_path / "holiday.jpg")
    with pytest.raises(BadBundle, match="has no live release"):
        Bundle.create(tmp_path / "new").current()


@pytest.fixture
def locked_out(tmp_path: Path) -> Iterator[Bundle]:
    """A published bundle in a folder that this process may read and not write."""
    bundle = Bundle.create(tmp_path / "bundle")
    add(bundle, "towers", "t")
    add(bundle, "index", "i", requires={"towers": "t"})
    bundle.publish(Release(id="r", created="2024", towers="t", index="i"))
    with read_only(bundle.path):
        yield bundle


def test_a_read_only_folder_is_read_as_ever_and_refuses_writers_in_one_line(locked_out: Bundle) -> None:
    reader = Bundle.open(locked_out.path)
    assert reader.current().id == "r"
    assert reader.verify().sound
    for write in (lambda: reader.rollback(), lambda: add(reader, "towers", "u"), lambda: reader.activate("r")):
        with pytest.raises(BadBundle, match=r"cannot write .*: Permission denied; make the folder writable") as caught:
            write()
        assert "\n" not in str(caught.value)
    with pytest.raises(BadBundle, match="cannot write"):
        Bundle.create(locked_out.path / "towers" / "inner")
