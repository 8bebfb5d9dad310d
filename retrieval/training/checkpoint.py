"""Checkpoints of a plain training loop (one safetensors file), and which run a folder of checkpoints belongs to."""

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
STAMP = "run.txt"  # beside the checkpoints of a trainer: the fingerprint of the run that wrote them


@dataclass
class TrainingState:
    """The progress of a training loop: all that a resumed run needs beside the model and its optimiser."""

    step: int = 0  # the next step to run
    best: float = -math.inf  # best validation score so far
    stale: int = 0  # evaluations since the best one
    best_weights: State = field(default_factory=dict)  # the model's tensors then; empty before the first evaluation


def save_checkpoint(
    path: Path | None, run: str, model: nn.Module, optimiser: torch.optim.Optimizer, progress: TrainingState
) -> None:
    """Replaces the checkpoint at `path` atomically; without a path, does nothing. `run` is the run's fingerprint."""
    if path is None:
        return
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in progress.best_weights.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    about = {"run": run, "step": str(progress.step), "best": repr(progress.best), "stale": str(progress.stale)}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    try:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, beside, about)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(path: Path | None, run: str, model: nn.Module, optimiser: torch.optim.Optimizer) -> TrainingState:
    """Restores model and optimiser in place and returns the progress that goes with them.

    Where there is no checkpoint, or it belongs to another run or cannot be read, nothing is changed and the progress
    returned is that of a new run.
    """
    if path is None or not path.exists():
        return TrainingState()
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError:
        return TrainingState()
    if about is None or about.get("run") != run:
        return TrainingState()
    model.load_state_dict(_under(tensors, "model."))
    state: dict[int, State] = {}
    for name, value in _under(tensors, "optimiser.").items():
        index, entry = name.split(".", 1)
        state.setdefault(int(index), {})[entry] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})
    return TrainingState(int(about["step"]), float(about["best"]), int(about["stale"]), _under(tensors, "best."))


def claim(folder: Path, run: str) -> bool:
    """Whether `folder` holds checkpoints of this very run; those of another run are deleted and it is stamped anew."""
    stamp = folder / STAMP
    if stamp.exists() and stamp.read_text("utf-8") == run:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stamp.write_text(run, "utf-8")
    return False


def last_checkpoint(folder: Path) -> str | None:
    """The path of the newest complete checkpoint that a transformers trainer left in `folder`, or None."""
    whole = [state.parent for state in folder.glob("checkpoint-*/trainer_state.json") if _is_json(state)]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _is_json(path: Path) -> bool:
    """Whether this file, which a trainer writes last, is complete."""
    try:
        json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return True


def _under(tensors: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
