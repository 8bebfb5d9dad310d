"""Settings: defaults, a file, single changes, and what a release recorded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from retrieval.errors import BadConfig
from serving.settings import RunSettings, read_settings


def test_a_change_wins_over_the_file_and_the_file_over_the_release(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text('[ranking]\ndepth = 20\ntitles = 4\n[retrieval.history]\nwidth = 64\n[data]\nsplit = "temporal"\n')
    base = {"ranking": {"depth": 10, "gate": "proven"}, "evaluation": {"examples": 2}}
    found = read_settings(file, ["ranking.titles=1", "retrieval.seed=5"], base=base)
    assert (found.ranking.depth, found.ranking.titles, found.ranking.gate) == (20, 1, "proven")
    assert (found.retrieval.history.width, found.retrieval.seed) == (64, 5)
    assert found.evaluation.examples == 2
    assert found.data.split == "temporal"


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("loss=bce", "bce"),
        ("log_q=true", True),
        ("mini_batch=32", 32),
        ("matryoshka=[64, 128]", (64, 128)),
        ("hard_negatives=2", 2),
        ("negative_window=[5,50]", (5, 50)),
        ("negative_margin=null", None),
        ("negative_pool=2000", 2000),
        ("mining_rounds=4", 4),
        ("typos=0.1", 0.1),
        ("word_drop=0.1", 0.1),
        ("field_loss=0.2", 0.2),
    ],
)
def test_settings_of_the_text_part_are_set_by_name_and_recorded(change: str, value: object) -> None:
    made = read_settings(changes=[f"retrieval.text.{change}"])
    assert getattr(made.retrieval.text, change.partition("=")[0]) == value
    assert read_settings(base=made.model_dump(mode="json")) == made


def test_what_a_release_recorded_reads_back() -> None:
    made = read_settings(changes=["retrieval.text.model=m", 'data.target_events=["buy","rent"]'])
    assert read_settings(base=made.model_dump(mode="json")) == made


def test_a_recorded_setting_that_this_version_lacks_is_passed_over() -> None:
    base = {"ranking": {"depth": 7, "gone": 1}, "old_room": {"x": 2}}
    assert read_settings(base=base) == read_settings(changes=["ranking.depth=7"])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ranking.dept=20", "ranking.dept"),
        ("nothing=1", "nothing"),
        ("ranking.depth=0", "ranking.depth"),
        ("ranking.depth=many", "ranking.depth"),
        ("ranking.depth", "room.name=value"),
        ("=3", "room.name=value"),
        ("ranking.depth.deeper=1", "ranking.depth"),
        ("data.max_bad=2", "data.max_bad"),
        ("data.language=klingon", "data.language"),
        ("retrieval.seed=NaN", "retrieval.seed"),
    ],
)
def test_a_setting_that_cannot_be_is_named(change: str, told: str) -> None:
    with pytest.raises(BadConfig, match=told) as caught:
        read_settings(changes=[change])
    assert "\n" not in str(caught.value)


def test_a_value_below_a_value_is_no_setting() -> None:
    with pytest.raises(BadConfig, match="depth is a value"):
        read_settings(changes=["ranking.depth=1", "ranking.depth.deeper=1"])


@pytest.mark.parametrize("text", ["not toml at all [", 'depth = "\udcff"'])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "shop.toml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadConfig, match=r"shop\.toml"):
        read_settings(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"missing\.toml"):
        read_settings(tmp_path / "missing.toml")


def test_settings_do_not_change_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunSettings().ranking.depth = 3  # type: ignore[misc]


def test_settings_that_do_not_go_together_are_told_without_all_others() -> None:
    with pytest.raises(BadConfig) as caught:
        read_settings(changes=["ranking.veto_margin=0"])
    assert str(caught.value) == "ranking.veto_margin needs ranking.teacher, a CrossEncoder folder"
    with pytest.raises(BadConfig) as caught:
        read_settings(changes=["ranking.ensemble=2", "ranking.distil_from=folder"])
    assert str(caught.value) == "ranking.ensemble and ranking.distil_from are two kinds of teacher; set one of them"


def test_a_teacher_without_hard_negatives_and_distillation_without_a_teacher_are_refused() -> None:
    with pytest.raises(BadConfig, match="hard_negatives above 0"):
        read_settings(changes=["ranking.teacher=folder"])
    with pytest.raises(BadConfig, match=r"distil needs ranking\.teacher"):
        read_settings(changes=["retrieval.text.hard_negatives=1", "retrieval.text.distil=0.5"])
    with pytest.raises(BadConfig, match=r"veto_margin needs ranking\.teacher"):
        read_settings(changes=["ranking.veto_margin=0"])
    with pytest.raises(BadConfig, match=r"ranking\.veto_margin"):
        read_settings(changes=["ranking.teacher=folder", "ranking.veto_margin=nan"])
    assert read_settings(changes=["ranking.teacher=folder", "ranking.veto_margin=-1"]).ranking.veto_margin == -1


@pytest.mark.parametrize(("written", "folders"), [("large", ("large",)), ('["a", "b"]', ("a", "b"))])
def test_one_folder_to_distil_from_may_be_written_without_brackets(written: str, folders: tuple[str, ...]) -> None:
    assert read_settings(changes=[f"ranking.distil_from={written}"]).ranking.distil_from == folders


def undescribed(group: type[BaseModel], name: str = "") -> Iterator[str]:
    """The settings of a group that say nothing of what they do."""
    for below, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from undescribed(field.annotation, f"{name}{below}.")
        elif not field.description:
            yield f"{name}{below}"


def test_every_setting_says_what_it_does_and_a_refusal_repeats_it() -> None:
    assert list(undescribed(RunSettings)) == []
    with pytest.raises(BadConfig, match=r"setting index\.memory: .*\(given: 'much'\).*; what it sets: .* 4GiB"):
        read_settings(changes=["index.memory=much"])
