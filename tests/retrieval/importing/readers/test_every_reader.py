"""What holds of every reader: an export that is recognised and makes a usable data set."""

from pathlib import Path

import pytest

from import_exports import EXPORTS, imported, usable

OTHER_FILES = {"movielens-1m": "movielens", "google-merchant-xml": "google-merchant"}  # of a reader, by their folder


@pytest.mark.parametrize("export", sorted(path.name for path in EXPORTS.iterdir()))
def test_an_export_is_recognised_by_its_contents_and_makes_a_usable_data_set(export: str, tmp_path: Path) -> None:
    report = imported(export, tmp_path)
    assert report.reader == export.removesuffix("-1m").removesuffix("-xml")
    assert usable(tmp_path)
