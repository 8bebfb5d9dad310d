"""The data contract, the two towers and their training, exact search, metrics and baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from retrieval.dataset import DataSet as DataSet
    from retrieval.dataset import check as check
    from retrieval.dataset import load as load
    from retrieval.encoder import TextEncoder as TextEncoder
    from retrieval.errors import BadBundle as BadBundle
    from retrieval.errors import BadConfig as BadConfig
    from retrieval.errors import BadData as BadData
    from retrieval.errors import BadRequest as BadRequest
    from retrieval.errors import CorruptBundle as CorruptBundle
    from retrieval.errors import GateRefused as GateRefused
    from retrieval.errors import MissingDependency as MissingDependency
    from retrieval.errors import ShortlistError as ShortlistError
    from retrieval.errors import StaleArtefact as StaleArtefact
    from retrieval.events import Events as Events
    from retrieval.judged import Judgements as Judgements
    from retrieval.judged import Queries as Queries
    from retrieval.report import CheckReport as CheckReport
    from retrieval.requests import Requests as Requests
    from retrieval.sample import write_sample as write_sample
    from retrieval.split import EventSplit as EventSplit
    from retrieval.split import JudgementSplit as JudgementSplit
    from retrieval.split import split_events as split_events
    from retrieval.split import split_judgements as split_judgements
    from retrieval.text import item_text as item_text
    from retrieval.text import user_text as user_text
    from retrieval.topk import Hits as Hits
    from retrieval.topk import exact_topk as exact_topk
    from retrieval.towers import Towers as Towers
    from retrieval.train import train_towers as train_towers

_MODULES = {
    "retrieval.dataset": "DataSet check load",
    "retrieval.encoder": "TextEncoder",
    "retrieval.errors": "BadBundle BadConfig BadData BadRequest CorruptBundle "
    "GateRefused MissingDependency ShortlistError StaleArtefact",
    "retrieval.events": "Events",
    "retrieval.judged": "Judgements Queries",
    "retrieval.report": "CheckReport",
    "retrieval.requests": "Requests",
    "retrieval.sample": "write_sample",
    "retrieval.split": "EventSplit JudgementSplit split_events split_judgements",
    "retrieval.text": "item_text user_text",
    "retrieval.topk": "Hits exact_topk",
    "retrieval.towers": "Towers",
    "retrieval.train": "train_towers",
}
__all__ = [
    "BadBundle",
    "BadConfig",
    "BadData",
    "BadRequest",
    "CheckReport",
    "CorruptBundle",
    "DataSet",
    "EventSplit",
    "Events",
    "GateRefused",
    "Hits",
    "JudgementSplit",
    "Judgements",
    "MissingDependency",
    "Queries",
    "Requests",
    "ShortlistError",
    "StaleArtefact",
    "TextEncoder",
    "Towers",
    "check",
    "exact_topk",
    "item_text",
    "load",
    "split_events",
    "split_judgements",
    "train_towers",
    "user_text",
    "write_sample",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
