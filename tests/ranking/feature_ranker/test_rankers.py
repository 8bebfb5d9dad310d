"""All kinds of feature rankers: contributions sum to scores, files give the same scores, damage is named."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from feature_lists import chosen_lists, interaction
from ranking.feature_ranker.linear import LinearRanker
from ranking.feature_ranker.lists import TrainingLists
from ranking.feature_ranker.protocol import FeatureRanker
from ranking.feature_ranker.registry import load, register_kind
from ranking.training.feature_ranker.lambdamart import fit_lambdamart
from ranking.training.feature_ranker.linear import fit_linear
from ranking.training.feature_ranker.mlp import fit_mlp
from retrieval.errors import BadBundle, BadConfig, CorruptBundle

KINDS = ("linear", "lambdamart", "mlp")


@cache
def data() -> TrainingLists:
    return chosen_lists(200, interaction, missing=0.2)


@cache
def ranker(kind: str) -> FeatureRanker:
    if kind == "linear":
        return fit_linear(data(), prior_sd=0.5)[0]
    return fit_mlp(data(), epochs=5)[0] if kind == "mlp" else fit_lambdamart(data(), trees=20, threads=1)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_contributions_sum_to_the_score(kind: str) -> None:
    features, base = data().features.copy(), data().base
    features[0], features[1] = np.inf, -np.inf
    scores, shares = ranker(kind).score(features, base), ranker(kind).contributions(features, base)
    assert shares.shape == (len(base), len(data().names) + 1)
    assert (scores.dtype, shares.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(shares.sum(axis=1), scores, rtol=1e-4, atol=1e-4 * float(np.abs(scores).max()))
    assert (shares[:, :-1].std(axis=0) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_candidate_is_scored_alone_as_among_others_and_none_at_all_is_no_fault(kind: str) -> None:
    features, base = data().features[:7], data().base[:7]
    together = ranker(kind).score(features, base)
    alone = [ranker(kind).score(features[i : i + 1], base[i : i + 1])[0] for i in range(7)]
    np.testing.assert_allclose(alone, together, rtol=1e-5)
    assert ranker(kind).score(features[:0], base[:0]).shape == (0,)
    assert ranker(kind).contributions(features[:0], base[:0]).shape == (0, len(data().names) + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_files_give_the_same_scores(kind: str, tmp_path: Path) -> None:
    ranker(kind).save(tmp_path / "new", "recommend")
    loaded = load(tmp_path / "new", "recommend")
    assert (loaded.kind, loaded.names) == (kind, data().names)
    np.testing.assert_array_equal(
        loaded.score(data().features, data().base), ranker(kind).score(data().features, data().base)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut off", "missing"])
def test_every_damaged_file_is_named(kind: str, damage: str, tmp_path: Path) -> None:
    ranker(kind).save(tmp_path, "search")
    for path in sorted(tmp_path.iterdir()):
        whole = path.read_bytes()
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CorruptBundle if damage == "cut off" else BadBundle, match=path.name) as caught:
            load(tmp_path, "search")
        assert "train the ranker again" in str(caught.value)
        assert "\n" not in str(caught.value)
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_of_another_version_is_named(kind: str, tmp_path: Path) -> None:
    ranker(kind).save(tmp_path, "search")
    path = tmp_path / "search.json"
    about = json.loads(path.read_text())
    for entry in set(about) - {"kind", "version"}:
        path.write_text(json.dumps({name: value for name, value in about.items() if name != entry}))
        with pytest.raises(BadBundle, match=entry):
            load(tmp_path, "search")
    if "inputs" in about:
        path.write_text(json.dumps(about | {"names": about["names"][1:]}))
        with pytest.raises(BadBundle, match="do not fit"):
            load(tmp_path, "search")


def test_another_kind_is_registered_once_and_an_unknown_one_is_named(tmp_path: Path) -> None:
    ranker("linear").save(tmp_path, "search")
    path = tmp_path / "search.json"
    path.write_text(path.read_text().replace('"kind": "linear"', '"kind": "lines"'))
    with pytest.raises(BadBundle, match="kind lines"):
        load(tmp_path, "search")
    register_kind("lines", LinearRanker)
    assert load(tmp_path, "search").names == data().names
    with pytest.raises(BadConfig, match="already registered"):
        register_kind("lines", FeatureRanker)
