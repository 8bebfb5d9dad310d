"""The work folder of a run: models in progress, and the checkpoints of their training."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Work:
    """A folder, and the fingerprint of what is trained there; only a training of the same one resumes."""

    folder: Path
    made_of: str

    def fresh(self, name: str) -> Path:
        """An empty folder for a model in progress."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def checkpoints(self, model: str) -> Path:
        """The checkpoints from which an interrupted training of a model resumes."""
        return self.folder / "checkpoints" / self.made_of / model
