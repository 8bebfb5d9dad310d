"""`python -m benchmarks.peers DATA`: what else a shop could take to recommend, measured as `shortlist evaluate` does.

Every peer learns from the split's training events, is chosen on `tower_valid` alone, and ranks the whole catalogue for
the test requests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.als import FittedAls, best_als
from benchmarks.environment import machine
from benchmarks.sasrec import SasRec, SasRecConfig, item_vectors, train_sasrec, user_vectors
from benchmarks.sequences import Sequences, examples, padded, request_histories, training_sequences
from benchmarks.tasks import recommend_tasks
from retrieval.baselines import Baseline, event_baselines, histories, inner_product, targets_of
from retrieval.errors import BadData, ShortlistError
from retrieval.events import Events
from retrieval.metrics import Counts, recall_at
from retrieval.requests import Requests
from retrieval.runtime import pick_device
from retrieval.split import EventSplit
from retrieval.topk import CSR
from serving.commands import ended_by
from serving.evaluate import Figures, evaluate
from serving.options import AsJson, Changes, DataArgument, Device
from serving.settings import read_settings
from serving.shop import Shop
from serving.show import console, say, show_json
from serving.tables import tables

DEPTH = 20  # recall@20 on tower_valid chooses, as it does for the towers


@dataclass(frozen=True)
class Peers:
    """The peers of one shop."""

    shop: Shop
    config: SasRecConfig
    device: str
    seed: int

    def measured(self) -> Figures:
        """The evaluation object of all baselines and peers, beside what was chosen and the seconds that each took.

        Raises BadData where the shop has no events, MissingDependency where a peer's package is missing.
        """
        chosen: Figures = {}
        seconds: Figures = {}
        stages = self._baselines(self.split.folds["test"])
        for name, train in {"als": self._als, "sasrec_ids": self._sasrec}.items():
            begun = time.monotonic()
            stages[name], chosen[name] = train()
            seconds[name] = round(time.monotonic() - begun, 1)
        return {
            **evaluate(recommend=recommend_tasks(self.shop, stages)),
            "chosen": chosen,
            "seconds": seconds,
            "seed": self.seed,
        }

    @property
    def events(self) -> Events:
        """What shoppers did."""
        assert self.shop.data.events is not None
        return self.shop.data.events

    @property
    def split(self) -> EventSplit:
        """Which of it trains, and which tests. Raises BadData where there are no events."""
        if self.shop.events is None:
            raise BadData("the data set has no events, and these peers recommend; add events.parquet")
        return self.shop.events

    def _baselines(self, requests: Requests) -> dict[str, Baseline]:
        return event_baselines(self.events, requests, self.split, self.shop.data.n_items)

    def _als(self) -> tuple[Baseline, Figures]:
        def ranked(fitted: FittedAls, requests: Requests) -> Baseline:
            users = fitted.users(request_histories(self.events, requests))
            return inner_product(users, fitted.items, self._counts)

        def validate(fitted: FittedAls) -> float:
            return self._valid(partial(ranked, fitted))

        best = best_als(self._sequences.items, self.shop.data.n_items, validate, seed=self.seed)
        return ranked(best, self.split.folds["test"]), dict(best.config._asdict())

    def _sasrec(self) -> tuple[Baseline, Figures]:
        def ranked(model: SasRec, requests: Requests) -> Baseline:
            read = padded(request_histories(self.events, requests), self.config.longest)
            return inner_product(user_vectors(model, read), item_vectors(model), self._counts)

        trained = train_sasrec(
            examples(self._sequences, self.config.longest), self.shop.data.n_items, self.config,
            validate=lambda model: self._valid(partial(ranked, model)), device=self.device, seed=self.seed,
        )  # fmt: skip
        return ranked(trained.model, self.split.folds["test"]), {**asdict(self.config), "epoch": trained.epoch}

    def _valid(self, ranked: Callable[[Requests], Baseline]) -> float:
        """recall@20 on `tower_valid`, what was taken before left out unless shoppers buy again; 0 where it is empty."""
        requests = self.split.folds["tower_valid"]
        taken = None if self.shop.shoppers_buy_again() else self._taken(requests)
        targets = targets_of(requests) if taken is None else targets_of(requests).without(taken)
        found = recall_at(ranked(requests).places(targets, exclude=taken), targets, DEPTH)
        known = found[~np.isnan(found)]
        return float(known.mean()) if len(known) else 0.0

    def _taken(self, requests: Requests) -> CSR:
        return histories(self.events, requests, self.split.target_events)

    @cached_property
    def _sequences(self) -> Sequences:
        return training_sequences(self.events, self.split)

    @cached_property
    def _counts(self) -> Counts:
        """Training targets of each item, int64 [n_items]: the order where nothing is known of a shopper."""
        return np.bincount(self.events.item[self.split.train_target], minlength=self.shop.data.n_items)


def compare(
    data: DataArgument,
    changes: Changes = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the factorisation and of the network.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Rounds of the network at most.")] = SasRecConfig.epochs,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="A file for the JSON object.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train matrix factorisation and SASRec of ids, and measure them beside the baselines that need no training."""
    try:
        shop = Shop.open(data, read_settings(changes=changes or []).data, now=datetime.now(UTC))
        for line in shop.split_lines():
            say(line)
        peers = Peers(shop, SasRecConfig(epochs=epochs), pick_device(device), seed)
        found = {**peers.measured(), "data": data.name, "machine": machine()}
        if out is not None:
            out.write_text(json.dumps(found, indent=1), "utf-8")
        if as_json:
            show_json(found)
        else:
            for table in tables(found):
                console().print(table)
    except ShortlistError as error:
        ended_by(error, debug=False)


if __name__ == "__main__":
    typer.run(compare)
