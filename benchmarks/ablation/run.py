"""`python -m benchmarks.ablation --data DATA --out FILE.jsonl --run "NAME: SETTING=VALUE ..."`: the
effect of the towers' settings.

Every run trains towers on the same share of the data and measures them alone, by exact search. A run whose line is in
the file is not trained again, so that a list of runs can be interrupted and extended. Text vectors that no run changes
are cached beside the file, in FILE.texts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from benchmarks.ablation.measure import MeasuredTowers
from benchmarks.ablation.subset import held_out, share_of, withhold
from benchmarks.environment import machine
from retrieval.data.dataset import load
from retrieval.data.requests import Requests
from retrieval.encoders.quiet import quiet_libraries
from retrieval.errors import BadConfig, ShortlistError
from retrieval.fingerprint import fingerprint
from retrieval.settings import Budget, RetrievalConfig
from retrieval.towers.serving import Towers
from retrieval.training.towers import TextPart, TowerData, train_towers
from serving.cli.command_group import ended_by
from serving.cli.options import BudgetOption, Changes, Data, Device
from serving.cli.show import say
from serving.internals import (
    Figures,
    Json,
    RunSettings,
    Shop,
    as_object,
    heading,
    read_settings,
    shown,
    teacher_of,
    untuned_text,
)

SHOWN = (
    "recall@10",
    "recall@20",
    "recall@50",
    "recall@100",
    "ndcg@10",
    "untuned_recall@50",
    "noisy_recall@10",
    "noisy_recall@100",
)


@dataclass(frozen=True)
class Variant:
    """A named run: the settings that it changes, as `room.name=value`, its seed, and the resulting configuration."""

    name: str
    changes: tuple[str, ...]
    seed: int
    config: RunSettings

    @classmethod
    def parsed(cls, text: str, common: Sequence[str], seed: int) -> Variant:
        """Parses the text of `--run`. Raises BadConfig, naming the setting.

        >>> Variant.parsed("deep: retrieval.history.layers=2", ["retrieval.history.epochs=5"], 1).changes
        ('retrieval.history.epochs=5', 'retrieval.history.layers=2')
        """
        name, colon, changes = text.partition(":")
        if not colon or not name.strip():
            raise BadConfig(f'--run {text}: write it as "name: room.name=value ...", for example --run "default:"')
        every = (*common, *changes.split())
        return cls(name.strip(), every, seed, read_settings(changes=[*every, f"retrieval.seed={seed}"]))


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What all runs share: the data, the folds to measure, and the budget of a training."""

    shop: Shop
    new: Mapping[str, Requests]  # by fold, requests for items that were withheld from training
    about: Mapping[str, Json]  # facts that comparable lines share: data, shares, budget, folds
    budget: Budget
    device: str
    texts: Path  # a folder for the vectors of text encoders before any training
    test: bool

    def line(self, variant: Variant) -> Figures:
        """Trains and measures one run: its line of the file. `seconds` are those of training, without text vectors that
        no run changes."""
        config = variant.config.retrieval
        text = self._untuned(variant.config) if self._keeps_text(config) else None
        begun = time.monotonic()
        with TemporaryDirectory() as scratch:
            folder = Path(scratch) / "towers"
            trained = train_towers(
                TowerData(self.shop.data, self.shop.events, self.shop.judgements), folder, config=config,
                budget=self.budget, device=self.device, work=Path(scratch) / "work", text=text, say=say,
                teacher=teacher_of(variant.config, self.device),
            )  # fmt: skip
            seconds = round(time.monotonic() - begun, 1)
            towers = Towers.open(folder, device=self.device, precision=config.precision)
            figures = self._measured(MeasuredTowers(towers, self.shop, trained.text_vectors), variant.config)
        return {**self.key(variant), "commit": machine()["commit"], "seconds": seconds, "figures": figures}

    def key(self, variant: Variant) -> Figures:
        """The entries by which the line of a run is recognised."""
        return {"name": variant.name, "seed": variant.seed, "settings": list(variant.changes), **self.about}

    def _measured(self, measured: MeasuredTowers, config: RunSettings) -> Figures:
        """Figures by task and fold; None for a figure without any request."""
        found: Figures = {}
        if self.shop.events is not None:
            found["recommend"] = {name: measured.recommend(fold) for name, fold in self._folds(self.shop.events.folds)}
            if self.new:
                untuned = self._untuned(config).vectors
                found["new_items"] = {name: measured.new_items(fold, untuned) for name, fold in self._folds(self.new)}
        if self.shop.judgements is not None:
            folds = self.shop.judgements.folds
            queries = {"held out": np.concatenate([folds["ranker_valid"], folds["gate"]])}
            queries |= {"test": folds["test"]} if self.test else {}
            found["search"] = {name: measured.search(fold) for name, fold in queries.items()}
        return found

    def _folds(self, folds: Mapping[str, Requests]) -> list[tuple[str, Requests]]:
        """The folds to measure, by name."""
        return [("held out", held_out(folds)), *([("test", folds["test"])] if self.test else [])]

    def _keeps_text(self, config: RetrievalConfig) -> bool:
        """Whether the text encoder stays untrained: there are no queries, and its settings are the defaults."""
        events = self.shop.data.events
        has_queries = self.shop.judgements is not None or (events is not None and bool(events.query_texts))
        return not has_queries and config.text == RetrievalConfig().text

    def _untuned(self, config: RunSettings) -> TextPart:
        """The text encoder before any training; its vectors are computed once and cached in `texts`."""
        folder = self.texts / fingerprint(config.retrieval.text.model)
        folder.mkdir(parents=True, exist_ok=True)
        return untuned_text(self.shop, None, config, device=self.device, work=folder)


def read_lines(path: Path) -> list[Figures]:
    """The lines of a file of runs, none where there is no file yet. Raises BadConfig for a broken line."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise BadConfig(f"{path}: a line is not JSON ({error}); remove that line to repeat its run") from error


def run_all(ablation: Ablation, variants: Sequence[Variant], out: Path) -> list[Figures]:
    """The line of every variant, in their order; variants without a line in `out` are run and appended."""
    found, known = [], read_lines(out)
    for number, variant in enumerate(variants, 1):
        key = ablation.key(variant)
        line = next((line for line in known if key.items() <= line.items()), None)
        known_already = ", already in the file" if line else ""
        say(f"-- run {number} of {len(variants)}: {variant.name}, seed {variant.seed}{known_already}")
        if line is None:
            line = ablation.line(variant)
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        found.append(line)
    return found


def markdown(lines: Sequence[Figures]) -> str:
    """A table for each task and fold: means over seeds, and the difference to the first run in brackets."""
    names = list(dict.fromkeys(str(line["name"]) for line in lines))
    first = as_object(lines[0]["figures"])
    places = [(task, fold) for task, folds in first.items() for fold in as_object(folds)]
    return "\n\n".join(_table(lines, names, *place) for place in places)


def _table(lines: Sequence[Figures], names: Sequence[str], task: str, fold: str) -> str:
    rows: dict[str, list[Mapping[str, Json]]] = {name: [] for name in names}
    for line in lines:
        figures = as_object(as_object(as_object(line["figures"])[task])[fold])
        rows[str(line["name"])].append({**figures, "seconds": line["seconds"]})
    columns = [column for column in SHOWN if column in rows[names[0]][0]]
    titles = ["run", "seeds", *map(_title, columns), "seconds"]
    written = [f"{task.replace('_', ' ')}, {fold}, n = {rows[names[0]][0]['n']:,}", "", _row(titles)]
    written.append(_row(["---"] * len(titles)))
    for name in names:
        cells = [_cell(rows[name], rows[names[0]], column, name == names[0]) for column in columns]
        written.append(_row([name, str(len(rows[name])), *cells, f"{_mean(rows[name], 'seconds'):,.0f}"]))
    return "\n".join(written)


def _title(column: str) -> str:
    """
    >>> _title("recall@10"), _title("untuned_recall@50")
    ('R@10', 'untuned R@50')
    """
    before, _, plain = column.rpartition("_")
    return f"{before} {heading(plain)}".lstrip()


def _cell(own: Sequence[Mapping[str, Json]], first: Sequence[Mapping[str, Json]], column: str, is_first: bool) -> str:
    value, before = _mean(own, column), _mean(first, column)
    if is_first or value is None or before is None:
        return shown(value)
    return f"{shown(value)} ({shown(value - before, sign=True)})"


def _mean(rows: Sequence[Mapping[str, Json]], column: str) -> float | None:
    known = [value for row in rows if isinstance(value := row.get(column), int | float)]
    return fmean(known) if known else None


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def open_ablation(
    data: Path,
    common: Sequence[str],
    *,
    share: float,
    withheld: float,
    budget: Budget,
    device: str,
    texts: Path,
    test: bool,
) -> Ablation:
    """The ablation of a share of a data set. Raises BadConfig and BadData."""
    config = read_settings(changes=common).data
    whole = load(data, max_bad=config.max_bad, max_unknown=config.max_unknown)
    shop = share_of(whole, share, config)
    about: Figures = {
        "data": whole.fingerprint, "share": share, "withhold": withheld, "budget": budget, "test": test
    }  # fmt: skip
    new: Mapping[str, Requests] = {}
    if withheld:
        if shop.events is None:
            raise BadConfig(f"--withhold {withheld}: {data} has no events, which --withhold needs; leave it out")
        shop, new = withhold(shop, withheld)
    for line in shop.split_lines():
        say(line)
    return Ablation(shop=shop, new=new, about=about, budget=budget, device=device, texts=texts, test=test)


def ablate(
    data: Data,
    out: Annotated[Path, typer.Option(help="A file with a JSON line for each run; runs that it has are not repeated.")],
    run: Annotated[
        list[str],
        typer.Option(
            metavar='"NAME: ROOM.NAME=VALUE ..."',
            help="A run and the settings that it changes; the first is the one that others are compared with.",
        ),
    ],
    changes: Changes = None,
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the users, and of the training queries.")
    ] = 1.0,
    withheld: Annotated[
        float,
        typer.Option("--withhold", min=0.0, max=1.0, help="Share of items to remove from all training and histories."),
    ] = 0.0,
    seeds: Annotated[str, typer.Option(metavar="SEED,SEED", help="Each run is repeated with each seed.")] = "1",
    valid: Annotated[bool, typer.Option("--valid", help="Measure on the held-out folds only, not on test.")] = False,
    budget: BudgetOption = "default",
    device: Device = "auto",
) -> None:
    """Train towers under several settings, measure them by exact search, and compare them with the first."""
    common = changes or []
    try:
        variants = [Variant.parsed(text, common, seed) for seed in _seeds(seeds) for text in run]
        if len({(variant.name, variant.seed) for variant in variants}) < len(variants):
            raise BadConfig("--run: two runs have the same name; give each a name of its own")
        with quiet_libraries():
            ablation = open_ablation(
                data,
                common,
                share=share,
                withheld=withheld,
                budget=budget,
                device=device,
                texts=out.with_suffix(".texts"),
                test=not valid,
            )
            print(markdown(run_all(ablation, variants, out)))
    except ShortlistError as error:
        ended_by(error, debug=False)


def _seeds(text: str) -> list[int]:
    """
    >>> _seeds("1,2")
    [1, 2]
    """
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise BadConfig(f"--seeds {text}: write whole numbers with commas between them, for example 1,2,3") from error
