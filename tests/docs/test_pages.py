"""What the pages for newcomers show is what their commands and their Python print."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from page_examples import run_page
from retrieval.sample_shop.write import write_sample
from serving.jobs.adopt import Adoption
from serving.jobs.run import Pipeline
from serving.settings import read_settings

ROOT = Path(__file__).parents[2]
PAGES = [
    "docs/your-own-data.md",
    "docs/nightly-job.md",
    "docs/add-an-item-column.md",
]
TRAINS = ("shortlist run", "shortlist train", "shortlist demo")


@pytest.fixture(scope="module")
def shop_and_bundle(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder_folder: Path, tiny_ranker_folder: Path
) -> Path:
    """A folder with the shop of `shortlist sample` and a bundle of tiny random models over it."""
    folder = tmp_path_factory.mktemp("pages")
    write_sample(folder / "shop", items=120, shoppers=150, events=2_500, queries=60)
    pipeline = Pipeline(folder / "shop", folder / "bundle", read_settings(), "quick", "cpu", say=lambda _: None)
    Adoption(str(tiny_encoder_folder), str(tiny_ranker_folder), None).publish(pipeline)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_is_printed(
    page: str, shop_and_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shop_and_bundle, tmp_path, dirs_exist_ok=True)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/bundle").symlink_to("../bundle")
    monkeypatch.chdir(tmp_path)
    wrong = run_page(ROOT / page, instead=lambda command: command.startswith(TRAINS))
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["docs/quickstart.md"])
def test_a_page_shows_what_is_printed_after_a_whole_training(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = run_page(ROOT / page, instead=lambda command: False)
    assert not wrong, "\n".join(wrong)
