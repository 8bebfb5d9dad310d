"""Probabilities that hold: the line through the logits, and how far off they were."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ranking.models.cross_encoder import sigmoid
from ranking.ordering.blend import Blend
from ranking.ordering.platt import PlattScaling, Reliability, platt, reliability
from retrieval.errors import BadBundle


@pytest.fixture(scope="module")
def told() -> tuple[np.ndarray, np.ndarray]:
    """Logits of which half, less 2, would have been right."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 2.0, 20_000)
    return logits, (rng.random(20_000) < sigmoid(0.5 * logits - 2.0)).astype(np.float32)


def test_the_line_is_found(told: tuple[np.ndarray, np.ndarray]) -> None:
    assert platt(*told) == pytest.approx((0.5, -2.0), abs=0.07)


def test_the_error_falls_to_nothing_along_the_line(told: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = told
    slope, offset = platt(logits, labels)
    before, after = (reliability(sigmoid(values), labels) for values in (logits, slope * logits + offset))
    assert before.error > 0.25
    assert after.error < 0.02


def test_the_order_is_never_turned_round() -> None:
    logits = np.linspace(-1, 1, 50)
    slope, _ = platt(logits, (logits < 0).astype(np.float32))
    assert slope > 0


def test_equal_logits_get_the_share_that_came_true() -> None:
    slope, offset = platt(np.full(100, 3.0), np.repeat([1.0, 0.0], [25, 75]))
    assert sigmoid(np.array([slope * 3.0 + offset]))[0] == pytest.approx(0.25, abs=1e-3)


def test_the_expected_calibration_error_by_hand() -> None:
    found = reliability(np.array([0.2, 0.6, 0.4, 0.8]), np.array([0.0, 1.0, 1.0, 1.0]), bins=2)
    assert found.predicted == pytest.approx((0.3, 0.7))
    assert found.observed == (0.5, 1.0)
    assert found.error == pytest.approx((0.2 + 0.3) / 2)
    assert found.pairs == 4


def test_fewer_pairs_than_bins_fill_fewer() -> None:
    assert len(reliability(np.array([0.2, 0.6]), np.array([0.0, 1.0])).predicted) == 2
    assert np.isnan(reliability(np.empty(0), np.empty(0)).error)


def test_a_blend_along_a_line_keeps_its_order() -> None:
    blend, logits, retrieval = Blend(2.0, 0.5, -1.0), np.array([1.0, 0.0, -3.0]), np.array([0.0, 4.0, 1.0])
    np.testing.assert_allclose(
        blend.rescaled(0.5, 3.0)(logits, retrieval), 0.5 * blend(logits, retrieval) + 3.0, atol=1e-6
    )


def test_platt_scaling_survives_json() -> None:
    found = PlattScaling(Reliability((0.1, 0.5), (0.2, 0.4), 9), Reliability((0.2, 0.4), (0.2, 0.4), 9))
    recorded = json.loads(json.dumps(found.as_json()))
    assert PlattScaling.of(recorded) == found
    assert recorded["error_before"] == pytest.approx(0.1)
    with pytest.raises(BadBundle, match="Platt scaling"):
        PlattScaling.of({"before": {"predicted": [0.1]}})
