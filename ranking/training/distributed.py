"""Data-parallel training of a ranker: several processes, each on a device of its own.

torchrun starts them; in each, sentence-transformers' trainer reads its share of every batch, and gradients are
averaged. The shares together are as large as a batch of one process, up to rounding; an epoch's incomplete last batch
is dropped. The processes end when the one that started them ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Unpack

import numpy as np
import torch

from ranking.training.initial_model import new_cross_encoder
from ranking.training.local import RankerJob, RankerRun, rows_of_a_process, train_here, training_rows
from ranking.training.pairs import PairSet
from ranking.training.settings import RankerTraining
from retrieval.encoders.quiet import quiet_libraries
from retrieval.encoders.runtime import available_cores, pick_device
from retrieval.errors import BadConfig

PAIRS, VALID, JOB, RUN = "pairs", "valid", "job.json", "run.json"


def train_distributed(pairs: PairSet, **job: Unpack[RankerJob]) -> RankerRun:
    """`train_ranker` in `settings.processes` processes.

    Raises BadConfig for more processes than GPUs, or than one batch of the pairs has room for, what `new_cross_encoder`
    raises, and RuntimeError where a process fails.
    """
    settings, valid, start = job["settings"], job["valid"], job["start"]
    where, several = pick_device(job["device"]), settings.processes
    rows = len(training_rows(pairs, settings)) - 1
    if rows < several * rows_of_a_process(len(pairs), rows, settings):
        raise BadConfig(
            f"ranking.training.processes={several}: {len(pairs):,} pairs are too few for a batch in each; lower it"
        )
    if where == "cuda" and several > torch.cuda.device_count():
        raise BadConfig(
            f"ranking.training.processes={several}, but there are {torch.cuda.device_count()} GPUs; lower it"
        )
    with quiet_libraries():
        new_cross_encoder(start, settings)  # raises here, once, if it cannot be opened
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        job_file = {
            "start": str(start),
            "out": str(job["out"]),
            "checkpoints": str(job["checkpoints"]),
            "device": where,
        }
        (folder / JOB).write_text(
            json.dumps({**job_file, "settings": settings.model_dump(), "description": job["description"]}),
            encoding="utf-8",
        )
        _write(pairs, folder / PAIRS)
        if valid is not None:
            _write(valid, folder / VALID)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={several}"]
        group = subprocess.Popen(
            [*command, "-m", "ranking.training.distributed", scratch], env=_environment(several), stdin=subprocess.PIPE
        )
        try:
            failed = group.wait()
        finally:
            if group.stdin is not None:
                group.stdin.close()  # the processes end on this, see _end_with_the_parent
            group.wait()
        if failed:
            raise RuntimeError(f"training in {several} processes failed; their output above names the cause")
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    return RankerRun(**{**run, "evaluations": tuple((int(read), float(value)) for read, value in run["evaluations"])})


def work(folder: Path) -> None:
    """Run one of the processes, as torchrun starts it; the first writes the RankerRun to a file."""
    warnings.filterwarnings("ignore", category=FutureWarning)  # of accelerate, about its own options
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
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
    if os.environ["RANK"] == "0":
        (folder / RUN).write_text(json.dumps(vars(run)), encoding="utf-8")
    torch.distributed.destroy_process_group()


def _environment(several: int) -> dict[str, str]:
    """The environment variables of a process: the path of this package, and its share of the cores."""
    found = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = {"OMP_NUM_THREADS": str(max(1, available_cores() // several))}
    return {**threads, **os.environ, "PYTHONPATH": os.pathsep.join(found)}


def _end_with_the_parent() -> None:
    """End this process once stdin is closed, which happens when the parent ends in any way."""
    while os.read(0, 1):
        pass
    os._exit(1)


def _write(pairs: PairSet, path: Path) -> None:
    """Write the arrays, and the texts of those items that are in a pair."""
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
