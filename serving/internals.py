"""The door for whatever measures or extends a bundle: internals of serving that other packages may use.

Benchmarks import from here and from no other module of serving but its commands' options. Names here may change from
one version to the next; what applications use is exported by `serving` itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from serving.answering.batch import Batch as Batch
    from serving.answering.in_time.shared_batches import Callers as Callers
    from serving.answering.in_time.shared_models import sharing as sharing
    from serving.answering.pipeline import run as run
    from serving.answering.release_settings import SHORTLIST as SHORTLIST
    from serving.answering.release_settings import StepSettings as StepSettings
    from serving.answering.release_settings import with_settings as with_settings
    from serving.answering.release_state import LONGEST as LONGEST
    from serving.answering.release_state import ReleaseState as ReleaseState
    from serving.answering.rerank_steps import open_steps as open_steps
    from serving.answering.stages.arrange import arrange as arrange
    from serving.answering.stages.diversify import diversify as diversify
    from serving.answering.stages.encode import encode as encode
    from serving.answering.stages.rank import rank as rank
    from serving.answering.stages.read_user import LiveRequests as LiveRequests
    from serving.answering.stages.retrieve import retrieve as retrieve
    from serving.answering.tasks import TASKS as TASKS
    from serving.answering.tasks import GateName as GateName
    from serving.answering.tasks import Task as Task
    from serving.answering.tasks import task_of as task_of
    from serving.engine import Engine as Engine
    from serving.evaluation.batch_requests import EVERY_GATE as EVERY_GATE
    from serving.evaluation.batch_requests import KnownLogits as KnownLogits
    from serving.evaluation.batch_requests import with_texts as with_texts
    from serving.evaluation.evaluator import Measurement as Measurement
    from serving.evaluation.figures import MIN_SLICE as MIN_SLICE
    from serving.evaluation.figures import Figures as Figures
    from serving.evaluation.figures import Json as Json
    from serving.evaluation.figures import MeasuredTask as MeasuredTask
    from serving.evaluation.figures import Positions as Positions
    from serving.evaluation.figures import as_object as as_object
    from serving.evaluation.figures import given_stage as given_stage
    from serving.evaluation.figures import relevant_rows as relevant_rows
    from serving.evaluation.figures import task_figures as task_figures
    from serving.evaluation.labelled import LabelledRequests as LabelledRequests
    from serving.evaluation.labelled import LabelledShortlists as LabelledShortlists
    from serving.evaluation.reranking import ranked as ranked
    from serving.evaluation.slices import noisy_queries as noisy_queries
    from serving.evaluation.slices import request_slices as request_slices
    from serving.evaluation.untuned_encoder import untuned_text as untuned_text
    from serving.fitting.fit_blend import fitted_on as fitted_on
    from serving.fitting.fit_blend import valid_shortlists as valid_shortlists
    from serving.fitting.train_ranker import fit_ranker as fit_ranker
    from serving.fitting.train_ranker import ranker_data as ranker_data
    from serving.fitting.train_ranker import teacher_of as teacher_of
    from serving.jobs.canaries import read_canaries as read_canaries
    from serving.jobs.run import Pipeline as Pipeline
    from serving.jobs.train_one import index_ids as index_ids
    from serving.jobs.train_one import recorded_settings as recorded_settings
    from serving.jobs.update_index import Update as Update
    from serving.live.events import now as now
    from serving.live.events import recorded_events as recorded_events
    from serving.live.opening import open_store as open_store
    from serving.reporting.report import write_whole as write_whole
    from serving.reporting.tables import OURS as OURS
    from serving.reporting.tables import heading as heading
    from serving.reporting.tables import shown as shown
    from serving.reporting.tables import slice_label as slice_label
    from serving.reporting.tables import stage_label as stage_label
    from serving.request import Answer as Answer
    from serving.request import DiversityMethod as DiversityMethod
    from serving.request import Filters as Filters
    from serving.request import Request as Request
    from serving.rules.watch import RULES_FILE as RULES_FILE
    from serving.settings import DataConfig as DataConfig
    from serving.settings import RunSettings as RunSettings
    from serving.settings import read_settings as read_settings
    from serving.shop import Shop as Shop

_MODULES = {
    "serving.answering.batch": "Batch",
    "serving.answering.stages.arrange": "arrange",
    "serving.answering.stages.diversify": "diversify",
    "serving.answering.stages.encode": "encode",
    "serving.answering.in_time.shared_batches": "Callers",
    "serving.answering.in_time.shared_models": "sharing",
    "serving.answering.pipeline": "run",
    "serving.answering.stages.rank": "rank",
    "serving.answering.stages.read_user": "LiveRequests",
    "serving.answering.release_settings": "SHORTLIST StepSettings with_settings",
    "serving.answering.release_state": "LONGEST ReleaseState",
    "serving.answering.rerank_steps": "open_steps",
    "serving.answering.stages.retrieve": "retrieve",
    "serving.answering.tasks": "GateName TASKS Task task_of",
    "serving.engine": "Engine",
    "serving.evaluation.batch_requests": "EVERY_GATE KnownLogits with_texts",
    "serving.evaluation.evaluator": "Measurement",
    "serving.evaluation.figures": "Figures Json MIN_SLICE MeasuredTask Positions as_object given_stage relevant_rows "
    "task_figures",
    "serving.evaluation.labelled": "LabelledRequests LabelledShortlists",
    "serving.evaluation.reranking": "ranked",
    "serving.evaluation.slices": "noisy_queries request_slices",
    "serving.evaluation.untuned_encoder": "untuned_text",
    "serving.fitting.fit_blend": "fitted_on valid_shortlists",
    "serving.fitting.train_ranker": "fit_ranker ranker_data teacher_of",
    "serving.jobs.canaries": "read_canaries",
    "serving.jobs.run": "Pipeline",
    "serving.jobs.train_one": "index_ids recorded_settings",
    "serving.jobs.update_index": "Update",
    "serving.live.events": "now recorded_events",
    "serving.live.opening": "open_store",
    "serving.reporting.report": "write_whole",
    "serving.reporting.tables": "OURS heading shown slice_label stage_label",
    "serving.request": "Answer DiversityMethod Filters Request",
    "serving.rules.watch": "RULES_FILE",
    "serving.settings": "DataConfig RunSettings read_settings",
    "serving.shop": "Shop",
}
__all__ = [
    "EVERY_GATE",
    "LONGEST",
    "MIN_SLICE",
    "OURS",
    "RULES_FILE",
    "SHORTLIST",
    "TASKS",
    "Answer",
    "Batch",
    "Callers",
    "DataConfig",
    "DiversityMethod",
    "Engine",
    "Figures",
    "Filters",
    "GateName",
    "Json",
    "KnownLogits",
    "LabelledRequests",
    "LabelledShortlists",
    "LiveRequests",
    "MeasuredTask",
    "Measurement",
    "Pipeline",
    "Positions",
    "ReleaseState",
    "Request",
    "RunSettings",
    "Shop",
    "StepSettings",
    "Task",
    "Update",
    "arrange",
    "as_object",
    "diversify",
    "encode",
    "fit_ranker",
    "fitted_on",
    "given_stage",
    "heading",
    "index_ids",
    "noisy_queries",
    "now",
    "open_steps",
    "open_store",
    "rank",
    "ranked",
    "ranker_data",
    "read_canaries",
    "read_settings",
    "recorded_events",
    "recorded_settings",
    "relevant_rows",
    "request_slices",
    "retrieve",
    "run",
    "sharing",
    "shown",
    "slice_label",
    "stage_label",
    "task_figures",
    "task_of",
    "teacher_of",
    "untuned_text",
    "valid_shortlists",
    "with_settings",
    "with_texts",
    "write_whole",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
