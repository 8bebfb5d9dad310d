"""The cross-encoder at serving: reads `[user text] [item text]` together and gives one logit, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ranking.models.pair_tokens import USER_SHARE, PairTokenizer, TokenisedPairs, TokensByRow
from ranking.models.placement import Placement, resolve_placement
from retrieval.encoders.int8_file import require_int8
from retrieval.encoders.runtime import (
    MULTIPLE,
    TOKEN_INPUTS,
    Runner,
    RuntimeName,
    TorchRunner,
    batches_for,
    convert,
    openvino_model,
    resolve_precision,
    run_each,
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

TOLERANCE = 1e-4  # between our logits and sentence-transformers', when a foreign model is adopted


class ShortlistScorer(Protocol):
    """Anything that scores candidates against a user text; a fake of it stands in for a model in tests."""

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

    Logits equal those of sentence-transformers' `CrossEncoder(folder)` within 1e-4 in float32, where a pair is not too
    long; where it is, `PairTokenizer` keeps the item. `activation` turns a logit into what `CrossEncoder.predict`
    gives. `fingerprint` changes with the weights, the tokenizer, the configuration and the rendering of texts.
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

        On OpenVINO the graph is kept under `cache`, and torch is imported only where it is not there yet. Raises
        BadConfig as `resolve_placement` does, BadBundle where the folder holds no such model or, for int8, was not
        calibrated.
        """
        place = resolve_placement(device, precision, runtime)
        int8 = place.precision == "int8"
        if int8:
            require_int8(folder)
        kind = resolve_precision("auto", place.device) if int8 else place.precision  # whole numbers, between floats
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
        """The logit of each (user text, item text), float32 [n]."""
        every = np.arange(len(pairs))
        users, items = [user for user, _ in pairs], [item for _, item in pairs]
        return self.score_tokenised(self.tokenizer.pairs(users, items, every, every))

    def predict(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        """What sentence-transformers' `CrossEncoder.predict` gives: the logits under the model's own activation."""
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
        """The logits of the first `depth` places of each shortlist, float32 [n_queries, depth], nan at a pad.

        `user_texts` has one text for each line of `hits`, and each distinct one is tokenised once; `item_tokens` gives
        what this scorer's tokenizer makes of each row's text. `done` hears how many pairs each batch held.
        """
        rows = hits.rows[:, :depth]
        user, place = np.nonzero(rows >= 0)
        scores = np.full(rows.shape, np.nan, np.float32)
        pairs = self.tokenizer.pairs_of_tokens(user_texts, item_tokens, user, rows[user, place])
        scores[user, place] = self.score_tokenised(pairs, done=done)
        return scores

    def score_tokenised(self, pairs: TokenisedPairs, *, done: Callable[[int], None] | None = None) -> Scores:
        """The logit of each pair, float32 [n], run in batches of few shapes."""
        return run_pairs(self.tokenizer, self.runner, pairs, done=done)


def run_pairs(
    tokenizer: PairTokenizer, runner: Runner, pairs: TokenisedPairs, *, done: Callable[[int], None] | None = None
) -> Scores:
    """Run every pair once, sorted by length, and give the logits in the order of the pairs, float32 [n]."""
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
    """The fingerprint that a scorer loaded from this folder carries."""
    return fingerprint(folder_fingerprint(folder), rendering_fingerprint(), USER_SHARE)


def open_cross_encoder(source: str | Path, *, device: str = "cpu") -> CrossEncoder:
    """A CrossEncoder with one output, from a folder or a model id. Raises BadBundle, in one line, for anything else."""
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
    """Copy a foreign CrossEncoder to the folder `out` in sentence-transformers' layout, once its scores agree.

    Raises BadBundle where it has more than one output, no fast tokenizer, or scores that differ from ours by more than
    1e-4: a prompt or a chat template around the pair, which we do not reproduce.
    """
    import torch

    from retrieval.encoders.quiet import quiet_libraries

    model = open_cross_encoder(source)
    with quiet_libraries():
        model.save_pretrained(str(out), create_model_card=False)
    pairs = [("red mug", "Acme Mug | Kitchen"), ("", "Argan Oil Mask"), ("drill 18v; screws", "a"), ("x", "")]
    wanted = np.asarray(model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False), np.float32)
    ours = run_pairs_of(model, out, pairs)
    difference = float(np.abs(wanted - ours).max())
    if not difference <= TOLERANCE:
        raise BadBundle(
            f"{source}: our scores differ from CrossEncoder.predict by {difference:.2g}; a model with a prompt or a "
            "chat template cannot be adopted, fine-tune a plain one instead"
        )


def run_pairs_of(model: CrossEncoder, folder: Path, pairs: Sequence[tuple[str, str]]) -> Scores:
    """The logits of an open model by our own reading of the pairs, with the tokenizer of `folder`."""
    tokenizer, every = PairTokenizer.load(folder), np.arange(len(pairs))
    tokenised = tokenizer.pairs([user for user, _ in pairs], [item for _, item in pairs], every, every)
    return run_pairs(tokenizer, TorchRunner(logit_module(model), "cpu", "fp32"), tokenised)


def logit_module(model: CrossEncoder) -> torch.nn.Module:
    """A CrossEncoder as a module over (input_ids, attention_mask, token_type_ids) that gives the logits, [b].

    From here on a BERT's last layer computes its first token only, see `ranking.first_token`; not so where it reads
    texts apart, see `ranking.apart`.
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
    """Whether the model is given token types."""
    return "token_type_ids" in getattr(model.tokenizer, "model_input_names", ())


def served_module(folder: Path, *, int8: bool = False, bf16: bool = False) -> torch.nn.Module:
    """The `logit_module` of a folder, in whole numbers or with its body in bfloat16 where that is asked for."""
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
    """The activation that the folder names, where sentence-transformers keeps it now or did before version 4."""
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
        raise BadBundle(f"{folder}: the activation {named} is not known; save the model with Sigmoid or Identity")
    return "identity" if kind == "identity" else "sigmoid"
