"""Two halves of the shoppers, so that every ranker pair comes from a retriever that did not train on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from retrieval.data.requests import Requests, group_targets
from retrieval.encoders.runtime import RuntimeOptions
from retrieval.training.text_tower import hashed_share
from retrieval.training.towers import TextPart, TowerData, train_towers
from serving.answering.release_settings import ReleaseSettings, with_settings
from serving.answering.release_state import ReleaseState
from serving.fitting.ranker_data import Training
from serving.fitting.train_ranker import PairSource
from serving.jobs.bundle_parts import Assembly
from serving.jobs.work_folder import Work
from serving.shop import Shop

REQUESTS_EACH = 2  # of a shopper's last training requests
ROUNDS = 0.35  # of the budget's, for towers that only propose candidates


def cross_fitted(
    shop: Shop, assembly: Assembly, draft: Release, *, text: TextPart, work: Work, **training: Unpack[Training]
) -> list[PairSource]:
    """Two towers over the untuned `text` part, each trained on half of the shoppers, with the last training requests of
    the other half. Candidates come together as the draft's fusion has them."""
    sources, fusion = [], ReleaseSettings.of(draft).fusion
    for number, half in enumerate(halves(shop)):
        source = TowerData(shop.data, shop.events, None, half)
        trained = train_towers(
            source,
            work.fresh(f"towers-{number}"),
            config=assembly.config.retrieval,
            work=work.checkpoints(f"fold-{number}"),
            text=text,
            rounds=ROUNDS,
            **training,
        )
        aside = replace(assembly, bundle=Bundle.create(work.folder / f"fold-{number}"))
        part = aside.retriever(shop, trained, f"fold {number}", train=source.train, say=training["say"])
        options = RuntimeOptions(device=training["device"])
        opened = ReleaseState.of_release(aside.bundle, with_settings(part, fusion=fusion), options)
        sources.append(PairSource(opened, last_training_requests(shop, ~half)))
    return sources


def halves(shop: Shop) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two complementary masks over the users, bool [n_users], by a stable hash of their ids."""
    first = hashed_share([f"half {user}" for user in shop.data.user_ids], 0.5)
    return first, ~first


def last_training_requests(shop: Shop, users: NDArray[np.bool_], each: int = REQUESTS_EACH) -> Requests:
    """The last `each` training requests of every one of the users, those without a history left out."""
    assert shop.events is not None
    assert shop.data.events is not None
    events, train = shop.data.events, shop.events.train_target
    requests = group_targets(events, train).requests(events, train)
    begins = events.offsets[:-1][requests.user]
    eligible = requests.select(users[requests.user] & (requests.end > begins))
    order = np.lexsort((-eligible.end, eligible.user))
    starts = np.searchsorted(eligible.user[order], eligible.user[order], side="left")
    nth = np.arange(len(order)) - starts
    return eligible.select(np.sort(order[nth < each]))
