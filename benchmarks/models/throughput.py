"""How many pairs or texts a second each way of running a model reads, all ways in turn on the same texts."""

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
from ranking.models.cross_encoder import CrossEncoderScorer, open_cross_encoder
from ranking.models.late_interaction import LateScorer
from ranking.models.pair_tokens import PairTokenizer, TokenLists
from ranking.models.placement import Placement, placed
from ranking.training.settings import LATE, SHALLOW
from retrieval.encoders.int8_file import holds_int8
from retrieval.encoders.runtime import RuntimeName, pick_device, resolve_precision
from retrieval.encoders.text_encoder import TextEncoder, max_tokens, open_sentence_transformer
from retrieval.errors import MissingDependency
from retrieval.topk import exact_topk

Pairs: TypeAlias = Sequence[tuple[str, str]]
Rows: TypeAlias = NDArray[np.float32]
Ready: TypeAlias = Callable[[Pairs], Callable[[], Rows]]  # pairs of one user text to what is timed: logits, float32 [n]
Encoder: TypeAlias = Callable[[Sequence[str]], Rows]  # texts to unit vectors, float32 [n, dim]

CLOSE = 1e-5  # inner products that differ by less are the same
THEIRS = "sentence-transformers"
FEW = {1: 64, 32: 640}  # texts, in batches of so many: fewer would be noise, all of them minutes
SIZES = (10, 100, 1_000)  # candidates
KEPT = 10  # of them, in a cascade


class Models:
    """Our cross-encoders on one device, each opened once however many ways run it."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._opened: dict[tuple[Path, Placement], CrossEncoderScorer] = {}

    def open(
        self, folder: Path, precision: str, runtime: RuntimeName = "openvino", *, below: str = ""
    ) -> CrossEncoderScorer:
        """The model of a ranker's folder, or the one `below` it, which is made to read as much of a pair as that one.

        Raises what `CrossEncoderScorer.load` does.
        """
        key = folder / below, placed(self.device, precision, runtime)
        if key not in self._opened:
            scorer = CrossEncoderScorer.load(folder / below, runtime=runtime, device=self.device, precision=precision)
            self._opened[key] = replace(scorer, tokenizer=PairTokenizer.load(folder)) if below else scorer
        return self._opened[key]


class RerankWay(NamedTuple):
    """A way of running a ranker, opened from its folder among the models of a device, if it is `there`.

    What an index holds of the items is made before the clock starts. A logit is nan where the last model was not asked.
    """

    name: str
    open: Callable[[Path, Models], Ready]
    there: Callable[[Path, str], bool] = lambda folder, device: True


class EncodeWay(NamedTuple):
    """A way of running the text encoder of a folder on a device, if it is `there`."""

    name: str
    open: Callable[[Path, str], Encoder]
    there: Callable[[Path, str], bool] = lambda folder, device: True


def rerank_lines(
    ways: Sequence[RerankWay],
    folder: Path,
    user: str,
    items: Sequence[str],
    *,
    sizes: Sequence[int] = SIZES,
    device: str,
    rounds: int,
) -> Iterator[Line]:
    """Milliseconds for the candidates of one shortlist, and pairs a second; the first way is what the others are
    compared with.

    `difference` is the largest of any logit from the first way's, `times faster` the median over rounds. Of a pair that
    is too long our own ways keep the item and sentence-transformers cuts the longer text, so that logits differ there.
    """
    models = Models(device)
    opened = {way.name: way.open(folder, models) for way in ways if way.there(folder, device)}
    for size in sizes:
        pairs = [(user, item) for item in repeated(items, size)]
        work = {name: ready(pairs) for name, ready in opened.items()}
        logits = {name: run() for name, run in work.items()}
        spent = in_turn(work, rounds)
        first = next(iter(logits.values()))
        for name, seconds in spent.items():
            line = sampled("rerank", {"way": name, "pairs": str(size)}, "ms", [1_000 * one for one in seconds])
            more = {"difference": float(np.nanmax(np.abs(logits[name] - first)))}
            more["pairs per second"] = size / float(np.median(seconds))
            yield _compared(line, spent, name, more)


def encode_lines(
    ways: Sequence[EncodeWay], folder: Path, texts: Mapping[str, Sequence[str]], *, device: str, rounds: int
) -> Iterator[Line]:
    """Texts a second by kind of text, and how like the first way's vectors those of a way are: the least `cosine` of
    any text, their `median cosine`, and `recall@100`, see `nearest_kept`. All texts in one call, then the first of them
    in batches of FEW."""
    encoders = {way.name: way.open(folder, device) for way in ways if way.there(folder, device)}
    for kind, some in texts.items():
        vectors = {name: encoder(some) for name, encoder in encoders.items()}
        spent = in_turn({name: _bound(encoder, some) for name, encoder in encoders.items()}, rounds)
        first = next(iter(vectors.values()))
        for name, seconds in spent.items():
            rates = [len(some) / one for one in seconds]
            line = sampled("encode", {"way": name, "texts": kind}, "per second", rates)
            cosines = (vectors[name] * first).sum(axis=1)
            more = {"cosine": float(cosines.min()), "median cosine": float(np.median(cosines))}
            more["recall@100"] = nearest_kept(vectors[name], first)
            yield _compared(line, spent, name, more)
        for batch, count in FEW.items():
            yield from _batched(encoders, kind, some[:count], batch, rounds)


def _batched(
    encoders: Mapping[str, Encoder], kind: str, texts: Sequence[str], batch: int, rounds: int
) -> Iterator[Line]:
    parts = [texts[start : start + batch] for start in range(0, len(texts), batch)]
    spent = in_turn({name: _bound_each(encoder, parts) for name, encoder in encoders.items()}, rounds)
    for name, seconds in spent.items():
        labels = {"way": name, "texts": kind, "batch": str(batch)}
        line = sampled("encode, batches", labels, "per second", [len(texts) / one for one in seconds])
        yield _compared(line, spent, name, {})


def nearest_kept(vectors: Rows, first: Rows, k: int = 100, asked: int = 256) -> float:
    """Of the k nearest neighbours that vectors [n, dim] find of each of the first `asked` texts among all, the share
    that are as near by the vectors `first` [n, dim] as their own k nearest.

    >>> some = np.eye(4, dtype=np.float32)
    >>> nearest_kept(some, some, k=1), nearest_kept(some[::-1], some, k=1), nearest_kept(some[[1, 0, 1, 0]], some, k=1)
    (1.0, 1.0, 0.5)
    """
    k = min(k, len(first))
    scores = first[:asked] @ first.T
    last = -np.partition(-scores, k - 1)[:, k - 1 : k]
    found = exact_topk(vectors[:asked], vectors, k).rows
    return float((np.take_along_axis(scores, found, axis=1) >= last - CLOSE).mean())


def in_turn(
    work: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each kind of work, by round; every round does all of them, from another one on."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    for number in range(rounds):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            begun = clock()
            work[name]()
            spent[name].append(clock() - begun)
    return spent


def lengths(tokenizer_folder: Path, pairs: Pairs) -> str:
    """How many tokens pairs have, special ones included and cut as the model cuts them, in words."""
    tokenizer, every = PairTokenizer.load(tokenizer_folder), np.arange(len(pairs))
    tokenised = tokenizer.pairs([user for user, _ in pairs], [item for _, item in pairs], every, every)
    found = tokenizer.lengths(tokenised)
    sizes = f"mean {found.mean():.0f}, p90 {np.percentile(found, 90):.0f}, longest {found.max()}"
    return f"{sizes} of {max_tokens(tokenizer_folder)} that are read"


def theirs_reranks(folder: Path, models: Models) -> Ready:
    """See `documented_logits`."""
    predict = documented_logits(folder, models.device)
    return lambda pairs: lambda: predict(pairs)


def _onnx_reranks(folder: Path, models: Models) -> Ready:
    predict = OnnxReranker.of(folder)
    return lambda pairs: lambda: predict(pairs)


def _onnx_there(folder: Path, device: str) -> bool:
    try:
        import_onnxruntime()
    except MissingDependency:
        return False
    return _on_cpu(device)


def documented_logits(folder: Path, device: str) -> Callable[[Pairs], Rows]:
    """`CrossEncoder.predict` as its documentation has it, its logits, of as many tokens as our own ways read."""
    import torch

    model = open_cross_encoder(folder, device=pick_device(device))
    model.max_seq_length = max_tokens(folder)
    plain = torch.nn.Identity()
    return lambda pairs: np.asarray(
        model.predict(list(pairs), activation_fn=plain, show_progress_bar=False), np.float32
    )


def theirs_encodes(folder: Path, device: str) -> Encoder:
    """`SentenceTransformer.encode` as its documentation has it, with unit vectors."""
    model = open_sentence_transformer(folder, device=pick_device(device))
    return lambda texts: np.asarray(
        model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False), np.float32
    )


def _bf16(device: str) -> bool:
    return resolve_precision("bf16", pick_device(device)) == "bf16"


def _on_cpu(device: str) -> bool:
    return pick_device(device) == "cpu"


def _ours_reranks(runtime: RuntimeName, precision: str, below: str = "") -> Callable[[Path, Models], Ready]:
    def opened(folder: Path, models: Models) -> Ready:
        scorer = models.open(folder, precision, runtime, below=below)

        def ready(pairs: Pairs) -> Callable[[], Rows]:
            read, every = _reader(scorer, pairs), np.arange(len(pairs))
            return lambda: read(every)

        return ready

    return opened


def _cascade(precision: str, keep: int = KEPT) -> Callable[[Path, Models], Ready]:
    """The shallow model for all pairs, then the full one for its best `keep`."""

    def opened(folder: Path, models: Models) -> Ready:
        quick, slow = models.open(folder, precision, below=SHALLOW), models.open(folder, precision)

        def ready(pairs: Pairs) -> Callable[[], Rows]:
            first, then, every = _reader(quick, pairs), _reader(slow, pairs), np.arange(len(pairs))

            def run() -> Rows:
                found, best = np.full(len(pairs), np.nan, np.float32), np.argsort(-first(every))[:keep]
                found[best] = then(best)
                return found

            return run

        return ready

    return opened


def _late_reranks(folder: Path, models: Models) -> Ready:
    """Late interaction; what an index holds of the items is their tokens' vectors."""
    scorer = LateScorer.load(folder / LATE, device=models.device)

    def ready(pairs: Pairs) -> Callable[[], Rows]:
        items = scorer.vectors(scorer.tokenizer.encode([item for _, item in pairs]))
        return lambda: scorer.head.scores(scorer.asked(scorer.tokenizer.encode([pairs[0][0]]))[0], items)

    return ready


def _reader(scorer: CrossEncoderScorer, pairs: Pairs) -> Callable[[NDArray[np.int64]], Rows]:
    """The logits of some pairs of one user text, by position; the items are tokenised already."""
    user, items = [pairs[0][0]], scorer.tokenizer.encode([item for _, item in pairs]).split()

    def tokens(rows: NDArray[np.int64]) -> TokenLists:
        return TokenLists.of([items[row] for row in rows.tolist()])

    def read(rows: NDArray[np.int64]) -> Rows:
        return scorer.score_tokenised(scorer.tokenizer.pairs_of_tokens(user, tokens, np.zeros_like(rows), rows))

    return read


def _in_int8(below: str = "") -> Callable[[Path, str], bool]:
    return lambda folder, device: _on_cpu(device) and holds_int8(folder / below)


def _ours_encodes(runtime: RuntimeName, precision: str) -> Callable[[Path, str], Encoder]:
    return lambda folder, device: TextEncoder.load(folder, runtime=runtime, device=device, precision=precision).encode


RERANK_WAYS = (
    RerankWay(THEIRS, theirs_reranks),
    RerankWay("onnx int8", _onnx_reranks, _onnx_there),
    RerankWay("torch", _ours_reranks("torch", "fp32")),
    RerankWay("openvino", _ours_reranks("openvino", "fp32"), lambda _, device: _on_cpu(device)),
    RerankWay("bf16", _ours_reranks("openvino", "bf16"), lambda _, device: _bf16(device)),
    RerankWay("int8", _ours_reranks("openvino", "int8"), _in_int8()),
    RerankWay("shallow", _ours_reranks("openvino", "fp32", SHALLOW), lambda folder, _: (folder / SHALLOW).is_dir()),
    RerankWay("shallow int8", _ours_reranks("openvino", "int8", SHALLOW), _in_int8(SHALLOW)),
    RerankWay(LATE, _late_reranks, lambda folder, _: (folder / LATE).is_dir()),
    RerankWay(f"cascade to {KEPT}", _cascade("fp32"), lambda folder, _: (folder / SHALLOW).is_dir()),
    RerankWay(f"cascade to {KEPT} int8", _cascade("int8"), _in_int8(SHALLOW)),
)
ENCODE_WAYS = (
    EncodeWay(THEIRS, theirs_encodes),
    EncodeWay("torch", _ours_encodes("torch", "fp32")),
    EncodeWay("openvino", _ours_encodes("openvino", "fp32"), lambda _, device: _on_cpu(device)),
    EncodeWay("bf16", _ours_encodes("openvino", "bf16"), lambda _, device: _bf16(device)),
    EncodeWay("int8", _ours_encodes("openvino", "int8"), lambda *asked: _in_int8()(*asked) and _bf16(asked[1])),
)


def _compared(line: Line, spent: Mapping[str, Sequence[float]], name: str, more: Mapping[str, float]) -> Line:
    first = np.asarray(next(iter(spent.values())))
    faster = float(np.median(first / np.asarray(spent[name])))
    return replace(line, summary={**line.summary, "times faster": faster, **more})


def _bound(work: Encoder, given: Sequence[str]) -> Callable[[], object]:
    return lambda: work(given)


def _bound_each(work: Encoder, parts: Sequence[Sequence[str]]) -> Callable[[], object]:
    return lambda: [work(part) for part in parts]


def repeated(items: Sequence[str], size: int) -> list[str]:
    """So many of the items, from the first one again where they end."""
    return [items[at % len(items)] for at in range(size)]
