"""`shortlist index build`, the nightly job. However it ends, a whole and verified release keeps answering."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from indexing.bundle.bundle import Bundle
from indexing.bundle.manifest import JsonMap
from indexing.bundle.publish_gates import CHECKSUMS, Gate, recall_reached, whole
from indexing.bundle.releases import Release, rerank_gates
from indexing.tuning.build_index import RECALL_AT
from indexing.version.build import TEXT_PARTS, WORK, Built
from retrieval.encoders.text_encoder import NO_INT8
from retrieval.errors import BadBundle, BadConfig, GateRefused
from serving.answering.release_settings import ReleaseSettings, with_settings
from serving.jobs.bundle_parts import Assembly, events_read
from serving.jobs.canaries import read_canaries
from serving.jobs.incumbent import Incumbent
from serving.jobs.job_log import JobLog
from serving.jobs.run import Pipeline
from serving.jobs.work_folder import REJECTED, keep_rejected
from serving.shop import Shop


@dataclass(frozen=True)
class IndexBuild:
    """What a job made: a release, live unless a gate refused it."""

    release: Release
    built: Built
    gates: tuple[Gate, ...]
    live: bool
    seconds: dict[str, float]  # by stage
    bundle: Path

    def require_live(self) -> None:
        """Raise GateRefused with each gate that refused and its figures, unless the release is live."""
        if not self.live:
            refused = "; ".join(f"gate {gate.name}: {gate.why}" for gate in self.gates if not gate.passed)
            name, bundle = self.release.id, self.bundle
            raise GateRefused(
                f"release {name} is not published, {self.release.parent} stays live: {refused}; see "
                f"{bundle / 'releases' / name}.json; to make it live all the same run: shortlist release activate "
                f"{bundle} {name}, or build again with --force --why TEXT"
            )

    def line(self) -> str:
        """One line for a terminal."""
        return f"release {self.release.id} of {self.bundle} is live: {self.built.items:,} items: {self.built.texts}"

    def to_dict(self) -> dict[str, object]:
        """As JSON."""
        return {
            "release": self.release.id,
            "live": self.live,
            "index": self.built.name,
            "items": self.built.items,
            **self.built.texts._asdict(),
            "recall": self.built.recall,
            "gates": self.release.gates,
            "who": self.release.who,
            "why": self.release.why,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, kw_only=True)
class IndexJob:
    """A new index of a data set's items with the live release's models, published once it has passed its gates.

    `max_change` is the share of the live release's items by which their number may change, and which may be gone.
    `force` publishes what any gate but that of checksums refuses, for which `why` has to be given; the release names
    the gates, who and why.
    """

    pipeline: Pipeline
    log: JobLog
    max_change: float
    force: bool = False
    why: str = ""

    def run(self) -> IndexBuild:
        """What was built. Where a gate refused, the release is recorded, the old one stays live, and `require_live` of
        what is returned raises GateRefused."""
        bundle = Bundle.open(self.pipeline.out)
        with bundle.lock():
            self._check()
            live = self._live(bundle)
            made = self._build(self._read(), bundle, live)
            outcome = "published" if made.live else "refused"
            try:
                self.log.finish(outcome, release=made.release.id, **made.built.texts._asdict())
            except BadBundle as error:  # the release stands whether or not it is logged
                self.pipeline.say(f"note: {error}")
            return replace(made, seconds=self.log.seconds)

    def _check(self) -> None:
        if self.force and not self.why.strip():
            raise BadConfig("--force overrules the gates, and the release records why: add --why TEXT")
        if not self.max_change >= 0:
            raise BadConfig(f"--max-change is {self.max_change}; give a share of the items, such as 0.3 for 30 %")

    def _live(self, bundle: Bundle) -> Release:
        live = bundle.current()
        if ReleaseSettings.of(live).item_vectors == "given":
            raise BadBundle(
                f"{bundle.path}: the item vectors of release {live.id} were supplied from outside and cannot be "
                "computed here; run: shortlist adopt with --vectors for all items"
            )
        return live

    def _read(self) -> Shop:
        """Read and validate the data set; rejected rows are written to the bundle."""
        self.log.report("read")
        with TemporaryDirectory() as scratch:
            rejected = Path(scratch) / REJECTED
            shop = self.pipeline.open_shop(catalogue_alone=True, rejected=rejected)
            keep_rejected(rejected, self.pipeline.out)
        for file in shop.data.report.files:
            self.log.note("validated", file=file.path, rows=file.rows, kept=file.kept)
        return shop

    def _build(self, shop: Shop, bundle: Bundle, live: Release) -> IndexBuild:
        self.log.report("live release")
        assembly = self.pipeline.assembly(bundle)
        name = live.canaries or assembly.add_canaries(shop)
        canaries = read_canaries(bundle.path_of("canaries", name))
        incumbent = Incumbent.of(bundle, live, canaries, shop.data.item_ids, self.pipeline.device)
        built = self._index(shop, assembly, incumbent)
        draft = self._draft(shop, assembly, replace(live, index=built.name, canaries=name))
        gates = self._gates(bundle, draft, built, incumbent)
        self.log.report("publish")
        release = bundle.record(replace(draft, gates=self._recorded(live, gates)))
        refused = {gate.name for gate in gates if not gate.passed}
        if published := not refused or (self.force and CHECKSUMS not in refused):
            bundle.activate(release.id, who=release.who, at=release.created)
            clear_parts(bundle)
        return IndexBuild(release, built, tuple(gates), published, {}, bundle.path)

    def _index(self, shop: Shop, assembly: Assembly, incumbent: Incumbent) -> Built:
        towers = assembly.towers(incumbent.release.towers)
        queries = incumbent.answers.queries if len(incumbent.answers.queries) else None
        built = assembly.add_index(shop, towers, ranker=incumbent.release.ranker, queries=queries, log=self.log)
        if self.pipeline.config.retrieval.precision == "int8" and towers.encoder.documents is None:
            self.pipeline.say(NO_INT8)
        self.pipeline.say(built.line())
        return built

    def _draft(self, shop: Shop, assembly: Assembly, like: Release) -> Release:
        self.log.report("shoppers")
        shoppers = assembly.add_shoppers(shop) or like.shoppers
        self.log.report("words")
        words = assembly.add_words(shop, like.index, ReleaseSettings.of(like).language)
        draft = replace(
            like,
            shoppers=shoppers,
            words=words,
            figures={name: value for name, value in like.figures.items() if name != "evaluation"},
            why=self.why.strip() or f"index build after {like.id}",
        )
        read = ReleaseSettings.of(like).events_read if shop.data.events is None else events_read(shop)
        return assembly.named(
            with_settings(draft, config=self.pipeline.config.model_dump(mode="json"), events_read=read)
        )

    def _gates(self, bundle: Bundle, draft: Release, built: Built, incumbent: Incumbent) -> list[Gate]:
        self.log.report("verify")
        gates = [whole(bundle.verification(draft))]
        gates.append(recall_reached(built.recall, self.pipeline.config.index.recall, RECALL_AT))
        gates.append(incumbent.items_gate(built.items, self.max_change))
        if gates[0].passed:  # damaged files are not opened
            self.log.report("canaries")
            gates += incumbent.canary_gates(bundle, draft, self.pipeline.device)
        for gate in gates:
            self.log.note("gate", name=gate.name, passed=gate.passed, why=gate.why)
            self.pipeline.say(f"gate {gate.name}: {'passed' if gate.passed else 'refused'}: {gate.why}")
        return gates

    def _recorded(self, live: Release, gates: Sequence[Gate]) -> JsonMap:
        return rerank_gates(live) | {
            gate.name: gate.as_json(overruled=self.force and not gate.passed) for gate in gates
        }


def clear_parts(bundle: Bundle) -> None:
    """Remove the vectors that were embedded part by part and are now in the release; a training's files stay."""
    shutil.rmtree(bundle.path / WORK / TEXT_PARTS, ignore_errors=True)
    with suppress(OSError):
        (bundle.path / WORK).rmdir()
