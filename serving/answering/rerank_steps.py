"""The steps of reranking as a release records them, and the models that they open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import JsonMap
from indexing.bundle.releases import Release
from indexing.version.index_version import IndexVersion
from ranking.models.cross_encoder import CrossEncoderScorer
from ranking.models.item_tokens import stored_tokens
from ranking.models.late_interaction import LateScorer
from ranking.models.placement import Placement, resolve_placement
from ranking.ordering.blend import Blend
from ranking.training.settings import FULL, LATE, SHALLOW
from retrieval.encoders.int8_file import holds_int8
from retrieval.encoders.runtime import RuntimeName, pick_device, resolve_precision
from retrieval.errors import BadBundle
from serving.answering.stages import SHORTLIST, Pace, Step
from serving.settings import RankConfig


class RecordedStep(NamedTuple):
    """One step of a release: which model of its ranker, over how many places, with which blends by name."""

    model: str
    depth: int
    blends: Mapping[str, Blend] = {}
    precision: str = "auto"

    def as_json(self) -> JsonMap:
        """As `settings.rerank` of a release holds it."""
        blends: JsonMap = {name: blend.as_json() for name, blend in self.blends.items()}
        return {"model": self.model, "depth": self.depth, "precision": self.precision, "blend": blends}

    @classmethod
    def of(cls, recorded: Mapping[str, object]) -> RecordedStep:
        """From `as_json`. Raises BadBundle for what this version does not know."""
        depth, blends = recorded.get("depth", SHORTLIST), recorded.get("blend")
        if not isinstance(depth, int) or depth < 1:
            raise BadBundle(f"a step of reranking over {depth!r} places is not of this version; train the ranker again")
        model = recorded.get("model", FULL)
        if model not in (FULL, SHALLOW, LATE):
            raise BadBundle(f"a step of reranking by a model {model!r} is not of this version; train the ranker again")
        return cls(
            str(model),
            depth,
            {name: Blend.of(weights) for name, weights in (blends if isinstance(blends, dict) else {}).items()},
            str(recorded.get("precision", "auto")),
        )

    def placed(
        self, ranker: Path, device: str = "auto", precision: str = "auto", runtime: RuntimeName = "openvino"
    ) -> Placement:
        """Where the step's model of the ranker in a folder comes to run. `precision` other than auto stands above the
        step's own; auto is int8 on OpenVINO and CPUs that multiply whole numbers in hardware, if the model holds some.

        int8 in a release is meant for CPUs and models that hold whole numbers: elsewhere it counts as auto. Asked for
        on CUDA, it is refused with BadConfig.
        """
        where = pick_device(device)
        whole = where == "cpu" and holds_int8(self._folder(ranker))
        recorded = "auto" if self.precision == "int8" and not whole else self.precision
        wanted = recorded if precision == "auto" else precision
        if wanted == "auto" and whole and (runtime, resolve_precision("auto", where)) == ("openvino", "bf16"):
            wanted = "int8"
        return resolve_placement(device, wanted, runtime)

    def cpu_precisions(self, ranker: Path) -> tuple[str, ...]:
        """The precisions of the step's model that CPUs serve from graphs of their own."""
        return ("fp32", "int8") if holds_int8(self._folder(ranker)) else ("auto",)

    def _folder(self, ranker: Path) -> Path:
        return ranker if self.model == FULL else ranker / self.model

    def open(
        self,
        ranker: Path,
        *,
        cache: Path,
        device: str = "auto",
        precision: str = "auto",
        runtime: RuntimeName = "openvino",
    ) -> CrossEncoderScorer | LateScorer:
        """The step's model of the ranker in a folder, where `placed` puts it, its graphs kept under `cache`.

        Raises BadBundle for a model that is not there.
        """
        folder, own = self._folder(ranker), cache / self._folder(ranker).relative_to(ranker)
        where, by, kind = self.placed(ranker, device, precision, runtime)
        kinds: type[CrossEncoderScorer | LateScorer] = LateScorer if self.model == LATE else CrossEncoderScorer
        return kinds.load(folder, runtime=by, device=where, precision=kind, cache=own)


def planned_steps(config: RankConfig) -> tuple[RecordedStep, ...]:
    """The steps that the settings ask for, without their blends. Late interaction costs next to nothing a place, so
    that it reads the whole shortlist."""
    if config.strategy in ("late", "late_then_full"):
        then = (RecordedStep(FULL, config.depth, precision=config.precision),) if config.strategy != LATE else ()
        return (RecordedStep(LATE, SHORTLIST, precision=config.precision), *then)
    if config.strategy == "cascade":
        return (
            RecordedStep(SHALLOW, config.depth, precision=config.precision),
            RecordedStep(FULL, min(config.second_stage_depth, config.depth), precision=config.precision),
        )
    return (RecordedStep(config.strategy, config.depth, precision=config.precision),)


def recorded_steps(settings: JsonMap) -> tuple[RecordedStep, ...]:
    """The steps that a release recorded, in their order; of one that recorded none, the full model's alone."""
    recorded = settings.get("rerank")
    if isinstance(recorded, list):
        return tuple(RecordedStep.of(step) for step in recorded if isinstance(step, dict))
    return (RecordedStep.of(settings),)


def with_steps(settings: JsonMap, steps: Sequence[RecordedStep | Step]) -> JsonMap:
    """A release's settings with these steps."""
    recorded = [RecordedStep(step.model, step.depth, step.blends, step.precision).as_json() for step in steps]
    return settings | {"rerank": [*recorded]}


def open_steps(
    bundle: Bundle,
    release: Release,
    version: IndexVersion,
    *,
    device: str = "auto",
    precision: str = "auto",
    runtime: RuntimeName = "openvino",
    like: Sequence[Step] = (),
) -> tuple[Step, ...]:
    """The steps of a release with their models open, none without a ranker.

    `precision` other than auto stands above what the release recorded. Of `like`, steps of the same ranker, those
    models are shared that run where these are to run.
    """
    if release.ranker is None:
        return ()
    folder, cache = bundle.path_of("ranker", release.ranker), bundle.path / "runtime" / release.ranker
    opened: list[Step] = []
    for step in recorded_steps(release.settings):
        wanted = (step.model, step.placed(folder, device, precision, runtime))
        shared = next((one for one in like if (one.model, one.scorer.placement) == wanted), None)
        scorer = (
            shared.scorer
            if shared
            else step.open(folder, cache=cache, device=device, precision=precision, runtime=runtime)
        )
        if isinstance(scorer, LateScorer):
            scorer = scorer.with_stored(version)
        pace = shared.pace if shared else Pace()
        stored = stored_tokens(version, scorer.tokenizer)
        opened.append(Step(scorer, step.depth, step.blends, stored, step.model, step.precision, pace))
    return tuple(opened)
