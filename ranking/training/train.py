"""Fine-tuning of the cross-encoder, in this process or in several."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ranking.training.distributed import train_distributed
from ranking.training.local import RankerJob, RankerRun, train_here
from ranking.training.pairs import PairSet
from ranking.training.settings import RankerTraining
from retrieval.errors import BadData


def train_ranker(
    pairs: PairSet,
    *,
    valid: PairSet | None,
    start: str | Path,
    out: Path,
    checkpoints: Path,
    settings: RankerTraining | None = None,
    device: str = "auto",
    description: str = "training the ranker",
    console: Console | None = None,
) -> RankerRun:
    """Fine-tune a cross-encoder from a pretrained BERT and save it to `out` in CrossEncoder's layout.

    `start` is a folder or model id of an encoder or of a cross-encoder to go on with. Validation stops the run early
    and picks the checkpoint; groups of one label only cannot be ordered and are left out of it. A run that was killed
    goes on from its last checkpoint under `checkpoints` if pairs, settings and start are the same; the folder is
    removed at the end. Raises BadData where there is no pair, what `new_cross_encoder` does, and with several processes
    what `train_distributed` does; those have a screen of their own.
    """
    settings = settings or RankerTraining()
    if len(pairs) == 0:
        raise BadData("no training pair for the ranker: retrieval found none of the positives; leave the ranker out")
    job: RankerJob = {
        "valid": valid, "start": start, "out": out, "checkpoints": checkpoints, "settings": settings,
        "device": device, "description": description,
    }  # fmt: skip
    if settings.processes == 1:
        return train_here(pairs, console=console, **job)
    return train_distributed(pairs, **job)
