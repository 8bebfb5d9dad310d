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

    `start` is a folder or model id, of an encoder or of a cross-encoder to train further. Validation ends the training
    early and picks the best checkpoint; it leaves out groups whose labels are all equal, which have no order. A killed
    training resumes from its last checkpoint under `checkpoints` if pairs, settings and start are the same; so does
    a finished one, from its last, until the caller removes that folder. `console` shows the progress of a training in
    one process. Raises BadData where there is no pair, what `new_cross_encoder` raises, and with several processes what
    `train_distributed` raises.
    """
    settings = settings or RankerTraining()
    if len(pairs) == 0:
        raise BadData(
            "no training pair for the ranker, as retrieval found none of the positives; set ranking.enabled=false"
        )
    job: RankerJob = {
        "valid": valid, "start": start, "out": out, "checkpoints": checkpoints, "settings": settings,
        "device": device, "description": description,
    }  # fmt: skip
    if settings.processes == 1:
        return train_here(pairs, console=console, **job)
    return train_distributed(pairs, **job)
