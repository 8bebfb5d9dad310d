"""Reranking: the models, their training, the order of a shortlist, and the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from ranking.models.cross_encoder import CrossEncoderScorer as CrossEncoderScorer
    from ranking.models.cross_encoder import ShortlistScorer as ShortlistScorer
    from ranking.ordering.gate import GateVerdict as GateVerdict
    from ranking.training.pairs import PairSet as PairSet
    from ranking.training.settings import RankerTraining as RankerTraining
    from ranking.training.train import train_ranker as train_ranker

    __version__: str

_MODULES = {
    "ranking.models.cross_encoder": "CrossEncoderScorer ShortlistScorer",
    "ranking.ordering.gate": "GateVerdict",
    "ranking.training.pairs": "PairSet",
    "ranking.training.settings": "RankerTraining",
    "ranking.training.train": "train_ranker",
}
__all__ = [
    "CrossEncoderScorer",
    "GateVerdict",
    "PairSet",
    "RankerTraining",
    "ShortlistScorer",
    "train_ranker",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
