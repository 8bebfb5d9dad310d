"""The ranker of a run: pairs from our own retriever and from judgements, and the fine-tuning on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np

from ranking.models.cross_encoder import CrossEncoderScorer
from ranking.models.int8_calibration import PAIRS, calibrate_int8
from ranking.strategies import LATE, SHALLOW
from ranking.training.local import RankerRun
from ranking.training.pairs import (
    BANDS,
    VALID_BANDS,
    GradeScale,
    PairSet,
    added_pairs,
    join_pairs,
    judged_pairs,
    mine_pairs,
    with_negatives,
)
from ranking.training.settings import RankerTraining
from ranking.training.train import train_ranker
from retrieval.data.requests import Requests
from retrieval.encoders.free_cores import free_cores
from retrieval.encoders.runtime import pick_device, resolve_precision
from retrieval.errors import BadConfig
from retrieval.metrics.baselines import histories
from retrieval.text.rendering import item_texts
from retrieval.topk import CSR
from retrieval.training.text_batches import Teacher
from serving.answering.release_state import ReleaseState
from serving.answering.stages.rank import ranker_texts, user_texts
from serving.answering.tasks import TASKS
from serving.answering.user_context import UserContexts
from serving.evaluation.batch_requests import QueriesAlone, retrieved
from serving.evaluation.labelled import LabelledRequests
from serving.fitting.distillation import at_hand, taught, train_teachers, veto_of
from serving.fitting.ranker_data import RankerData, Training, budgeted, mean_tokens
from serving.settings import RankConfig, RunSettings
from serving.shop import Shop

FEWEST_JUDGED = 2  # judged items of a query on average, under which unjudged candidates are negatives


@dataclass(frozen=True)
class PairSource:
    """One retriever with requests that it did not train on."""

    state: ReleaseState
    requests: Requests


class PairMiner:
    """Draws training groups from shortlists as the engine would answer them."""

    def __init__(self, shop: Shop, config: RankConfig, *, seed: int) -> None:
        self.shop, self.config, self.seed = shop, config, seed
        self.item_texts = item_texts(shop.data.items)

    def events(self, source: PairSource, *, valid: bool = False) -> PairSet:
        """Groups of one positive that retrieval found and negatives from its rank bands."""
        state = source.state
        found = LabelledRequests(state, self.shop).of_requests(source.requests)
        liked = self._liked(source.requests, unseen=state.filter_seen)
        bands = VALID_BANDS if valid else BANDS
        mined = mine_pairs(found.batch.candidates.hits, found.targets, liked, bands=bands, seed=self.seed)
        return mined.pairs(ranker_texts(state, found.batch), self.item_texts)

    def judged(self, state: ReleaseState, fold: str, *, candidates: bool) -> PairSet:
        """The graded pairs of a fold's queries; with unjudged `candidates`, of label 0, beside them."""
        assert self.shop.judgements is not None
        assert self.shop.data.judgements is not None
        assert self.shop.data.queries is not None
        judged = self.shop.data.judgements
        within = np.isin(judged.query, self.shop.judgements.folds[fold])
        pairs = judged_pairs(
            judged.query[within],
            judged.item[within],
            judged.grade[within],
            query_texts=self.shop.data.queries.texts,
            item_texts=self.item_texts,
            scale=GradeScale.of(judged.grade),
        )
        if candidates and pairs.n_groups:
            found = retrieved(state, QueriesAlone(pairs.user_texts), TASKS["search"])
            pairs = with_negatives(pairs, found.candidates.hits, seed=self.seed)
        nobody = UserContexts.nobody(len(pairs.user_texts))
        # as typed: what is not corrected has to be read, too
        return replace(pairs, user_texts=user_texts(state, nobody, pairs.user_texts))

    def _liked(self, requests: Requests, *, unseen: bool) -> CSR:
        """What else each request's shopper took, before or later: never a negative.

        Where seen items are answered, what was taken before and not again is one: else the ranker would learn that
        whatever it reads among the recent titles was bought.
        """
        assert self.shop.data.events is not None
        events = self.shop.data.events
        ends = events.offsets[1:][requests.user]
        whole = Requests(requests.user, ends, requests.target_ptr, requests.target_item, requests.time)
        taken = histories(events, whole, self.shop.target_events)
        return taken if unseen else taken.without(histories(events, requests, self.shop.target_events))


def ranker_data(
    shop: Shop,
    state: ReleaseState,
    config: RankConfig,
    *,
    seed: int,
    device: str,
    cross_fit: Callable[[], list[PairSource]],
    say: Callable[[str], None],
) -> RankerData:
    """All pairs of a run. `cross_fit` is called where fewer positives were usable than the settings want: it gives
    towers that left half of the shoppers out, with training requests of those.

    A teacher's veto, if the settings have a margin for one, is of negatives to learn from alone: those to validate on
    are what serving meets, and models are distilled on all. Raises what `veto_of` does, and BadConfig where the veto
    leaves nothing.
    """
    miner, veto = PairMiner(shop, config, seed=seed), veto_of(config, device, say)
    train, valid, usable = list[PairSet](), list[PairSet](), 0
    proposed: list[PairSet] = []
    if shop.events is not None:
        proposed.append(miner.events(PairSource(state, shop.events.folds["ranker_train"])))
        train.append(veto(proposed[0], proposed[0].label == 0))
        if train[0].n_groups < config.cross_fit_below:
            say(
                f"ranker: {train[0].n_groups:,} positives are usable, under {config.cross_fit_below:,}: "
                "cross-fitting two towers"
            )
            proposed += [miner.events(source) for source in cross_fit()]
            train += [veto(pairs, pairs.label == 0) for pairs in proposed[1:]]
        usable = sum(pairs.n_groups for pairs in train)
        valid.append(miner.events(PairSource(state, shop.events.folds["ranker_valid"]), valid=True))
    if shop.judgements is not None:
        judged = miner.judged(state, "train", candidates=False)
        negatives = names_few_items(judged) if config.judged_negatives is None else config.judged_negatives
        if negatives and config.judged_negatives is None:
            say(f"ranker: {len(judged) / judged.n_groups:.1f} judged items a query; unjudged candidates are negatives")
        more = miner.judged(state, "train", candidates=True) if negatives or config.distils else judged
        train.append(veto(more, added_pairs(more, judged)) if negatives else judged)
        valid.append(miner.judged(state, "ranker_valid", candidates=negatives))
        usable += train[-1].n_groups
        proposed.append(more)
    if any(len(pairs) for pairs in proposed) and not any(len(pairs) for pairs in train):
        raise BadConfig(f"ranking.veto_margin={config.veto_margin} leaves no negative to learn from; lower it")
    return RankerData(join_pairs(train), join_pairs(valid), usable, join_pairs(proposed) if config.distils else None)


def names_few_items(judged: PairSet) -> bool:
    """Whether queries have fewer than FEWEST_JUDGED judged items on average: the pairs alone then show which query an
    item suits, but not which of two candidates suits a query better."""
    return len(judged) < FEWEST_JUDGED * judged.n_groups


def teacher_of(config: RunSettings, device: str) -> Teacher | None:
    """The cross-encoder that judges the towers' hard negatives, if one is configured and they have any. Raises
    BadBundle where its folder holds none."""
    folder = config.ranking.teacher
    if folder is None or not config.retrieval.text.hard_negatives:
        return None
    scorer = CrossEncoderScorer.load(Path(folder), device=device)
    return lambda asked, items: scorer.score(list(zip(asked, items, strict=True)))


def fit_ranker(
    data: RankerData,
    config: RankConfig,
    *,
    start: str,
    out: Path,
    work: Path,
    **training: Unpack[Training],
) -> RankerRun:
    """Fine-tunes on a budget that is logged before it begins: by labels, or by teachers' logits where the settings have
    teachers."""
    tokens, seeds = mean_tokens(data.train), config.ensemble
    training["say"](
        f"ranker: {len(data.train):,} pairs in {data.train.n_groups:,} groups ({data.usable:,} usable), about "
        f"{tokens:.0f} tokens each"
    )
    teachers = at_hand(config)
    if seeds > 1:
        teachers = train_teachers(data, config.training, seeds, start=start, work=work, **training)
    if teachers:
        settings = config.training.model_copy(update={"loss": "logit_mse"})
        int8 = serves_int8(config)
        return distil(data, teachers, settings, start=start, out=out, work=work, name="ranker", int8=int8, **training)
    settings = budgeted(data.train, config.training, start, training)
    training["say"](f"ranker: budget {settings.examples:,} examples")
    with free_cores("ranker", pick_device(training["device"]), training["say"]):
        run = train_ranker(
            data.train,
            valid=data.valid,
            start=start,
            out=out,
            checkpoints=work / "labels",
            settings=settings,
            device=training["device"],
            description="ranker",
        )
        if serves_int8(config):
            calibrate_int8(out, shown(data.train), work=work / "int8", say=training["say"])
    shutil.rmtree(work / "labels", ignore_errors=True)  # of a calibration that is interrupted the training goes on
    return run


def fit_shallow(
    data: RankerData, config: RankConfig, ranker: Path, *, work: Path, **training: Unpack[Training]
) -> RankerRun:
    """Distils the first layers of the full model in the folder `ranker`, by its own logits, to a folder below it."""
    out = ranker / SHALLOW
    return distil(
        data, [ranker], config.shallow, start=str(ranker), out=out, work=work, name="shallow model",
        int8=serves_int8(config), **training,
    )  # fmt: skip


def fit_late(
    data: RankerData, config: RankConfig, ranker: Path, *, work: Path, **training: Unpack[Training]
) -> RankerRun:
    """Distils late interaction from the full model in the folder `ranker`, by its own logits, to a folder below it."""
    return distil(
        data,
        [ranker],
        config.late,
        start=str(ranker),
        out=ranker / LATE,
        work=work,
        name="late interaction",
        int8=False,
        **training,
    )


def distil(
    data: RankerData,
    teachers: Sequence[Path],
    settings: RankerTraining,
    *,
    start: str,
    out: Path,
    work: Path,
    name: str,
    int8: bool,
    **training: Unpack[Training],
) -> RankerRun:
    """A model that learns the mean logits of others on every pair that is proposed; `int8`: with an int8
    calibration."""
    assert data.proposed is not None
    settings = budgeted(data.proposed, settings, start, training)
    training["say"](f"{name}: distilled on {len(data.proposed):,} pairs, budget {settings.examples:,} examples")
    with free_cores(name, pick_device(training["device"]), training["say"]):
        run = train_ranker(
            taught(data.proposed, teachers, training["device"]),
            valid=data.valid,
            start=start,
            out=out,
            checkpoints=work / "distilled",
            settings=settings,
            device=training["device"],
            description=name,
        )
        if int8:
            calibrate_int8(out, shown(data.proposed), work=work / "int8", say=training["say"])
    shutil.rmtree(work / "distilled", ignore_errors=True)
    return run


def serves_int8(config: RankConfig) -> bool:
    """Whether a cross-encoder is served in int8 by these settings: on a machine without int8 instructions not by
    itself, and a calibration takes minutes."""
    return config.precision == "int8" or (config.precision == "auto" and resolve_precision("auto", "cpu") == "bf16")


def shown(pairs: PairSet) -> list[tuple[str, str]]:
    """The pairs that show what a model's layers get, as texts."""
    drawn = np.random.default_rng(0).permutation(len(pairs))[:PAIRS]
    asked, items = pairs.group[drawn].tolist(), pairs.item[drawn].tolist()
    return [(pairs.user_texts[group], pairs.item_texts[item]) for group, item in zip(asked, items, strict=True)]
