"""The public surface of each package, name by name. A change here is a decision: say it in CHANGELOG.md."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PUBLIC = {
    "retrieval": """
        BadBundle BadConfig BadData BadRequest CheckReport CorruptBundle DataSet EventSplit Events GateRefused Hits
        JudgementSplit Judgements MissingDependency Queries Requests ShortlistError StaleArtefact TextEncoder Towers
        check exact_topk item_text load split_events split_judgements train_towers user_text write_sample
    """,
    "indexing": """
        Bundle ExactIndex FaissIndex IndexVersion ItemColumn Manifest Release SearchParams Tuner VectorIndex build_index
        build_version open_index
    """,
    "ranking": "CrossEncoderScorer GateVerdict PairSet RankerTraining ShortlistScorer train_ranker",
    "serving": """
        Answer AuditLog Condition Engine Explanation Filters Hit Request RunResult RunSettings WhyNot read_settings run
    """,
    "serving.client": "AsyncClient CheckedRules Client Moved Releases RulesInForce ServerError Updated",
    "benchmarks": "Line Load Probe Run Workload closed_loop cold_starts machine open_loop probe",
}


@pytest.mark.parametrize("package", PUBLIC)
def test_a_package_exports_exactly_the_names_decided_on(package: str) -> None:
    assert sorted(importlib.import_module(package).__all__) == sorted(PUBLIC[package].split())


@pytest.mark.parametrize("package", PUBLIC)
def test_each_public_name_resolves_is_listed_and_documented(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name).__doc__, f"{package}.{name} has no docstring"
        assert name in dir(module)


@pytest.mark.parametrize("package", PUBLIC)
def test_no_public_name_is_that_of_a_module_which_would_hide_it(package: str) -> None:
    modules = {path.stem for path in (ROOT / package.replace(".", "/")).glob("*.py")}
    assert modules.isdisjoint(importlib.import_module(package).__all__)


@pytest.mark.parametrize("package", PUBLIC)
def test_every_package_has_the_version_of_the_distribution(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__version__ == version("shortlist")


@pytest.mark.parametrize("package", PUBLIC)
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module(package).no_such_name
