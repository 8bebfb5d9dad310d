"""Tensors that a long computation over a model keeps in files, so that it goes on after an interruption."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass(frozen=True)
class KeptTensors:
    """Results by name in a folder, None to keep nothing; those of another model are made anew."""

    folder: Path | None
    model: str  # sha256 of its weights

    @classmethod
    def of(cls, folder: Path | None, model: nn.Module) -> KeptTensors:
        """What a folder keeps of results over a model."""
        if folder is None:
            return cls(None, "")
        digest = hashlib.sha256()
        for name, values in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return cls(folder, digest.hexdigest())

    def get(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors that were kept under a name, or those that `make` gives, which are then kept."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                if (file.metadata() or {}).get("model") == self.model:
                    return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            pass  # none yet, or one that was cut short: it is made anew
        made = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".part")
        try:
            save_file({key: values.contiguous() for key, values in made.items()}, beside, {"model": self.model})
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
        return made
