"""Each export is imported once."""

from __future__ import annotations

from functools import cache

import pytest

from import_exports import Export, ExportOf, imported, rows_of


@pytest.fixture(scope="session")
def export_of(tmp_path_factory: pytest.TempPathFactory) -> ExportOf:
    """The import of the export of a name, such as `ga4`."""

    @cache
    def once(name: str) -> Export:
        out = tmp_path_factory.mktemp(name)
        report = imported(name, out)
        return Export(report, {table.name: rows_of(out, table.name) for table in report.tables})

    return once
