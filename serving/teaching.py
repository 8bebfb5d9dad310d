"""Cross-encoders that teach another: the same one from several seeds, or larger ones that are at hand.

The mean logit of several seeds orders better than any of them; one model that learns it on judged pairs and on
candidates that nobody judged comes near, at the cost of one (Hinton et al. 2015; Hofstaetter et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from ranking.cross_encoder import CrossEncoderScorer
from ranking.pair_tokens import PairTokenizer
from ranking.pairs import PairSet, Veto
from ranking.settings import RankerTraining
from ranking.train import digest, train_ranker
from retrieval.checkpoint import claim
from retrieval.fingerprint import fingerprint
from retrieval.progress import ProgressMeter
from serving.settings import RankConfig
from serving.training import RankerData, Training, budgeted

TEACHERS = "teachers"


def at_hand(config: RankConfig) -> list[Path]:
    """The models that are to teach, if any are named. Raises BadBundle where a folder holds no cross-encoder."""
    folders = [Path(name) for name in config.taught_by]
    for folder in folders:
        PairTokenizer.load(folder)
    return folders


def train_teachers(
    data: RankerData, settings: RankerTraining, seeds: int, *, start: str, work: Path, **training: Unpack[Training]
) -> list[Path]:
    """Folders of as many models, each by the settings under a seed of its own; those that an interrupted run of the
    same pairs, settings and start has made are kept."""
    settings, folders = budgeted(data.train, settings, training), []
    training["say"](f"teachers: {seeds} seeds, budget {settings.examples:,} examples each")
    claim(work / TEACHERS, fingerprint(settings.model_dump(), start, digest(data.train)))
    for number in range(seeds):
        folder = work / TEACHERS / str(number)
        folders.append(folder)
        if folder.exists():
            continue
        made = folder.with_suffix(".part")
        train_ranker(
            data.train,
            valid=data.valid,
            start=start,
            out=made,
            checkpoints=work / f"teacher-{number}",
            settings=settings.model_copy(update={"seed": settings.seed + number}),
            device=training["device"],
            description=f"teacher {number + 1} of {seeds}",
        )
        made.rename(folder)
    return folders


def taught(pairs: PairSet, teachers: Sequence[Path], device: str) -> PairSet:
    """The pairs with the mean of the models' logits as labels."""
    labels = np.zeros(len(pairs), np.float64)
    for number, folder in enumerate(teachers, start=1):
        scorer, what = CrossEncoderScorer.load(folder, device=device), f"logits of model {number} of {len(teachers)}"
        labels += _logits(scorer, pairs.user_texts, pairs.item_texts, pairs.group, pairs.item, what)
    return replace(pairs, label=(labels / len(teachers)).astype(np.float32))


def veto_of(
    teacher: CrossEncoderScorer | None, margin: float | None, user_texts: Sequence[str], item_texts: Sequence[str]
) -> Veto | None:
    """The veto of negatives among `item_texts` for `user_texts`, one a request; none without teacher or margin."""
    if teacher is None or margin is None:
        return None
    return Veto(lambda user, item: _logits(teacher, user_texts, item_texts, user, item, "logits for the veto"), margin)


def _logits(
    scorer: CrossEncoderScorer,
    user_texts: Sequence[str],
    item_texts: Sequence[str],
    user: NDArray[np.int64],
    item: NDArray[np.int64],
    what: str,
) -> NDArray[np.float32]:
    """The logit of each pair (user[i], item[i]), float32 [n], with progress."""
    meter = ProgressMeter(len(user), what, unit="pairs")
    found = scorer.score_tokenised(scorer.tokenizer.pairs(user_texts, item_texts, user, item), done=meter.advance)
    meter.close()
    return found
