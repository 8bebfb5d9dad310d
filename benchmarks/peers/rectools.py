"""RecTools' SASRec as a peer, in an environment of its own; what runs there is `rectools_script.py`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from retrieval.errors import BadConfig, MissingDependency
from retrieval.metrics.baselines import Baseline, Positions
from retrieval.metrics.ranking import Counts
from retrieval.topk import CSR, Scores

SCRIPT = Path(__file__).with_name("rectools_script.py")
LISTED = 200  # items that a history is answered with; popularity orders the rest
INSTALL = "python -m venv rectools && rectools/bin/pip install 'rectools[torch]'; then --rectools rectools/bin/python"


class RecToolsConfig(NamedTuple):
    """Sizes and training. The loss is the softmax over all items, a history its last 20: the library's own hundred cost
    five times as much."""

    epochs: int = 20
    longest: int = 20
    factors: int = 128
    blocks: int = 1
    heads: int = 1
    seed: int = 1


DEFAULTS = RecToolsConfig(epochs=3, factors=256, blocks=2, heads=4)  # the library's own but for the length
SMALLER = RecToolsConfig(epochs=10)  # sizes of the SASRec beside it


@dataclass(frozen=True)
class RecTools:
    """A fitted model as the library saves it, the bytes of its weights alone, how often it saw the events, and for how
    many seconds."""

    python: Path
    model: bytes
    weights: int
    epochs: int
    seconds: float

    @classmethod
    def fit(cls, python: Path, lists: CSR, config: RecToolsConfig) -> list[RecTools]:
        """One training on the items of each user, oldest first, as it is half way (from two epochs on) and at its end.

        Raises MissingDependency where `python` has no RecTools, BadConfig where it fails otherwise.
        """
        with TemporaryDirectory() as scratch:
            source, out = Path(scratch) / "train.npz", Path(scratch) / "models"
            out.mkdir()
            _write(lists, source)
            told = _run(python, "fit", [source, out], config)
            weights, *seconds = told.splitlines()[-1].split()
            saved = sorted(out.iterdir(), key=lambda path: int(path.name))
            return [
                cls(python, path.read_bytes(), int(weights), int(path.name), float(spent))
                for path, spent in zip(saved, seconds, strict=True)
            ]

    def alone(self, histories: CSR) -> list[float]:
        """Milliseconds of each history asked for by itself, as RecTools' interpreter times them; empty ones are not."""
        with TemporaryDirectory() as scratch:
            model, source, out = (Path(scratch) / name for name in ("model", "histories.npz", "spent.npy"))
            model.write_bytes(self.model)
            _write(histories, source)
            _run(self.python, "time", [model, source, out], [LISTED])
            spent: list[float] = np.load(out).tolist()
        return spent

    def ranked(self, histories: CSR, counts: Counts) -> Baseline:
        """The order of the catalogue for each history, oldest first; popularity, int64 [n_items], orders what the model
        does not list, all where a history is empty."""
        with TemporaryDirectory() as scratch:
            model, source, out = (Path(scratch) / name for name in ("model", "histories.npz", "rows.npz"))
            model.write_bytes(self.model)
            _write(histories, source)
            _run(self.python, "recommend", [model, source, out], [LISTED])
            with np.load(out) as told:
                rows = told["row"]
        popular: Scores = counts.astype(np.float32) / np.float32(counts.max(initial=0) + 1)

        def score(part: Positions) -> Scores:
            scores = np.tile(popular, (len(part), 1))
            line, place = np.nonzero(rows[part] >= 0)
            scores[line, rows[part][line, place]] = 1 + LISTED - place
            return scores

        return Baseline(histories.n_lists, len(counts), score)


def _write(lists: CSR, path: Path) -> None:
    np.savez(path, user=lists.owners, item=lists.rows, order=np.arange(len(lists.rows)), n=lists.n_lists)


def _run(python: Path, what: str, paths: Sequence[Path], numbers: Sequence[int]) -> str:
    command = [str(python), str(SCRIPT), what, *map(str, paths), *map(str, numbers)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise MissingDependency(f"{python} does not run ({error.strerror}); {INSTALL}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if said.startswith(("ModuleNotFoundError", "ImportError")):
            raise MissingDependency(f"{python}: {said}; {INSTALL}")
        raise BadConfig(f"RecTools by {python} ended with {done.returncode}: {said}")
    return done.stdout
