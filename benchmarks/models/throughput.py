"""Throughput of the models in every runtime and precision, timed in turn on the same texts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.models.onnx_reranker import OnnxReranker, import_onnxruntime
from benchmarks.result_lines import Line, sampled
from ranking.models.cross_encoder import CrossEncoderScorer, open_cross_encoder, prompted
from ranking.models.late_interaction import LateScorer
from ranking.models.pair_tokens import PairTokenizer, TokenLists
from ranking.models.placement import Placement, resolve_placement
from ranking.strategies import LATE, SHALLOW
from retrieval.encoders.int8_file import holds_int8
from retrieval.encoders.runtime import RuntimeName, pick_device, resolve_precision
from retrieval.encoders.text_encoder import TextEncoder, max_tokens, open_sentence_transformer
from retrieval.errors import MissingDependency
from retrieval.topk import exact_topk

Pairs: TypeAlias = Sequence[tuple[str, str]]
Rows: TypeAlias = NDArray[np.float32]
Prepare: TypeAlias = Callable[[Pairs], Callable[[], Rows]]  # pairs of one user text to a timed call: logits float32 [n]
Encoder: TypeAlias = Callable[[Sequence[str]], Rows]  # texts to unit vectors, float32 [n, dim]

CLOSE = 1e-5  # inner products that differ by less are equal
REFERENCE = "sentence-transformers"
BATCHED = {1: 64, 32: 640}  # batch size: texts, enough for a stable rate without taking minutes
SIZES = (10, 100, 1_000)  # candidates
CASCADE_DEPTH = 10  # of them, for the second stage of a cascade


class OpenModels:
    """Our cross-encoders on one device, each opened once even where several runners share it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._opened: dict[tuple[Path, Placement], CrossEncoderScorer] = {}

    def open(
        self, folder: Path, precision: str, runtime: RuntimeName = "openvino", *, below: str = ""
    ) -> CrossEncoderScorer:
        """The model of a ranker's folder, or of the folder `below` it, which then reads as many tokens as the former.

        Raises what `CrossEncoderScorer.load` does.
        """
        key = folder / below, resolve_placement(self.device, precision, runtime)
        if key not in self._opened:
            scorer = CrossEncoderScorer.load(folder / below, runtime=runtime, device=self.device, precision=precision)
            self._opened[key] = replace(scorer, tokenizer=PairTokenizer.load(folder)) if below else scorer
        return self._opened[key]


class RerankRunner(NamedTuple):
    """One way to run a ranker: how it is opened from a folder, and whether the folder and the device allow it.

    What the index stores of items is made before the timed call. A logit is nan where the last model was not asked.
    """

    name: str
    open: Callable[[Path, OpenModels], Prepare]
    is_available: Callable[[Path, str], bool] = lambda folder, device: True


class EncodeRunner(NamedTuple):
    """One way to run a text encoder: how it is opened from a folder, and whether the folder and the device allow it."""

    name: str
    open: Callable[[Path, str], Encoder]
    is_available: Callable[[Path, str], bool] = lambda folder, device: True


def rerank_lines(
    runners: Sequence[RerankRunner],
    folder: Path,
    user: str,
    items: Sequence[str],
    *,
    sizes: Sequence[int] = SIZES,
    device: str,
    rounds: int,
) -> Iterator[Line]:
    """Milliseconds to rerank one shortlist, and pairs a second, for each runner, compared with the first one.

    `difference` is the largest difference of any logit, `times faster` the median over rounds. Where a pair is too long
    our own runners keep the whole item and sentence-transformers cuts the longer text, so that logits differ.
    """
    models = OpenModels(device)
    opened = {way.name: way.open(folder, models) for way in runners if way.is_available(folder, device)}
    for size in sizes:
        pairs = [(user, item) for item in repeat_to(items, size)]
        work = {name: ready(pairs) for name, ready in opened.items()}
        logits = {name: run() for name, run in work.items()}
        spent = time_in_turn(work, rounds)
        first = next(iter(logits.values()))
        for name, seconds in spent.items():
            line = sampled("rerank", {"way": name, "pairs": str(size)}, "ms", [1_000 * one for one in seconds])
            more = {"difference": float(np.nanmax(np.abs(logits[name] - first)))}
            more["pairs per second"] = size / float(np.median(seconds))
            yield _compared(line, spent, name, more)


def encode_lines(
    runners: Sequence[EncodeRunner], folder: Path, texts: Mapping[str, Sequence[str]], *, device: str, rounds: int
) -> Iterator[Line]:
    """Texts a second by kind of text, for all texts in one call, then for some of them in small batches (BATCHED).

    The vectors are compared with the first runner's: the least `cosine` of any text, the `median cosine`, and
    `recall@100`, see `neighbour_recall`.
    """
    encoders = {way.name: way.open(folder, device) for way in runners if way.is_available(folder, device)}
    for kind, some in texts.items():
        vectors = {name: encoder(some) for name, encoder in encoders.items()}
        spent = time_in_turn({name: _bound(encoder, some) for name, encoder in encoders.items()}, rounds)
        first = next(iter(vectors.values()))
        for name, seconds in spent.items():
            rates = [len(some) / one for one in seconds]
            line = sampled("encode", {"way": name, "texts": kind}, "per second", rates)
            cosines = (vectors[name] * first).sum(axis=1)
            more = {"cosine": float(cosines.min()), "median cosine": float(np.median(cosines))}
            more["recall@100"] = neighbour_recall(vectors[name], first)
            yield _compared(line, spent, name, more)
        for batch, count in BATCHED.items():
            yield from _batched(encoders, kind, some[:count], batch, rounds)


def _batched(
    encoders: Mapping[str, Encoder], kind: str, texts: Sequence[str], batch: int, rounds: int
) -> Iterator[Line]:
    parts = [texts[start : start + batch] for start in range(0, len(texts), batch)]
    spent = time_in_turn({name: _bound_each(encoder, parts) for name, encoder in encoders.items()}, rounds)
    for name, seconds in spent.items():
        labels = {"way": name, "texts": kind, "batch": str(batch)}
        line = sampled("encode, batches", labels, "per second", [len(texts) / one for one in seconds])
        yield _compared(line, spent, name, {})


def neighbour_recall(vectors: Rows, first: Rows, k: int = 100, n_queries: int = 256) -> float:
    """Recall of nearest neighbours: the share of the k neighbours by `vectors` that are among the k nearest by `first`
    (both float32 [n, dim]), for the first `n_queries` texts; equally near ones count.

    >>> some = np.eye(4, dtype=np.float32)
    >>> neighbour_recall(some, some, k=1), neighbour_recall(some[::-1], some, k=1)
    (1.0, 1.0)
    >>> neighbour_recall(some[[1, 0, 1, 0]], some, k=1)
    0.5
    """
    k = min(k, len(first))
    scores = first[:n_queries] @ first.T
    last = -np.partition(-scores, k - 1)[:, k - 1 : k]
    found = exact_topk(vectors[:n_queries], vectors, k).rows
    return float((np.take_along_axis(scores, found, axis=1) >= last - CLOSE).mean())


def time_in_turn(
    work: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each kind of work by round. Every round does all of them, and begins with another one."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            begun = clock()
            work[name]()
            spent[name].append(clock() - begun)
    return spent


def describe_lengths(tokenizer_folder: Path, pairs: Pairs) -> str:
    """The number of tokens of pairs in words, special tokens included, as the model truncates them."""
    tokenizer, every = PairTokenizer.load(tokenizer_folder), np.arange(len(pairs))
    tokenised = tokenizer.pairs([user for user, _ in pairs], [item for _, item in pairs], every, every)
    found = tokenizer.lengths(tokenised)
    sizes = f"mean {found.mean():.0f}, p90 {np.percentile(found, 90):.0f}, longest {found.max()}"
    return f"{sizes} of at most {max_tokens(tokenizer_folder)}"


def reference_reranker(folder: Path, models: OpenModels) -> Prepare:
    """See `documented_logits`."""
    predict = documented_logits(folder, models.device)
    return lambda pairs: lambda: predict(pairs)


def _onnx_reranker(folder: Path, models: OpenModels) -> Prepare:
    predict = OnnxReranker.of(folder)
    return lambda pairs: lambda: predict(pairs)


def _has_onnx(folder: Path, device: str) -> bool:
    try:
        import_onnxruntime()
    except MissingDependency:
        return False
    return _on_cpu(device)


def documented_logits(folder: Path, device: str) -> Callable[[Pairs], Rows]:
    """The logits of `CrossEncoder.predict`, as documented, with as many tokens as our own runners read."""
    import torch

    model = open_cross_encoder(folder, device=pick_device(device))
    model.max_seq_length = max_tokens(folder)
    plain = torch.nn.Identity()
    return lambda pairs: np.asarray(
        model.predict(prompted(model, pairs), activation_fn=plain, show_progress_bar=False), np.float32
    )


def reference_encoder(folder: Path, device: str) -> Encoder:
    """`SentenceTransformer.encode_document`, as documented, with unit vectors."""
    model = open_sentence_transformer(folder, device=pick_device(device))
    return lambda texts: np.asarray(
        model.encode_document(list(texts), normalize_embeddings=True, show_progress_bar=False), np.float32
    )


def _bf16(device: str) -> bool:
    return resolve_precision("bf16", pick_device(device)) == "bf16"


def _on_cpu(device: str) -> bool:
    return pick_device(device) == "cpu"


def _own_reranker(runtime: RuntimeName, precision: str, below: str = "") -> Callable[[Path, OpenModels], Prepare]:
    def opened(folder: Path, models: OpenModels) -> Prepare:
        scorer = models.open(folder, precision, runtime, below=below)

        def ready(pairs: Pairs) -> Callable[[], Rows]:
            read, every = _pair_scorer(scorer, pairs), np.arange(len(pairs))
            return lambda: read(every)

        return ready

    return opened


def _cascade(precision: str, keep: int = CASCADE_DEPTH) -> Callable[[Path, OpenModels], Prepare]:
    """The shallow model for all pairs, then the full model for the best `keep` of them."""

    def opened(folder: Path, models: OpenModels) -> Prepare:
        quick, slow = models.open(folder, precision, below=SHALLOW), models.open(folder, precision)

        def ready(pairs: Pairs) -> Callable[[], Rows]:
            first, then, every = _pair_scorer(quick, pairs), _pair_scorer(slow, pairs), np.arange(len(pairs))

            def run() -> Rows:
                found, best = np.full(len(pairs), np.nan, np.float32), np.argsort(-first(every))[:keep]
                found[best] = then(best)
                return found

            return run

        return ready

    return opened


def _late_reranker(folder: Path, models: OpenModels) -> Prepare:
    """Late interaction, for which the index stores the vectors of the items' tokens."""
    scorer = LateScorer.load(folder / LATE, device=models.device)

    def ready(pairs: Pairs) -> Callable[[], Rows]:
        items = scorer.item_vectors(scorer.tokenizer.encode([item for _, item in pairs], "item"))
        return lambda: scorer.head.scores(scorer.query_tokens(scorer.tokenizer.encode([pairs[0][0]], "user"))[0], items)

    return ready


def _pair_scorer(scorer: CrossEncoderScorer, pairs: Pairs) -> Callable[[NDArray[np.int64]], Rows]:
    """Scores some pairs of one user text, by position, with items that are already tokenised."""
    user, items = [pairs[0][0]], scorer.tokenizer.encode([item for _, item in pairs], "item").split()

    def tokens(rows: NDArray[np.int64]) -> TokenLists:
        return TokenLists.of([items[row] for row in rows.tolist()])

    def read(rows: NDArray[np.int64]) -> Rows:
        return scorer.score_tokenised(scorer.tokenizer.pairs_of_tokens(user, tokens, np.zeros_like(rows), rows))

    return read


def _in_int8(below: str = "") -> Callable[[Path, str], bool]:
    return lambda folder, device: _on_cpu(device) and holds_int8(folder / below)


def _own_encoder(runtime: RuntimeName, precision: str) -> Callable[[Path, str], Encoder]:
    return lambda folder, device: TextEncoder.load(folder, runtime=runtime, device=device, precision=precision).encode


RERANK_RUNNERS = (
    RerankRunner(REFERENCE, reference_reranker),
    RerankRunner("onnx int8", _onnx_reranker, _has_onnx),
    RerankRunner("torch", _own_reranker("torch", "fp32")),
    RerankRunner("openvino", _own_reranker("openvino", "fp32"), lambda _, device: _on_cpu(device)),
    RerankRunner("bf16", _own_reranker("openvino", "bf16"), lambda _, device: _bf16(device)),
    RerankRunner("int8", _own_reranker("openvino", "int8"), _in_int8()),
    RerankRunner("shallow", _own_reranker("openvino", "fp32", SHALLOW), lambda folder, _: (folder / SHALLOW).is_dir()),
    RerankRunner("shallow int8", _own_reranker("openvino", "int8", SHALLOW), _in_int8(SHALLOW)),
    RerankRunner(LATE, _late_reranker, lambda folder, _: (folder / LATE).is_dir()),
    RerankRunner(f"cascade to {CASCADE_DEPTH}", _cascade("fp32"), lambda folder, _: (folder / SHALLOW).is_dir()),
    RerankRunner(f"cascade to {CASCADE_DEPTH} int8", _cascade("int8"), _in_int8(SHALLOW)),
)
ENCODE_RUNNERS = (
    EncodeRunner(REFERENCE, reference_encoder),
    EncodeRunner("torch", _own_encoder("torch", "fp32")),
    EncodeRunner("openvino", _own_encoder("openvino", "fp32"), lambda _, device: _on_cpu(device)),
    EncodeRunner("bf16", _own_encoder("openvino", "bf16"), lambda _, device: _bf16(device)),
    EncodeRunner(
        "int8", _own_encoder("openvino", "int8"), lambda folder, device: _in_int8()(folder, device) and _bf16(device)
    ),
)


def _compared(line: Line, spent: Mapping[str, Sequence[float]], name: str, more: Mapping[str, float]) -> Line:
    first = np.asarray(next(iter(spent.values())))
    faster = float(np.median(first / np.asarray(spent[name])))
    return replace(line, summary={**line.summary, "times faster": faster, **more})


def _bound(work: Encoder, texts: Sequence[str]) -> Callable[[], object]:
    return lambda: work(texts)


def _bound_each(work: Encoder, parts: Sequence[Sequence[str]]) -> Callable[[], object]:
    return lambda: [work(part) for part in parts]


def repeat_to(items: Sequence[str], size: int) -> list[str]:
    """The first `size` items, over again from the first where there are fewer."""
    return [items[at % len(items)] for at in range(size)]
