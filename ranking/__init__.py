"""The cross-encoder: its pairs, its training, the order of a shortlist, and the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from ranking.cross_encoder import CrossEncoderScorer as CrossEncoderScorer
    from ranking.cross_encoder import ShortlistScorer as ShortlistScorer
    from ranking.gate import GateVerdict as GateVerdict
    from ranking.pairs import PairSet as PairSet
    from ranking.settings import RankerTraining as RankerTraining
    from ranking.train import train_ranker as train_ranker

_MODULES = {
    "ranking.cross_encoder": "CrossEncoderScorer ShortlistScorer",
    "ranking.gate": "GateVerdict",
    "ranking.pairs": "PairSet",
    "ranking.settings": "RankerTraining",
    "ranking.train": "train_ranker",
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
