"""The data contract, the two towers and their training, exact search, metrics and baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from retrieval.data.check_report import CheckReport as CheckReport
    from retrieval.data.dataset import DataSet as DataSet
    from retrieval.data.dataset import check as check
    from retrieval.data.dataset import load as load
    from retrieval.data.events import Events as Events
    from retrieval.data.judgements import Judgements as Judgements
    from retrieval.data.judgements import Queries as Queries
    from retrieval.data.requests import Requests as Requests
    from retrieval.data.split import EventSplit as EventSplit
    from retrieval.data.split import JudgementSplit as JudgementSplit
    from retrieval.data.split import split_events as split_events
    from retrieval.data.split import split_judgements as split_judgements
    from retrieval.encoders.text_encoder import TextEncoder as TextEncoder
    from retrieval.errors import BadBundle as BadBundle
    from retrieval.errors import BadConfig as BadConfig
    from retrieval.errors import BadData as BadData
    from retrieval.errors import BadRequest as BadRequest
    from retrieval.errors import CorruptBundle as CorruptBundle
    from retrieval.errors import GateRefused as GateRefused
    from retrieval.errors import MissingDependency as MissingDependency
    from retrieval.errors import ShortlistError as ShortlistError
    from retrieval.errors import StaleArtefact as StaleArtefact
    from retrieval.sample_shop.write import write_sample as write_sample
    from retrieval.text.rendering import item_text as item_text
    from retrieval.text.rendering import user_text as user_text
    from retrieval.topk import Hits as Hits
    from retrieval.topk import exact_topk as exact_topk
    from retrieval.towers.serving import Towers as Towers
    from retrieval.training.towers import train_towers as train_towers

    __version__: str

_MODULES = {
    "retrieval.data.dataset": "DataSet check load",
    "retrieval.encoders.text_encoder": "TextEncoder",
    "retrieval.errors": "BadBundle BadConfig BadData BadRequest CorruptBundle "
    "GateRefused MissingDependency ShortlistError StaleArtefact",
    "retrieval.data.events": "Events",
    "retrieval.data.judgements": "Judgements Queries",
    "retrieval.data.check_report": "CheckReport",
    "retrieval.data.requests": "Requests",
    "retrieval.sample_shop.write": "write_sample",
    "retrieval.data.split": "EventSplit JudgementSplit split_events split_judgements",
    "retrieval.text.rendering": "item_text user_text",
    "retrieval.topk": "Hits exact_topk",
    "retrieval.towers.serving": "Towers",
    "retrieval.training.towers": "train_towers",
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
