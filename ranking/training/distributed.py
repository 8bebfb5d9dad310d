"""A ranker trained in several processes at once, each on a device of its own.

torchrun starts them; in each, sentence-transformers' trainer reads its share of every batch, and what is learned of it
is averaged. All shares together are as large as a batch of one process, but for rounding; what is left at an epoch's
end is not read. Processes end with the one that started them.
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
    """`train_ranker` in as many processes as the settings say. Raises BadConfig for more than there are GPUs, or than
    pairs are enough for, what `new_cross_encoder` does for a bad start, and RuntimeError where a process fails."""
    settings, valid, start = job["settings"], job["valid"], job["start"]
    where, several = pick_device(job["device"]), settings.processes
    rows = len(training_rows(pairs, settings)) - 1
    if rows < several * rows_of_a_process(len(pairs), rows, settings):
        raise BadConfig(
            f"ranking.training.processes={several}: {len(pairs):,} pairs do not make a batch for each of them"
        )
    if where == "cuda" and several > torch.cuda.device_count():
        raise BadConfig(f"ranking.training.processes={several}, and there are {torch.cuda.device_count()} GPUs")
    with quiet_libraries():
        new_cross_encoder(start, settings)  # what is wrong with it is told here, once
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        told = {"start": str(start), "out": str(job["out"]), "checkpoints": str(job["checkpoints"]), "device": where}
        (folder / JOB).write_text(
            json.dumps({**told, "settings": settings.model_dump(), "description": job["description"]}), encoding="utf-8"
        )
        _write(pairs, folder / PAIRS)
        if valid is not None:
            _write(valid, folder / VALID)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={several}"]
        group = subprocess.Popen(
            [*command, "-m", "ranking.training.distributed", scratch], env=_surroundings(several), stdin=subprocess.PIPE
        )
        try:
            failed = group.wait()
        finally:
            if group.stdin is not None:
                group.stdin.close()  # each process waits for this end, see `work`
            group.wait()
        if failed:
            raise RuntimeError(f"training in {several} processes failed; what they said stands above")
        run = json.loads((folder / RUN).read_text(encoding="utf-8"))
    return RankerRun(**{**run, "evaluations": tuple((int(read), float(value)) for read, value in run["evaluations"])})


def work(folder: Path) -> None:
    """The part of one process, as torchrun starts it; the first one keeps how the run went."""
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


def _surroundings(several: int) -> dict[str, str]:
    """The environment of a process: where this package is found, and its share of the cores."""
    found = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = {"OMP_NUM_THREADS": str(max(1, available_cores() // several))}
    return {**threads, **os.environ, "PYTHONPATH": os.pathsep.join(found)}


def _end_with_the_parent() -> None:
    """Waits for stdin's end, which comes when whoever started this has ended, in whatever way."""
    while os.read(0, 1):
        pass
    os._exit(1)


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
