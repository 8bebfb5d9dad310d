"""Training the towers alone, or the ranker alone; each publishes a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from indexing.bundle.bundle import Bundle
from indexing.bundle.releases import Release
from indexing.version.index_version import IndexVersion
from retrieval.errors import BadData
from retrieval.towers.serving import TEXT
from serving.answering.release_settings import ReleaseSettings
from serving.jobs.bundle_parts import plain
from serving.jobs.run import Pipeline, RunResult, recorded_gates
from serving.settings import read_settings


def train_towers(pipeline: Pipeline) -> Release:
    """Train towers, build the index, and publish them without a ranker."""
    with pipeline.writing() as (shop, bundle):
        draft = pipeline.train_retriever(shop, bundle)
        return bundle.publish(replace(draft, why=f"train towers --budget {pipeline.budget}"))


def train_ranker(pipeline: Pipeline) -> RunResult:
    """Train a ranker over the live release's towers and index; gate, evaluate and publish it.

    It is trained even if `ranking.enabled` was false. Raises BadData where there is nothing to learn from; the live
    release then stays live.
    """
    ranking = pipeline.config.ranking.model_copy(update={"enabled": True})
    pipeline = replace(pipeline, config=pipeline.config.model_copy(update={"ranking": ranking}))
    bundle = Bundle.open(pipeline.out)
    live = bundle.current()
    with pipeline.writing(like=index_ids(bundle, live)) as (shop, bundle):
        recorded = ReleaseSettings.of(live)
        planned = pipeline.assembly(bundle).settings(shop)
        settings = planned.model_copy(update={name: getattr(recorded, name) for name in KEPT}).as_json()
        why = f"train ranker --budget {pipeline.budget} after {live.id}"
        figures = {name: value for name, value in live.figures.items() if name != "platt_scaling"}
        gates = {
            task: {"features": gate["features"]} for task, gate in recorded_gates(live).items() if "features" in gate
        }
        draft = replace(live, ranker=None, gates=plain(gates), figures=figures, settings=settings, why=why)
        draft = pipeline.train_ranker(shop, bundle, draft)
        if draft.ranker is None:
            raise BadData(
                f"{pipeline.data_folder}: no ranker was trained: the towers of {live.id} retrieve no positive of the "
                "ranker's training fold; first train them on more events or judgements. That release stays live"
            )
        return pipeline.finish(shop, bundle, pipeline.decide(shop, bundle, draft))


KEPT = ("fusion", "adopted", "item_vectors")  # recorded settings that a new ranker does not change


def index_ids(bundle: Bundle, release: Release) -> list[str]:
    """The item ids of a release's index, by row."""
    ids: list[str] = IndexVersion.open(bundle.path_of("index", release.index), device="cpu").ids.to_pylist()
    return ids


def recorded_settings(bundle: Bundle) -> Mapping[str, object]:
    """The settings of the live release, as far as this version knows them; if its models were adopted, training starts
    from its own encoder."""
    live = bundle.current()
    recorded = ReleaseSettings.of(live)
    settings = read_settings(base=recorded.config)
    if recorded.adopted:
        own = {"model": str(bundle.path_of("towers", live.towers) / TEXT)}
        text = settings.retrieval.text.model_copy(update=own)
        settings = settings.model_copy(update={"retrieval": settings.retrieval.model_copy(update={"text": text})})
    return settings.model_dump(mode="json")
