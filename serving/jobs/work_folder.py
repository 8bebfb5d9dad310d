"""The folder of what a run only works on: models that are being made, and the checkpoints of their trainings."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Work:
    """A folder, and the name of what is made there: another name, and no training goes on from a checkpoint."""

    folder: Path
    made_of: str

    def fresh(self, name: str) -> Path:
        """An empty folder for a model that is being made; checkpoints lie elsewhere."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def checkpoints(self, model: str) -> Path:
        """Where an interrupted training of a model goes on."""
        return self.folder / "checkpoints" / self.made_of / model
