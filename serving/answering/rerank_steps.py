"""The steps of reranking: what the settings plan, what a release records, and the models that answer from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from indexing.version.index_version import IndexVersion
from ranking.models.cross_encoder import CrossEncoderScorer, ShortlistScorer
from ranking.models.item_tokens import StoredTokens, stored_tokens
from ranking.models.late_interaction import LateScorer
from ranking.models.placement import Placement, resolve_placement
from ranking.ordering.blend import Blend
from ranking.strategies import FULL, LATE, SHALLOW, Depths, strategy_named
from retrieval.encoders.int8_file import holds_int8
from retrieval.encoders.runtime import DEFAULT_RUNTIME, RuntimeOptions, pick_device, resolve_precision
from retrieval.errors import BadBundle
from serving.answering.deadline import LatencyModel
from serving.answering.release_settings import SHORTLIST, OrderName, ReleaseSettings, StepSettings, weights_for_task

if TYPE_CHECKING:
    from serving.settings import RankConfig

MODELS = (FULL, SHALLOW, LATE)
GIVEN_ORDER = Blend(0.0, 1.0)  # what a blend without a logit leaves as it is


@dataclass(frozen=True)
class Step:
    """One model over the first `depth` places of the order before it, with blends by the name of an order or `grade`,
    and those that were fitted without its logit (`controls`).

    `stored` is what the index holds of its tokens as built, None where that is nothing. `model` and `precision` name
    the scorer among those of the ranker. `latency` is what was observed of its calls.
    """

    scorer: ShortlistScorer
    depth: int
    blends: Mapping[str, Blend] = field(default_factory=dict)
    stored: StoredTokens | None = None
    model: str = FULL
    precision: str = "auto"
    latency: LatencyModel = field(default_factory=LatencyModel, compare=False)
    controls: Mapping[str, Blend] = field(default_factory=dict)

    def blend(self, name: str) -> Blend:
        """What was fitted for an order or for grades; the logit alone where nothing was."""
        return weights_for_task(self.blends, name, Blend())

    def without_logit(self) -> Step:
        """The step that only weighs anew, as was fitted beside it; an order that nothing was fitted for stays."""
        controls = {name: weights_for_task(self.controls, name, GIVEN_ORDER) for name in get_args(OrderName)}
        return replace(self, blends=controls, controls={})


def planned_steps(config: RankConfig) -> tuple[StepSettings, ...]:
    """The steps that the settings ask for, without their blends. Raises BadConfig for an unknown strategy."""
    depths = Depths(config.depth, config.second_stage_depth, SHORTLIST)
    planned = strategy_named(config.strategy).plan(depths)
    return tuple(StepSettings(model=step.model, depth=step.depth, precision=config.precision) for step in planned)


def recorded_steps(steps: Sequence[Step]) -> tuple[StepSettings, ...]:
    """Steps with their blends, as a release records them."""
    return tuple(
        StepSettings(
            model=step.model,
            depth=step.depth,
            precision=step.precision,
            blend={name: blend.as_json() for name, blend in step.blends.items()},
            control={name: blend.as_json() for name, blend in step.controls.items()},
        )
        for step in steps
    )


def model_folder(ranker: Path, model: str) -> Path:
    """Where one of a ranker's models lies. Raises BadBundle for a model that this version does not know."""
    if model not in MODELS:
        raise BadBundle(f"a step of reranking by a model {model!r} is not of this version; train the ranker again")
    return ranker if model == FULL else ranker / model


def step_placement(step: StepSettings, ranker: Path, options: RuntimeOptions = DEFAULT_RUNTIME) -> Placement:
    """Where a step's model of the ranker in a folder comes to run. A precision other than auto in `options` stands
    above the step's own; auto is int8 on OpenVINO and CPUs that multiply whole numbers in hardware, if the model holds
    some.

    int8 in a release is meant for CPUs and models that hold whole numbers: elsewhere it counts as auto. Asked for on
    CUDA, it is refused with BadConfig.
    """
    where = pick_device(options.device)
    whole = where == "cpu" and holds_int8(model_folder(ranker, step.model))
    recorded = "auto" if step.precision == "int8" and not whole else step.precision
    wanted = recorded if options.precision == "auto" else options.precision
    if wanted == "auto" and whole and (options.runtime, resolve_precision("auto", where)) == ("openvino", "bf16"):
        wanted = "int8"
    return resolve_placement(options.device, wanted, options.runtime)


def cpu_precisions(step: StepSettings, ranker: Path) -> tuple[str, ...]:
    """The precisions of a step's model that CPUs serve from graphs of their own."""
    return ("fp32", "int8") if holds_int8(model_folder(ranker, step.model)) else ("auto",)


def open_model(
    step: StepSettings, ranker: Path, *, cache: Path, options: RuntimeOptions = DEFAULT_RUNTIME
) -> CrossEncoderScorer | LateScorer:
    """A step's model of the ranker in a folder, where `step_placement` puts it, its graphs kept under `cache`.

    Raises BadBundle for a model that is not there.
    """
    folder = model_folder(ranker, step.model)
    where, by, kind = step_placement(step, ranker, options)
    kinds: type[CrossEncoderScorer | LateScorer] = LateScorer if step.model == LATE else CrossEncoderScorer
    return kinds.load(folder, runtime=by, device=where, precision=kind, cache=cache / folder.relative_to(ranker))


def open_steps(
    bundle: Bundle,
    release: Release,
    version: IndexVersion,
    options: RuntimeOptions = DEFAULT_RUNTIME,
    *,
    like: Sequence[Step] = (),
) -> tuple[Step, ...]:
    """The steps that a release recorded with their models open, none without a ranker.

    Of `like`, steps of the same ranker, those models are shared that run where these are to run.
    """
    if release.ranker is None:
        return ()
    folder, cache = bundle.path_of("ranker", release.ranker), bundle.path / "runtime" / release.ranker
    opened: list[Step] = []
    for step in ReleaseSettings.of(release).rerank:
        wanted = (step.model, step_placement(step, folder, options))
        shared = next((one for one in like if (one.model, one.scorer.placement) == wanted), None)
        scorer = shared.scorer if shared else open_model(step, folder, cache=cache, options=options)
        if isinstance(scorer, LateScorer):
            scorer = scorer.with_stored(version)
        latency = shared.latency if shared else LatencyModel()
        stored = stored_tokens(version, scorer.tokenizer)
        opened.append(Step(scorer, step.depth, step.blends, stored, step.model, step.precision, latency, step.controls))
    return tuple(opened)
