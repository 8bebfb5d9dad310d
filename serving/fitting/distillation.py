"""Cross-encoders that teach another: the same one from several seeds, or larger ones.

The mean logit of several seeds orders better than any of them; one model that learns it on judged pairs and on
candidates that nobody judged comes near, at the cost of one (Hinton et al. 2015; Hofstaetter et al. 2020).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from ranking.models.cross_encoder import CrossEncoderScorer
from ranking.models.pair_tokens import PairTokenizer
from ranking.training.pairs import PairSet, digest_of, veto_negatives
from ranking.training.settings import RankerTraining
from ranking.training.train import train_ranker
from retrieval.fingerprint import fingerprint
from retrieval.progress import ProgressMeter
from retrieval.topk import Mask
from retrieval.training.checkpoint import claim
from serving.fitting.ranker_data import RankerData, Training, budgeted
from serving.settings import RankConfig

TEACHERS = "teachers"


def at_hand(config: RankConfig) -> list[Path]:
    """The models that are to teach, if any are named. Raises BadBundle where a folder holds no cross-encoder, that of
    one that is to judge negatives among them."""
    folders = [Path(name) for name in config.distil_from]
    for folder in (*folders, *([Path(config.teacher)] if config.teacher is not None else [])):
        PairTokenizer.load(folder)
    return folders


def train_teachers(
    data: RankerData, settings: RankerTraining, seeds: int, *, start: str, work: Path, **training: Unpack[Training]
) -> list[Path]:
    """Folders of as many models, each by the settings under a seed of its own; those that an interrupted run of the
    same pairs, settings and start has made are kept."""
    settings, folders = budgeted(data.train, settings, start, training), []
    training["say"](f"teachers: {seeds} seeds, budget {settings.examples:,} examples each")
    claim(work / TEACHERS, fingerprint(settings.model_dump(), start, digest_of(data.train)))
    for number in range(seeds):
        folder = work / TEACHERS / str(number)
        folders.append(folder)
        if folder.exists():
            continue
        made, checkpoints = folder.with_suffix(".part"), work / f"teacher-{number}"
        train_ranker(
            data.train,
            valid=data.valid,
            start=start,
            out=made,
            checkpoints=checkpoints,
            settings=settings.model_copy(update={"seed": settings.seed + number}),
            device=training["device"],
            description=f"teacher {number + 1} of {seeds}",
        )
        made.rename(folder)
        shutil.rmtree(checkpoints, ignore_errors=True)
    return folders


def taught(pairs: PairSet, teachers: Sequence[Path], device: str) -> PairSet:
    """The pairs with the mean of the models' logits as labels."""
    labels = np.zeros(len(pairs), np.float64)
    for number, folder in enumerate(teachers, start=1):
        scorer = CrossEncoderScorer.load(folder, device=device)
        labels += _logits(scorer, pairs, f"logits of model {number} of {len(teachers)}")
    return replace(pairs, label=(labels / len(teachers)).astype(np.float32))


def veto_of(config: RankConfig, device: str, say: Callable[[str], None]) -> Callable[[PairSet, Mask], PairSet]:
    """What leaves out of pairs those of the negatives drawn, bool [n_pairs], that the teacher suspects to be liked, see
    `ranking.training.pairs.veto_negatives`; without a margin in the settings, nothing. Raises BadBundle where the
    teacher's folder holds none."""
    margin = config.veto_margin
    if config.teacher is None or margin is None:
        return lambda pairs, _: pairs
    scorer = CrossEncoderScorer.load(Path(config.teacher), device=device)

    def veto(pairs: PairSet, drawn: Mask) -> PairSet:
        left = veto_negatives(pairs, drawn, _logits(scorer, pairs, "logits for the veto"), margin)
        say(f"veto: {len(left):,} of {len(pairs):,} pairs stay, in {left.n_groups:,} of {pairs.n_groups:,} groups")
        return left

    return veto


def _logits(scorer: CrossEncoderScorer, pairs: PairSet, what: str) -> NDArray[np.float32]:
    """The logit of each pair, float32 [n_pairs], with progress."""
    meter = ProgressMeter(len(pairs), what, unit="pairs")
    tokenised = scorer.tokenizer.pairs(pairs.user_texts, pairs.item_texts, pairs.group, pairs.item)
    logits = scorer.score_tokenised(tokenised, done=meter.advance)
    meter.close()
    return logits
