"""The CPU quota of a container counts as cores, wherever its control groups are mounted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from retrieval.encoders import runtime
from retrieval.encoders.cpu_quota import cores_within
from retrieval.encoders.runtime import TorchRunner, affinity_cores, available_cores

V1 = {"cpu.cfs_quota_us": "250000", "cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/shop/api\n", {"shop/cpu.max": "200000 100000", "shop/api/cpu.max": "max 100000"}, 2),
        ("0::/shop/api\n", {"shop/cpu.max": "400000 100000", "shop/api/cpu.max": "300000 100000"}, 3),
        ("0::/../../other\n", {"cpu.max": "100000 100000"}, 1),
        ("4:cpu,cpuacct:/job\n2:memory:/x\n", {f"cpu,cpuacct/job/{name}": text for name, text in V1.items()}, 3),
        ("4:cpu,cpuacct:/docker/1\n", {f"cpu/{name}": text for name, text in V1.items()}, 3),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/\n", {"cpu.max": "garbage"}, None),
    ],
)
def test_the_smallest_quota_counts(tmp_path: Path, own: str, files: Mapping[str, str], cores: int | None) -> None:
    for name, text in {"own": own, **{f"cgroup/{name}": text for name, text in files.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores_within(tmp_path / "cgroup", tmp_path / "own") == cores


@pytest.mark.parametrize("quota", [None, 1, 10_000])
def test_no_more_cores_are_used_than_the_quota_and_the_affinity_allow(
    quota: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "quota_cores", lambda: quota)
    assert available_cores() == min(affinity_cores(), quota or affinity_cores())


def test_a_torch_model_is_served_within_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "quota_cores", lambda: 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        TorchRunner(torch.nn.Identity(), "cpu", "fp32")
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
