"""The values of all features of a fixed shop are pinned, and so is what a recorded fingerprint depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from feature_shops import PARTS, SOURCES, TARGETS
from ranking.features import registry
from ranking.features.facts import ItemFigures, ShopFacts
from ranking.features.registry import FeatureReader, feature_groups, features_of, groups_fingerprint, register_group
from ranking.features.shortlists import ShopperEvents, Shortlists
from retrieval.data.timeline import Timeline
from retrieval.errors import BadConfig, StaleArtefact
from retrieval.text.analysis import Analyzer
from retrieval.topk import CSR

PATH = Path(__file__).parent / "golden" / "features.json"
GOLDEN = json.loads(PATH.read_text("utf-8"))
CHANGED = (
    "the values of {} changed: where that is on purpose, raise the `version` of its group, so that rankers learned "
    f"from the former ones are refused, and renew {PATH.name} with what `features()` of this test gives"
)


def lists(columns: Mapping[str, Any]) -> CSR:
    return CSR(np.array(columns["indptr"], np.int64), np.array(columns["rows"], np.int64))


def shop() -> tuple[ShopFacts, Shortlists]:
    """The shop and the shortlists of the golden file."""
    told = GOLDEN["shop"]
    vectors, kinds = np.array(told["vectors"], np.float32), tuple(told["kinds"])
    types = {"item": np.int32, "query": np.int32, "kind": np.int16, "time": np.int64, "offsets": np.int64}
    columns: dict[str, Any] = {name: np.array(told["timeline"][name], kind) for name, kind in types.items()}
    facts = ShopFacts(
        items=pa.Table.from_pylist(told["items"]),
        analyzer=Analyzer(),
        timeline=Timeline(kinds=kinds, **columns),
        targets=TARGETS,
        dated=True,
        figures=ItemFigures(*(np.array(values, np.float32) for values in told["figures"])),
        sources=SOURCES,
        similarities={
            name: lambda matrix=matrix: csr_array(np.array(matrix, np.float32))  # type: ignore[misc]
            for name, matrix in told["similarities"].items()
        },
        vectors_at=lambda rows: vectors[rows],
        tower_parts=PARTS,
        items_with=lambda word: int(told["items_with"].get(word, 0)),
    )
    asked = told["shortlists"]
    events = ShopperEvents(lists(asked["events"]), *(np.array(asked[one], np.int64) for one in ("does", "times")))
    return facts, Shortlists(
        rows=np.array(asked["rows"], np.int64),
        fused=np.array(asked["fused"], np.float32),
        scores={name: np.array(scores, np.float32) for name, scores in asked["scores"].items()},
        events=events,
        now=np.array(asked["now"], np.int64),
        carts=lists(asked["carts"]),
        vectors=np.array(asked["vectors"], np.float32),
        typed=asked["typed"],
        corrected=asked["corrected"],
    )


def features() -> dict[str, list[list[float | None]]]:
    """By name the values of every candidate, None where missing."""
    facts, shortlists = shop()
    names = list(features_of(facts, search=False) | features_of(facts, search=True))
    values = FeatureReader.of(names, facts).read(shortlists).round(5).tolist()
    return {
        name: [[None if np.isnan(one[at]) else one[at] for one in line] for line in values]
        for at, name in enumerate(names)
    }


@pytest.mark.parametrize("name", sorted(GOLDEN["features"]))
def test_a_feature_has_the_values_of_the_golden_file(name: str) -> None:
    found, wanted = (np.array(one[name], np.float64) for one in (features(), GOLDEN["features"]))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4, err_msg=CHANGED.format(name))


def test_the_golden_file_has_every_feature() -> None:
    assert set(features()) == set(GOLDEN["features"])


def test_declarations_and_versions_are_those_of_the_golden_file() -> None:
    assert {group.name: groups_fingerprint([group]) for group in feature_groups()} == GOLDEN["groups"], (
        f"a group's declaration changed: rankers that read it are refused from now on; renew {PATH.name}"
    )


def test_a_version_changes_the_fingerprint_of_what_reads_the_group() -> None:
    facts, _ = shop()
    reader = FeatureReader.of(["takings_7d", "hour"], facts)
    (group,) = (group for group in reader.columns if group.name == "clock")
    columns = {replace(one, version=2) if one is group else one: names for one, names in reader.columns.items()}
    assert replace(reader, columns=columns).fingerprint != reader.fingerprint
    assert FeatureReader.of(["takings_7d"], facts).fingerprint != reader.fingerprint
    assert FeatureReader.of(["takings_1d", "weekday"], facts).fingerprint == reader.fingerprint


def test_a_feature_that_is_not_registered_or_lacks_its_data_is_refused_by_name() -> None:
    facts, _ = shop()
    with pytest.raises(StaleArtefact, match="by the feature moon_phase, which is not registered"):
        FeatureReader.of(["hour", "moon_phase"], facts)
    with pytest.raises(StaleArtefact, match="by the feature hour"):
        FeatureReader.of(["hour"], replace(facts, dated=False))


def test_a_name_of_a_group_that_is_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    (clock,) = (group for group in feature_groups() if group.name == "clock")
    monkeypatch.setattr(registry, "_GROUPS", dict(registry._GROUPS))
    with pytest.raises(BadConfig, match="named clock is already registered; choose another name"):
        register_group(replace(clock, version=9))
