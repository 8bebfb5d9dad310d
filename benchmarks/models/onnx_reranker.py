"""An int8 ONNX reranker made from a CrossEncoder as torch and onnxruntime document it: exported by `torch.onnx.export`,
its weights quantised by `quantize_dynamic`, run on the CPU in batches sorted by length.

sentence-transformers' own `backend="onnx"` would need optimum-onnx as well.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ranking.models.cross_encoder import open_cross_encoder
from retrieval.encoders.runtime import TOKEN_INPUTS, available_cores, token_example
from retrieval.errors import MissingDependency
from retrieval.topk import Scores

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

BATCH = 32  # the default of CrossEncoder.predict


@dataclass(frozen=True)
class OnnxReranker:
    """A quantised model in an onnxruntime session, and the tokenizer of the CrossEncoder that it was made from."""

    session: Any
    tokenizer: Any
    longest: int | None  # tokens of a pair; None: the tokenizer's own limit
    megabytes: float  # of the quantised model

    @classmethod
    def of(cls, source: str | Path) -> OnnxReranker:
        """Made from a CrossEncoder folder or id. Raises MissingDependency without onnx, onnxscript or onnxruntime, and
        BadBundle as `open_cross_encoder` does."""
        runtime = import_onnxruntime()
        model = open_cross_encoder(source)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        with TemporaryDirectory() as scratch:
            made = _quantised(model, Path(scratch))
            session = runtime.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
            size = made.stat().st_size / 1e6
        return cls(session, model.tokenizer, model.max_seq_length, size)

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        """The logit of each pair, float32 [n]."""
        order = np.argsort([-len(user) - len(item) for user, item in pairs], kind="stable")
        scores = np.empty(len(pairs), np.float32)
        names = [one.name for one in self.session.get_inputs()]
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            users, items = zip(*(pairs[at] for at in batch), strict=True)
            read = self.tokenizer(
                list(users), list(items), padding=True, truncation=True, max_length=self.longest, return_tensors="np"
            )
            scores[batch] = self.session.run(None, {name: read[name] for name in names})[0][:, 0]
        return scores


def import_onnxruntime() -> Any:
    """onnxruntime. Raises MissingDependency where it, onnx or onnxscript is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            f"the ONNX reranker needs onnx, onnxscript and onnxruntime ({error}); run: pip install 'shortlist[peers]'"
        ) from error
    return onnxruntime


def _quantised(model: CrossEncoder, folder: Path) -> Path:
    """The ONNX file of a model with int8 weights, which gives logits [b, 1]."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    names = [name for name in TOKEN_INPUTS if name in model.tokenizer.model_input_names]
    example = tuple(value for name, value in zip(TOKEN_INPUTS, token_example(), strict=True) if name in names)
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    whole, quantised = folder / "model.onnx", folder / "model_int8.onnx"
    with _quiet():
        torch.onnx.export(
            _logits(model, names), example, str(whole), input_names=names, output_names=["logits"],
            dynamic_shapes=((sizes,) * len(names),), dynamo=True, verbose=False,
        )  # fmt: skip
        quantize_dynamic(whole, quantised, weight_type=QuantType.QInt8)
    return quantised


def _logits(model: CrossEncoder, names: Sequence[str]) -> torch.nn.Module:
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model: Any = model.model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.model(**dict(zip(names, inputs, strict=True))).logits
            return found

    return Logits().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter and the quantiser."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
