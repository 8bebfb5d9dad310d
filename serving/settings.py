"""All settings of a run: one frozen tree, filled from a TOML file and from `--set room.name=value`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ByteSize, Field, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from ranking.strategies import strategy_named
from ranking.training.settings import RankerTraining
from retrieval.errors import BadConfig
from retrieval.settings import RetrievalConfig, Settings
from retrieval.text.analysis import KNOWN, NONE
from serving.texts.catalogue import Language


class DataConfig(Settings):
    """How a data set is read and split."""

    split: Literal["auto", "temporal", "leave_one_out"] = Field(
        default="auto",
        description="how events are divided into folds. temporal: consecutive windows of time; leave_one_out: the "
        "last events of each user; auto: temporal where timestamps differ across users and baskets exist",
    )
    target_events: tuple[str, ...] | None = Field(
        default=None,
        description="events that count as what a shopper wanted, such as purchase; none: purchases, else the "
        "strongest event that the data has, as far as names tell",
    )
    min_rating: Literal["auto"] | float | None = Field(
        default="auto",
        description="an event with a lower rating does not count as wanted. auto: 3 where ratings go up to 5, 5 up to "
        "10, 50 up to 100, 0.5 up to 1; none (null): all count, whatever their rating",
    )
    max_bad: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of a file's rows that may be bad and are set aside; above it the run refuses",
    )
    max_unknown: float = Field(
        default=0.10,
        ge=0,
        le=1,
        description="share of events that may name items which the catalogue does not have; raise it for shops that "
        "delist items often",
    )

    language: str = Field(
        default="auto",
        description="language of the catalogue, as ISO 639-1 has it, such as en, de or zh: how words are stemmed and "
        "compounds split. auto: that of the titles, as `shortlist check` tells; none: words are compared as they are "
        "written, but for case and accents",
    )

    @field_validator("language")
    @classmethod
    def _known(cls, code: str) -> str:
        if code not in ("auto", NONE, *KNOWN):
            raise ValueError(f"{code!r} is no language that is known; give auto, none or one of {', '.join(KNOWN)}")
        return code


class IndexConfig(Settings):
    """The vector index."""

    factory: str = Field(
        default="auto",
        description="FAISS factory string of the index, such as Flat, HNSW32_SQ8 or IVF1024,SQ8; auto: the quickest "
        "that reaches `recall` within `memory`, as measured on this machine",
    )
    recall: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="recall@100 against exact search that the index is tuned to; a lower one is faster",
    )
    memory: ByteSize | None = Field(
        default=None,
        gt=0,
        description="what the index may hold in memory, such as 4GiB, 500MB or a number of bytes; none: no limit",
    )


class RankConfig(Settings):
    """The second stage: the ranker over features, the cross-encoder and the texts it reads, and the gate of both."""

    enabled: bool = Field(default=True, description="whether a cross-encoder is trained at all")
    order: Literal["auto", "fused", "linear", "lambdamart", "mlp"] = Field(
        default="auto",
        description="what orders a shortlist before any text is read. fused: the weighted sum of the sources; linear, "
        "lambdamart (extra `lambdamart`), mlp: a ranker of that kind over features, where its gate lets it; auto: the "
        "simplest of them that none clearly beats on ranker_valid",
    )
    model: str | None = Field(
        default=None,
        description="a pretrained BERT that the reranker starts from, a folder or a model id; none: the towers' own "
        "fine-tuned text encoder",
    )
    teacher: str | None = Field(
        default=None,
        description="a CrossEncoder folder that judges the towers' hard negatives and, with `veto_margin`, the "
        "reranker's. It should not have learned from this shop's ranker folds: what is fitted on them would look "
        "better than it is",
    )
    veto_margin: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="in logits of `teacher`: a negative of the reranker is kept only if it scores this far below what "
        "was bought; none: all are kept. Set it where many good items were never shown",
    )
    ensemble: PositiveInt = Field(
        default=1,
        description="models of different seeds that are trained first, and whose mean logits the reranker learns in "
        "place of the labels; each takes a training of its own",
    )
    distil_from: tuple[str, ...] = Field(
        default=(),
        description="CrossEncoder folders, as a rule of larger models, whose mean logits the reranker learns in place "
        "of the labels",
    )
    strategy: str = Field(
        default="full",
        description="which models order a shortlist. full: the cross-encoder; shallow: one of fewer layers, distilled "
        "from it; cascade: shallow, then full over the best `second_stage_depth`; late: late interaction, distilled "
        "from it; late_then_full: late, then full over the best `depth`; or a strategy that another package registers. "
        "All but full are for tighter deadlines",
    )
    depth: PositiveInt = Field(
        default=20, description="places of a shortlist that are reranked; time grows with it, and quality up to a point"
    )
    second_stage_depth: PositiveInt = Field(
        default=10, description="places that the full model reorders in a cascade, of those the shallow one put first"
    )
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        default="auto",
        description="numbers of the models at serving. auto: bf16 where the hardware multiplies it; on CPUs that "
        "multiply int8, int8 if the model was trained on such a CPU and passed its int8 calibration. int8: calibrated "
        "on any CPU, for a bundle that is served elsewhere",
    )
    titles: PositiveInt = Field(
        default=3, description="how many of a shopper's newest titles the reranker reads, beside a query"
    )
    field_markers: bool = Field(
        default=False,
        description="mark each part of a shopper's text with what it is: a query, or the last event on an item (items "
        "passed as a history or a cart count as purchases). Teachers and adopted models must have been trained with it",
    )
    min_gate: int = Field(
        default=50,
        ge=0,
        description="shoppers or judged queries that the gate fold has to hold, or a run trains no reranker; a task of "
        "fewer needs the verdict proven. 50 show a change of nDCG@10 of .1 in four cases of five, twice what any "
        "reranker brought on our data sets",
    )
    gate: Literal["no", "likely", "proven"] = Field(
        default="likely",
        description="verdict that switches reranking on, from nDCG@10 on the gate fold. proven: the 95 % interval of "
        "the gain lies above 0; likely: the gain and 80 % of its resamples are above 0; no: always on",
    )
    judged_negatives: bool | None = Field(
        default=None,
        description="add candidates without a judgement as negatives to judged queries; for judgements that name only "
        "what is relevant. None: where queries have fewer than two judged items on average, for then nothing else "
        "shows which candidate of a query is the worse one",
    )
    cross_fit_below: int = Field(
        default=5_000,
        ge=0,
        description="with fewer usable positives than this, the reranker's candidates come from two towers, each "
        "trained without the other's users; 0: never",
    )
    training: RankerTraining = RankerTraining()
    shallow: RankerTraining = RankerTraining(loss="logit_mse", layers=3, learning_rate=1.5e-4)
    late: RankerTraining = RankerTraining(
        loss="logit_mse", late_interaction=True, learning_rate=1e-4, head_rate=20.0, batch_size=64, dropout=0.0
    )

    @field_validator("distil_from", mode="before")
    @classmethod
    def _as_list(cls, folders: object) -> object:
        """One folder may be written without brackets."""
        return (folders,) if isinstance(folders, str) else folders

    @model_validator(mode="after")
    def _logits_of_one_scale(self) -> Self:
        if self.ensemble > 1 and self.distil_from:
            raise ValueError("ranking.ensemble and ranking.distil_from are two kinds of teacher; set one of them")
        return self

    @property
    def distils(self) -> bool:
        """Whether a model learns another's logits."""
        return self.ensemble > 1 or bool(self.distil_from) or strategy_named(self.strategy).distilled is not None

    @field_validator("strategy")
    @classmethod
    def _registered(cls, name: str) -> str:
        return strategy_named(name).name


class EvaluationConfig(Settings):
    """What is measured, and shown in the report."""

    rerank_sample: int = Field(
        default=4_000,
        ge=0,
        description="requests that reranking is measured on; 0: all. Fewer are quicker, less certain",
    )
    language: Language = Field(
        default="en", description="language of the report and of the tables in the terminal: en, or zh for Chinese"
    )
    examples: int = Field(
        default=6, ge=0, description="real requests that the report shows, before and after reranking"
    )


class RunSettings(Settings):
    """Everything."""

    data: DataConfig = DataConfig()
    retrieval: RetrievalConfig = RetrievalConfig()
    index: IndexConfig = IndexConfig()
    ranking: RankConfig = RankConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _a_teacher_has_something_to_judge(self) -> Self:
        text, teacher, margin = self.retrieval.text, self.ranking.teacher, self.ranking.veto_margin
        if teacher is not None and not text.hard_negatives and margin is None:
            raise ValueError(
                "ranking.teacher judges negatives; set retrieval.text.hard_negatives above 0 or ranking.veto_margin"
            )
        if margin is not None and teacher is None:
            raise ValueError("ranking.veto_margin needs ranking.teacher, a CrossEncoder folder")
        if text.distil and teacher is None:
            raise ValueError("retrieval.text.distil needs ranking.teacher, a CrossEncoder folder")
        return self


def read_settings(
    file: Path | None = None, changes: Sequence[str] = (), *, base: Mapping[str, object] | None = None
) -> RunSettings:
    """The defaults (or `base`, the settings of a release), changed by a TOML file, changed by `room.name=value` lines.

    Raises BadConfig, naming the setting.

    >>> read_settings(changes=["ranking.depth=20"]).ranking.depth
    20
    """
    tree = _merged(_known(base or {}, RunSettings), _read_toml(file) if file is not None else {})
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or not name:
            raise BadConfig(f"--set {change}: write it as room.name=value, for example --set retrieval.seed=2")
        _put(tree, name.strip().split("."), _value(value.strip()), change)
    try:
        return RunSettings.model_validate(tree)
    except ValidationError as error:
        raise BadConfig(_refusal(error.errors()[0])) from error


def _refusal(error: ErrorDetails) -> str:
    """What pydantic found wrong with a setting, with the setting's description as the remedy."""
    name, group = ".".join(map(str, error["loc"])), _group_of(error["loc"])
    if error["type"] == "extra_forbidden":
        return f"setting {name} is not known; its place holds: {', '.join(sorted(group.model_fields))}"
    if error["type"] == "value_error" and isinstance(error["input"], dict):  # settings that do not go together
        return str(error["ctx"]["error"])
    found = f"setting {name}: {error['msg']} (given: {error['input']!r})"
    field = group.model_fields.get(str(error["loc"][-1])) if error["loc"] else None
    return f"{found}; what it sets: {field.description}" if field is not None and field.description else found


def _group_of(path: tuple[int | str, ...]) -> type[BaseModel]:
    """The group of settings that a path of names ends in."""
    group: type[BaseModel] = RunSettings
    for room in path[:-1]:
        field = group.model_fields.get(str(room))
        below = None if field is None else field.annotation
        if not (isinstance(below, type) and issubclass(below, BaseModel)):
            break
        group = below
    return group


def _known(tree: Mapping[str, object], settings: type[BaseModel]) -> dict[str, object]:
    """A recorded tree without what this version has no name for."""
    kept: dict[str, object] = {}
    for name, field in settings.model_fields.items():
        value, below = tree.get(name), field.annotation
        if isinstance(value, Mapping) and isinstance(below, type) and issubclass(below, BaseModel):
            kept[name] = _known(value, below)
        elif name in tree:
            kept[name] = value
    return kept


def _merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Two trees as one; where both have a leaf, that of `above`."""
    tree = dict(below)
    for name, value in above.items():
        under = tree.get(name)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        tree[name] = _merged(under, value) if both else value  # type: ignore[arg-type]
    return tree


def _read_toml(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"{file}: cannot be read as TOML: {error}") from error


def _value(text: str) -> object:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _put(tree: dict[str, object], path: Sequence[str], value: object, change: str) -> None:
    *rooms, name = path
    for room in rooms:
        below = tree.setdefault(room, {})
        if not isinstance(below, dict):
            raise BadConfig(f"--set {change}: {room} is a value, not a group of settings")
        tree = below
    tree[name] = value
