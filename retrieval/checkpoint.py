"""Checkpoints of a plain training loop in safetensors: weights, optimiser, the best state so far, where it stands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

State: TypeAlias = dict[str, Tensor]


def save_checkpoint(
    path: Path | None,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    best: float,
    waited: int,
    kept: State,
) -> None:
    """Replaces the checkpoint at `path` as a whole; does nothing without a path."""
    if path is None:
        return
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in kept.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    about = {"step": str(step), "best": repr(best), "waited": str(waited)}
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, beside, about)
    os.replace(beside, path)  # noqa: PTH105


def load_checkpoint(
    path: Path | None, model: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, float, int, State]:
    """Puts model and optimiser where they stood; returns (next step, best score, evaluations waited, best state)."""
    if path is None or not path.exists():
        return 0, -1.0, 0, {}
    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model.load_state_dict(_under(tensors, "model."))
    state: dict[int, State] = {}
    for name, value in _under(tensors, "optimiser.").items():
        index, field = name.split(".", 1)
        state.setdefault(int(index), {})[field] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return int(about["step"]), float(about["best"]), int(about["waited"]), _under(tensors, "best.")


def _under(tensors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
