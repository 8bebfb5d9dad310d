"""A ranker trained in several processes at once, each on a device of its own.

torchrun starts them; in each, sentence-transformers' trainer reads its share of every batch, and what is learned of it
is averaged. All shares together are as large as a batch of one process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ranking.pairs import PairSet
from ranking.settings import RankerTraining
from ranking.train import RankerRun, new_cross_encoder, train_here
from retrieval.errors import BadConfig, ShortlistError
from retrieval.runtime import available_cores, pick_device
from retrieval.training_progress import quiet_libraries

PAIRS, VALID, JOB, RUN = "pairs", "valid", "job.json", "run.json"


def train_together(
    pairs: PairSet,
    *,
    valid: PairSet | None,
    start: str | Path,
    out: Path,
    checkpoints: Path,
    settings: RankerTraining,
    device: str = "auto",
    description: str = "training the ranker",
) -> RankerRun:
    """`train_ranker` in as many processes as the settings say. Raises BadConfig for more than there are GPUs, and what
    `train_ranker` raises for a bad start."""
    where, several = pick_device(device), settings.processes
    if where == "cuda" and several > torch.cuda.device_count():
        raise BadConfig(f"ranking.training.processes={several}, and there are {torch.cuda.device_count()} GPUs")
    with quiet_libraries():
        new_cross_encoder(start, settings)  # what is wrong with it is told here, once
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        told = {"start": str(start), "out": str(out), "checkpoints": str(checkpoints), "device": where}
        (folder / JOB).write_text(
            json.dumps({**told, "settings": settings.model_dump(), "description": description}), encoding="utf-8"
        )
        _write(pairs, folder / PAIRS)
        if valid is not None:
            _write(valid, folder / VALID)
        threads = str(max(1, available_cores() // several))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={several}"]
        ended = subprocess.run(
            [*command, "-m", "ranking.together", scratch], env={"OMP_NUM_THREADS": threads, **os.environ}, check=False
        )
        if ended.returncode:
            raise ShortlistError(f"training in {several} processes failed; what they said stands above")
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    return RankerRun(**{**run, "evaluations": tuple((int(read), float(value)) for read, value in run["evaluations"])})


def work(folder: Path) -> None:
    """The part of one process, as torchrun starts it; the first one keeps how the run went."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # of accelerate, about its own options
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    number = int(os.environ["RANK"])
    if job["device"] == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    run = train_here(
        _read(folder / PAIRS),
        valid=_read(folder / VALID) if (folder / f"{VALID}.npz").exists() else None,
        start=job["start"],
        out=Path(job["out"]),
        checkpoints=Path(job["checkpoints"]),
        settings=RankerTraining.model_validate(job["settings"]),
        device=job["device"],
        description=job["description"],
    )
    if number == 0:
        (folder / RUN).write_text(json.dumps(vars(run)), encoding="utf-8")
    torch.distributed.destroy_process_group()


def _write(pairs: PairSet, path: Path) -> None:
    """The arrays, and the texts of the items that are in a pair."""
    rows, item = np.unique(pairs.item, return_inverse=True)
    np.savez(path.with_suffix(".npz"), indptr=pairs.indptr, item=item, label=pairs.label, span=pairs.span)
    texts = {"users": list(pairs.user_texts), "items": [pairs.item_texts[row] for row in rows]}
    path.with_suffix(".json").write_text(json.dumps(texts, ensure_ascii=False), encoding="utf-8")


def _read(path: Path) -> PairSet:
    arrays = np.load(path.with_suffix(".npz"))
    texts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return PairSet(
        user_texts=texts["users"], item_texts=texts["items"], indptr=arrays["indptr"], item=arrays["item"],
        label=arrays["label"], span=float(arrays["span"]),
    )  # fmt: skip


if __name__ == "__main__":
    work(Path(sys.argv[1]))
