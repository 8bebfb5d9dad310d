"""`shortlist bench rerank` and `encode`: the models of a bundle in every runtime and precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.models.rerank_request import RerankRequest, sample_request
from benchmarks.models.throughput import ENCODE_RUNNERS, RERANK_RUNNERS, SIZES, encode_lines, rerank_lines
from benchmarks.result_lines import Line
from benchmarks.sweep import run_in_process
from indexing.bundle.bundle import Bundle
from indexing.version.index_version import IndexVersion
from retrieval.encoders.text_encoder import token_counts
from retrieval.errors import BadBundle
from retrieval.text.rendering import item_texts
from retrieval.towers.serving import TEXT
from serving.cli.show import say

WORDS = 4  # of a title, as long as a query


@dataclass(frozen=True)
class ModelRuns:
    """A bundle's live release, and how often each runner is timed; `seed` samples the request and the texts."""

    bundle: Path
    device: str = "auto"
    rounds: int = 30
    texts: int = 2_000
    sizes: tuple[int, ...] = SIZES
    seed: int = 0

    def request(self, ranker: Path) -> RerankRequest:
        """The request that reranking is timed on, see `sample_request`."""
        return sample_request(self._releases, ranker, size=max(self.sizes), device=self.device, seed=self.seed)

    def rerank(self, ranker: Path, request: RerankRequest, threads: Sequence[int]) -> Iterator[Line]:
        """Every runner on each number of cores, with the same request: in this process where there is one number, else
        each number in a process of its own."""
        if len(numbers := sorted(set(threads))) > 1:
            with TemporaryDirectory() as scratch:
                request.write(path := Path(scratch) / "request.json")
                arguments = ["rerank", str(self.bundle), "--model", str(ranker), "--request", str(path)]
                arguments += ["--device", self.device, "--rounds", str(self.rounds)]
                arguments += ["--candidates", ",".join(map(str, self.sizes))]
                for number in numbers:
                    say(f"-- on {number} of the cores")
                    yield from run_in_process(arguments, number)
            return
        found = rerank_lines(
            RERANK_RUNNERS, ranker, request.user, request.items,
            sizes=self.sizes, device=self.device, rounds=self.rounds,
        )  # fmt: skip
        for line in found:
            yield replace(line, labels={**line.labels, "cores": str(numbers[0])})

    def encode(self) -> Iterator[Line]:
        """Every runner, for texts as long as a query, a title and a whole item."""
        return encode_lines(ENCODE_RUNNERS, self._towers / TEXT, self._texts, device=self.device, rounds=self.rounds)

    def tokens(self) -> str:
        """The mean tokens of each kind of text, in words."""
        counted = {kind: token_counts(self._towers / TEXT, some).mean() for kind, some in self._texts.items()}
        return ", ".join(f"{kind} {mean:.1f}" for kind, mean in counted.items())

    @cached_property
    def _texts(self) -> Mapping[str, Sequence[str]]:
        rows = self._sample_rows(self.texts)
        titles: list[str] = self._version.values_at("title", rows).to_pylist()
        return {
            "query": [" ".join(title.split()[:WORDS]) for title in titles],
            "title": titles,
            "item": item_texts(self._version.items_at(rows)),
        }

    def ranker(self, model: Path | None) -> Path:
        """The folder of the cross-encoder. Raises BadBundle where none is given and the release has none."""
        release = self._releases.current()
        if model is None and release.ranker is None:
            raise BadBundle(f"{self.bundle}: release {release.id} has no cross-encoder; give one with --model FOLDER")
        return model or self._releases.path_of("ranker", str(release.ranker))

    @property
    def _releases(self) -> Bundle:
        return Bundle.open(self.bundle)

    @property
    def _towers(self) -> Path:
        return self._releases.path_of("towers", self._releases.current().towers)

    @property
    def _version(self) -> IndexVersion:
        return IndexVersion.open(self._releases.path_of("index", self._releases.current().index), device="cpu")

    def _sample_rows(self, n: int) -> np.ndarray:
        size = self._version.size
        return np.random.default_rng(self.seed).choice(size, n, replace=n > size)
