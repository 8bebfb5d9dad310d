"""The cross-encoder at serving: reads `[user text] [item text]` together and returns one logit, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ranking.models.pair_tokens import USER_SHARE, PairTokenizer, TokenisedPairs, TokensByRow
from ranking.models.placement import Placement, resolve_placement
from retrieval.encoders.batching import batches_for, run_each
from retrieval.encoders.int8_file import require_int8
from retrieval.encoders.runtime import (
    MULTIPLE,
    TOKEN_INPUTS,
    Runner,
    RuntimeName,
    TorchRunner,
    convert,
    openvino_model,
    resolve_precision,
    token_example,
)
from retrieval.encoders.text_encoder import read_json
from retrieval.errors import BadBundle
from retrieval.fingerprint import fingerprint, folder_fingerprint
from retrieval.text.rendering import rendering_fingerprint
from retrieval.topk import Hits, Scores

if TYPE_CHECKING:
    import openvino
    import torch
    from sentence_transformers import CrossEncoder

Activation: TypeAlias = Literal["sigmoid", "identity"]

TOLERANCE = 1e-4  # largest difference to sentence-transformers' logits at which a foreign model is adopted


class ShortlistScorer(Protocol):
    """Scores candidates against a user text; see `CrossEncoderScorer` for the methods. Tests use a fake of it."""

    @property
    def fingerprint(self) -> str: ...
    @property
    def placement(self) -> Placement: ...
    @property
    def tokenizer(self) -> PairTokenizer: ...
    @property
    def activation(self) -> Activation: ...

    def score_shortlists(
        self,
        user_texts: Sequence[str],
        item_tokens: TokensByRow,
        hits: Hits,
        depth: int,
        *,
        done: Callable[[int], None] | None = None,
    ) -> Scores: ...

    def score_tokenised(self, pairs: TokenisedPairs, *, done: Callable[[int], None] | None = None) -> Scores: ...


@dataclass(frozen=True)
class CrossEncoderScorer:
    """A fine-tuned or adopted cross-encoder. Safe to call from many threads.

    For pairs within `max_length`, logits equal those of sentence-transformers' `CrossEncoder(folder)` within 1e-4 in
    float32; longer pairs are cut as `PairTokenizer` says. `activation` turns a logit into the score of
    `CrossEncoder.predict`. `fingerprint` changes with the weights, tokenizer, configuration and rendering of texts.
    """

    tokenizer: PairTokenizer
    runner: Runner
    activation: Activation
    fingerprint: str
    placement: Placement

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        runtime: RuntimeName = "openvino",
        device: str = "auto",
        precision: str = "auto",
        cache: Path | None = None,
    ) -> CrossEncoderScorer:
        """Open a CrossEncoder folder of sentence-transformers with one output.

        With OpenVINO the converted graph is kept in the folder `cache`, and torch is imported only to convert it.
        Raises BadConfig as `resolve_placement` does, and BadBundle where the folder holds no such model or, for int8,
        no int8 calibration.
        """
        place = resolve_placement(device, precision, runtime)
        int8 = place.precision == "int8"
        if int8:
            require_int8(folder)
        # numbers of the parts around the int8 layers
        kind = resolve_precision("auto", place.device) if int8 else place.precision
        tokenizer = PairTokenizer.load(folder)
        runner: Runner
        if place.device == "cuda":
            from retrieval.encoders.cuda import CudaRunner

            runner = CudaRunner(served_module(folder, bf16=kind == "bf16"), tokenizer.max_length)
        elif place.runtime == "torch":
            runner = TorchRunner(served_module(folder, int8=int8), "cpu", kind)
        else:
            graph = "cross_encoder_int8.xml" if int8 else "cross_encoder.xml"
            runner = openvino_model(cache and cache / graph, partial(_openvino_graph, folder, int8=int8), kind)
        return cls(tokenizer, runner, _activation(folder), scorer_fingerprint(folder), place)

    def score(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        """The logit of each pair (user text, item text), float32 [n]."""
        every = np.arange(len(pairs))
        users, items = [user for user, _ in pairs], [item for _, item in pairs]
        return self.score_tokenised(self.tokenizer.pairs(users, items, every, every))

    def predict(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        """The scores of sentence-transformers' `CrossEncoder.predict`, float32 [n]: logits under the model's
        activation."""
        logits = self.score(pairs)
        return logits if self.activation == "identity" else sigmoid(logits)

    def score_shortlists(
        self,
        user_texts: Sequence[str],
        item_tokens: TokensByRow,
        hits: Hits,
        depth: int,
        *,
        done: Callable[[int], None] | None = None,
    ) -> Scores:
        """The logits of the first `depth` places of each shortlist, float32 [n_queries, depth], nan at padding.

        `user_texts` has one text for each query of `hits`; each distinct one is tokenised once. `item_tokens` returns
        the token ids of items, from this scorer's tokenizer. `done` is called with the number of pairs of each batch.
        """
        return shortlist_logits(self, user_texts, item_tokens, hits, depth, done=done)

    def score_tokenised(self, pairs: TokenisedPairs, *, done: Callable[[int], None] | None = None) -> Scores:
        """The logit of each pair, float32 [n]; `done` is called with the number of pairs of each batch."""
        return run_pairs(self.tokenizer, self.runner, pairs, done=done)


def shortlist_logits(
    scorer: ShortlistScorer,
    user_texts: Sequence[str],
    item_tokens: TokensByRow,
    hits: Hits,
    depth: int,
    *,
    done: Callable[[int], None] | None = None,
) -> Scores:
    """See `CrossEncoderScorer.score_shortlists`; by `score_tokenised` of any scorer."""
    rows = hits.rows[:, :depth]
    user, place = np.nonzero(rows >= 0)
    scores = np.full(rows.shape, np.nan, np.float32)
    pairs = scorer.tokenizer.pairs_of_tokens(user_texts, item_tokens, user, rows[user, place])
    scores[user, place] = scorer.score_tokenised(pairs, done=done)
    return scores


def run_pairs(
    tokenizer: PairTokenizer, runner: Runner, pairs: TokenisedPairs, *, done: Callable[[int], None] | None = None
) -> Scores:
    """The logit of each pair, float32 [n], computed in batches of similar length."""
    scores = np.empty(len(pairs.user), np.float32)
    batches = batches_for(tokenizer.lengths(pairs), runner) if len(scores) else []
    for batch, logits in run_each(
        runner, batches, lambda batch: tokenizer.batch(pairs.select(batch), multiple=MULTIPLE)
    ):
        scores[batch] = logits
        if done is not None:
            done(len(batch))
    return scores


def sigmoid(logits: NDArray[np.floating]) -> Scores:
    """1 / (1 + e^-x) without overflow, float32.

    >>> sigmoid(np.array([0.0, -1_000.0])).tolist()
    [0.5, 0.0]
    """
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, np.float64))).astype(np.float32)


def scorer_fingerprint(folder: Path) -> str:
    """The fingerprint of a scorer that is loaded from this folder."""
    return fingerprint(folder_fingerprint(folder), rendering_fingerprint(), USER_SHARE)


def open_cross_encoder(source: str | Path, *, device: str = "cpu") -> CrossEncoder:
    """Open a CrossEncoder with one output from a folder or model id; raises BadBundle for anything else."""
    from sentence_transformers import CrossEncoder

    from retrieval.encoders.quiet import quiet_libraries

    try:
        with quiet_libraries():
            model: CrossEncoder = CrossEncoder(str(source), device=device)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadBundle(f"{source} does not open as a sentence-transformers CrossEncoder: {first}") from error
    if model.num_labels != 1:
        raise BadBundle(f"{source} has {model.num_labels} outputs; give a cross-encoder with one (num_labels=1)")
    return model


def adopt_cross_encoder(source: str | Path, out: Path) -> None:
    """Save a foreign CrossEncoder to the folder `out` in sentence-transformers' layout, if we reproduce its scores.

    Raises BadBundle where it has several outputs, no fast tokenizer, or logits that differ from ours by more than 1e-4,
    which happens with a prompt or a chat template around the pair.
    """
    import torch

    from retrieval.encoders.quiet import quiet_libraries

    model = open_cross_encoder(source)
    with quiet_libraries():
        model.save_pretrained(str(out), create_model_card=False)
    pairs = [("red mug", "Acme Mug | Kitchen"), ("", "Argan Oil Mask"), ("drill 18v; screws", "a"), ("x", "")]
    read, plain = prompted(model, pairs), torch.nn.Identity()
    wanted = np.asarray(model.predict(read, activation_fn=plain, show_progress_bar=False), np.float32)
    ours = run_pairs_of(model, out, pairs)
    difference = float(np.abs(wanted - ours).max())
    if not difference <= TOLERANCE:
        raise BadBundle(
            f"{source}: our scores differ from CrossEncoder.predict by {difference:.2g}; a model with a prompt or a "
            "chat template cannot be adopted, fine-tune a plain one instead"
        )


def prompted(model: CrossEncoder, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs (user text, item text) under the prompts of each side that our own training records with a model, for
    `CrossEncoder.predict`, which knows of none."""
    user, item = (model.prompts.get(side) or "" for side in ("user", "item"))
    return [(user + one, item + other) for one, other in pairs]


def run_pairs_of(model: CrossEncoder, folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """An open model's logits, float32 [n], of pairs that are tokenised as serving does, by the tokenizer of
    `folder`."""
    tokenizer, every = PairTokenizer.load(folder), np.arange(len(pairs))
    tokenised = tokenizer.pairs([user for user, _ in pairs], [item for _, item in pairs], every, every)
    return run_pairs(tokenizer, TorchRunner(logit_module(model), "cpu", "fp32"), tokenised)


def logit_module(model: CrossEncoder) -> torch.nn.Module:
    """A CrossEncoder as a module from (input_ids, attention_mask, token_type_ids), int64 [b, l], to logits, float [b].

    The model is changed: a BERT's last layer computes its first token only, see `read_first_token_only`.
    """
    import torch

    from ranking.models.first_token import read_first_token_only

    read_first_token_only(model)

    class Logit(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.takes_segments = takes_segments(model)

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            token_type_ids: torch.Tensor | None = None,
        ) -> torch.Tensor:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            if self.takes_segments and token_type_ids is not None:
                features["token_type_ids"] = token_type_ids
            scores: torch.Tensor = self.model(features)["scores"]
            return scores[:, 0]

    return Logit().eval()


def takes_segments(model: CrossEncoder) -> bool:
    """Whether the model's tokenizer makes token type ids."""
    return "token_type_ids" in getattr(model.tokenizer, "model_input_names", ())


def served_module(folder: Path, *, int8: bool = False, bf16: bool = False) -> torch.nn.Module:
    """The `logit_module` of a folder, with int8 layers or with its body in bfloat16 where that is set."""
    model = open_cross_encoder(folder)
    if int8:
        from retrieval.encoders.int8_layers import quantise

        quantise(model, folder)
    if bf16 and model.model is not None:
        from retrieval.encoders.cuda import body_in_bf16

        body = model.model.base_model
        if body is not model.model:
            body_in_bf16(body, (part for part in model.model.children() if part is not body))
    return logit_module(model)


def _openvino_graph(folder: Path, *, int8: bool) -> openvino.Model:
    module = served_module(folder, int8=int8)
    inputs = len(TOKEN_INPUTS) if module.takes_segments else 2
    return convert(module, TOKEN_INPUTS[:inputs], token_example()[:inputs])


def _activation(folder: Path) -> Activation:
    """The activation that the folder names, in the file of today's or of older sentence-transformers (before 4)."""
    config = read_json(folder / "config.json")
    nested = config.get("sentence_transformers")
    named = (
        read_json(folder / "config_sentence_transformers.json").get("activation_fn")
        or (nested.get("activation_fn") if isinstance(nested, dict) else None)
        or config.get("sbert_ce_default_activation_function")
        or "Sigmoid"
    )
    kind = str(named).rpartition(".")[2].lower()
    if kind not in ("sigmoid", "identity"):
        raise BadBundle(f"{folder}: the activation {named} is not supported; save the model with Sigmoid or Identity")
    return "identity" if kind == "identity" else "sigmoid"
