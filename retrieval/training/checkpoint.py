"""Checkpoints: of a plain training loop, in safetensors as a whole; and whose checkpoints a folder holds."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

State: TypeAlias = dict[str, Tensor]
STAMP = "run.txt"  # beside the checkpoints of a trainer: the run that wrote them


@dataclass
class Standing:
    """Where a training loop stands."""

    step: int = 0  # the next one
    best: float = -math.inf  # validation score
    waited: int = 0  # evaluations since the best
    kept: State = field(default_factory=dict)  # the best state, by name; empty before the first evaluation


def save_checkpoint(
    path: Path | None, run: str, model: nn.Module, optimiser: torch.optim.Optimizer, standing: Standing
) -> None:
    """Replaces the checkpoint at `path` as a whole; does nothing without a path. `run` names what is being trained."""
    if path is None:
        return
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in standing.kept.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    about = {"run": run, "step": str(standing.step), "best": repr(standing.best), "waited": str(standing.waited)}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    try:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, beside, about)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: Path | None, run: str, model: nn.Module, optimiser: torch.optim.Optimizer) -> Standing:
    """Puts model and optimiser where they stood and says where that was.

    Without a checkpoint, or with one of another run or one that cannot be read, nothing changes and training begins.
    """
    if path is None or not path.exists():
        return Standing()
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return Standing()
    if about is None or about.get("run") != run:
        return Standing()
    model.load_state_dict(_under(tensors, "model."))
    state: dict[int, State] = {}
    for name, value in _under(tensors, "optimiser.").items():
        index, entry = name.split(".", 1)
        state.setdefault(int(index), {})[entry] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return Standing(int(about["step"]), float(about["best"]), int(about["waited"]), _under(tensors, "best."))


def claim(folder: Path, run: str) -> bool:
    """Whether `folder` holds what an earlier start of the same run left; what another run left is removed."""
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text("utf-8") == run:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stamp.write_text(run, "utf-8")
    return False


def last_checkpoint(folder: Path) -> str | None:
    """The last whole checkpoint that a trainer of transformers left in `folder`."""
    whole = [state.parent for state in folder.glob("checkpoint-*/trainer_state.json") if _is_json(state)]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _is_json(path: Path) -> bool:
    """Whether a trainer came to the end of this file, the last of a checkpoint."""
    try:
        json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return True


def _under(tensors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
