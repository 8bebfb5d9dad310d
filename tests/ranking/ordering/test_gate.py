"""The gate opens on evidence, says how much there was, and is the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from ranking.ordering.gate import DETECTABLE, gate
from retrieval.errors import BadRequest


def _figures(n: int, lift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    before = random.random(n)
    return before, before + lift + random.normal(0, 0.1, n)


def test_a_clear_lift_is_proven_and_a_clear_loss_is_not() -> None:
    before, after = _figures(400, 0.05)
    proven = gate(before, after)
    assert proven.verdict == "proven"
    assert 0 < proven.low < proven.mean < proven.high
    assert proven.share_positive == 1.0
    assert gate(after, before).verdict == "no"


def test_a_small_lift_is_likely() -> None:
    random = np.random.default_rng(3)
    difference = random.normal(0, 1, 100)
    difference += 0.12 - difference.mean()  # 1.2 standard errors
    verdict = gate(np.zeros(100), difference)
    assert verdict.verdict == "likely"
    assert verdict.low < 0 < verdict.mean
    assert 0.8 <= verdict.share_positive < 0.975


def test_the_interval_agrees_with_the_normal_one() -> None:
    before, after = _figures(2_000, 0.0)
    verdict = gate(before, after)
    error = (after - before).std() / np.sqrt(2_000)
    assert verdict.high - verdict.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert verdict.mde == pytest.approx(DETECTABLE * error, rel=0.05)
    assert pytest.approx(2.8016, abs=1e-4) == DETECTABLE


def test_requests_of_one_user_are_drawn_together() -> None:
    random = np.random.default_rng(1)
    per_user = random.normal(0, 1, 50)
    difference = np.repeat(per_user, 20)  # twenty copies hold no more evidence than one
    users = np.repeat(np.arange(50), 20)
    clustered = gate(np.zeros(1_000), difference, users=users)
    single = gate(np.zeros(50), per_user)
    assert (clustered.n, clustered.users) == (1_000, 50)
    assert clustered.high - clustered.low == pytest.approx(single.high - single.low, rel=1e-9)
    assert gate(np.zeros(1_000), difference).high < clustered.high


def test_user_numbers_need_not_be_dense() -> None:
    before, after = _figures(60, 0.05)
    users = np.arange(60) // 2
    assert gate(before, after, users=users) == gate(before, after, users=users * 1_000_003 + 5)


def test_the_same_seed_gives_the_same_verdict_and_another_moves_the_interval() -> None:
    before, after = _figures(100, 0.02)
    assert gate(before, after) == gate(before, after)
    assert gate(before, after, seed=1).low != gate(before, after).low


def test_blocks_do_not_change_what_is_drawn_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = _figures(100, 0.02)
    whole = gate(before, after)
    monkeypatch.setattr("ranking.ordering.gate.BLOCK", 250)
    assert gate(before, after).low == pytest.approx(whole.low, abs=1e-12)


def test_a_handful_of_users_shows_nothing() -> None:
    assert gate(np.zeros(5), np.full(5, 0.4)).verdict == "no"
    assert gate(np.zeros(40), np.full(40, 0.4), users=np.arange(40) % 5).verdict == "no"
    assert gate(np.zeros(40), np.full(40, 0.4)).verdict == "proven"


def test_no_request_and_no_difference_are_a_no() -> None:
    empty = gate(np.empty(0), np.empty(0))
    assert (empty.verdict, empty.n, empty.mde) == ("no", 0, None)
    same = gate(np.full(30, 0.3), np.full(30, 0.3))
    assert (same.verdict, same.mean, same.mde) == ("no", 0.0, None)


def test_arrays_of_different_length_are_refused() -> None:
    with pytest.raises(BadRequest, match="3 figures before and 2 after"):
        gate(np.zeros(3), np.zeros(2))


def test_a_verdict_is_plain_json() -> None:
    before, after = _figures(30, 0.01)
    assert gate(before, after).as_json()["n"] == 30
