"""What the pages for newcomers show is what their commands and their Python print."""

from __future__ import annotations

import shutil
import warnings
from contextlib import chdir
from pathlib import Path

import pytest

from made_once import made_once
from page_examples import alike, run_page
from retrieval.sample_shop.write import write_sample
from serving.jobs.adopt import Adoption
from serving.jobs.run import Pipeline
from serving.settings import read_settings

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "docs/quickstart.md",
    "docs/serving.md",
    "docs/live-shoppers.md",
    "docs/your-own-data.md",
    "docs/nightly-job.md",
    "docs/add-an-item-column.md",
]
TRAINED = ["README.md", "docs/quickstart.md"]  # those that ask the bundle of `shortlist demo`
DEMO = "shortlist demo"


@pytest.fixture(scope="module")
def tiny_shop(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_folder: Path, tiny_ranker_folder: Path) -> Path:
    """A folder with a small shop and a bundle of random models over it."""

    def adopt(folder: Path) -> None:
        shop = write_sample(folder / "shop", items=120, shoppers=150, events=2_500, queries=60)
        pipeline = Pipeline(shop, folder / "bundle", read_settings(), "quick", "cpu", say=lambda _: None)
        (folder / "encoder").symlink_to(tiny_encoder_folder)  # by a short name, which the release records
        with warnings.catch_warnings(), chdir(folder):
            warnings.simplefilter("ignore")  # of tracing
            Adoption("encoder", str(tiny_ranker_folder), None).publish(pipeline)

    return made_once(tmp_path_factory, "documents", adopt)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_is_printed(
    page: str, tiny_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_shop, tmp_path, dirs_exist_ok=True)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/bundle").symlink_to("../bundle")
    monkeypatch.chdir(tmp_path)
    wrong = run_page(ROOT / page, left_out=DEMO)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_pages_show_what_is_printed_after_a_whole_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = [line for page in reversed(TRAINED) for line in run_page(ROOT / page)]
    assert not wrong, "\n".join(wrong)


def test_numbers_and_ranked_items_may_differ_and_nothing_else() -> None:
    assert alike("items: 2\n...\nthe end, 3 ms\n", "items: 20\nmore\nand more\nthe end, 17.5 ms\n")
    assert alike(" 1 item-7 mug\n", "  1  item-8  lamp\n")
    assert alike("release 20250101-abc1 is live\n", "release 20260202-def2 is live\n")
    assert not alike("one mug\n", "one lamp\n")
    assert not alike("items: 2\n", "items: 2\nmore\n")
    assert not alike(" 1 mug\n 2 lamp\n", " 1 mug\n")
