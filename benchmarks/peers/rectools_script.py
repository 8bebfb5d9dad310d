"""RecTools' SASRec, run by an interpreter that has `rectools[torch]`: it needs other versions than this project.

`fit IN OUT` trains on `user`, `item` and `order` of IN.npz and keeps the model half way and at the end, in the folder
OUT, each named by its epochs; `recommend MODEL IN OUT` ranks what it knows for histories of the same form and writes
`row` [n, k], -1 where there are fewer, to OUT.npz; `time MODEL IN OUT` ranks one history after another and writes the
milliseconds of each to OUT.npy. Nothing else of the project is imported.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel, load_model

DAY_ONE = np.datetime64("2020-01-01", "s")


def events_of(path: Path) -> pd.DataFrame:
    """Events as RecTools reads them; all that it makes of their times is an order."""
    with np.load(path) as told:
        columns = {Columns.User: told["user"], Columns.Item: told["item"]}
        times = DAY_ONE + told["order"].astype("timedelta64[s]")
    return pd.DataFrame({**columns, Columns.Weight: 1.0, Columns.Datetime: times})


def fit(source: Path, out: Path, epochs: int, longest: int, factors: int, blocks: int, heads: int, seed: int) -> None:
    """Softmax over the whole catalogue, the library's default; the last line printed is the bytes of the weights and
    the seconds until each model was kept, in that order."""
    seed_everything(seed)
    model = SASRecModel(
        n_blocks=blocks, n_heads=heads, n_factors=factors, session_max_len=longest, epochs=epochs, loss="softmax",
        deterministic=False, verbose=0,
    )  # fmt: skip
    begun, done, seconds = time.perf_counter(), 0, []
    dataset = Dataset.construct(events_of(source))
    for until in sorted({epochs // 2 or epochs, epochs}):
        model.fit_partial(dataset, min_epochs=until - done, max_epochs=until - done)
        model.save(out / str(done := until))
        seconds.append(time.perf_counter() - begun)
    print(sum(part.numel() * part.element_size() for part in model.lightning_model.parameters()), *seconds)


def recommend(saved: Path, source: Path, out: Path, k: int) -> None:
    """The k best items of each history, those in it among them. A history of which nothing is known gets none."""
    dataset = Dataset.construct(events_of(source))
    with np.load(source) as told:
        n, users = int(told["n"]), np.unique(told["user"])
    found = load_model(saved).recommend(users, dataset, k=k, filter_viewed=False, on_unsupported_targets="ignore")
    rows = np.full((n, k), -1, np.int64)
    rows[found[Columns.User].to_numpy(), found[Columns.Rank].to_numpy() - 1] = found[Columns.Item].to_numpy()
    np.savez(out, row=rows)


def spend(saved: Path, source: Path, out: Path, k: int) -> None:
    """The milliseconds of each user's k best items, after the first user was answered once unmeasured."""
    model, spent = load_model(saved), []
    parts = [(user, Dataset.construct(events)) for user, events in events_of(source).groupby(Columns.User)]
    for user, dataset in parts[:1] + parts:
        begun = time.perf_counter()
        model.recommend([user], dataset, k=k, filter_viewed=False, on_unsupported_targets="ignore")
        spent.append(1_000 * (time.perf_counter() - begun))
    np.save(out, np.array(spent[1:]))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    what, *given = sys.argv[1:]
    if what == "fit":
        fit(Path(given[0]), Path(given[1]), *map(int, given[2:]))
    else:
        answer = recommend if what == "recommend" else spend
        answer(Path(given[0]), Path(given[1]), Path(given[2]), int(given[3]))
