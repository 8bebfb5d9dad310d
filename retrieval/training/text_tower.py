"""Fine-tuning of the text encoder with sentence-transformers' trainer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PreTrainedModel, TrainerCallback

from retrieval.encoders.quiet import quiet_libraries
from retrieval.encoders.runtime import training_bf16
from retrieval.errors import BadConfig
from retrieval.settings import TextConfig
from retrieval.topk import exact_topk
from retrieval.training.checkpoint import last_checkpoint
from retrieval.training.hard_negatives import HardNegatives
from retrieval.training.length_batches import LengthGroupedBatches
from retrieval.training.text_batches import Teacher, TextBatches
from retrieval.training.text_loss import TextLoss
from retrieval.training.text_pairs import TextPairs
from retrieval.training.trainer_progress import TrainingProgress, show_training

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel
    from transformers import TrainerControl, TrainerState, TrainingArguments

EVALUATIONS = 3  # over a run, each followed by a checkpoint
RECALL = "recall@10"
EVALUATED_PAIRS, EVALUATED_ITEMS = 400, 1500
HARD_NEGATIVES = "hard_negatives.safetensors"  # in a checkpoint's folder


class HeldOutRecall(BaseEvaluator):
    """recall@10 of at most 400 held-out pairs, over their items and a sample of 1,500 others."""

    def __init__(self, pairs: TextPairs, item_texts: Sequence[str], rng: np.random.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.primary_metric, self.greater_is_better, self.name = RECALL, True, ""
        keep = rng.permutation(len(pairs))[:EVALUATED_PAIRS]
        self.pairs = pairs.take(np.sort(keep))
        others = rng.permutation(len(item_texts))[:EVALUATED_ITEMS]
        self.rows = np.union1d(self.pairs.item, others)
        self.texts = [item_texts[row] for row in self.rows]

    def __call__(
        self, model: BaseModel, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """The figures by name; called by the trainer."""
        text_part = cast("SentenceTransformer", model)
        encoded = (text_part.encode_document(self.texts), text_part.encode_query(list(self.pairs.text)))
        items, queries = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12) for vectors in encoded)
        best = exact_topk(queries, items, min(10, len(items))).rows
        found = (self.rows[best] == self.pairs.item[:, None]).any(axis=1)
        return {RECALL: float(found.mean())}


def train_text(
    model: SentenceTransformer,
    pairs: TextPairs,
    held_out: TextPairs,
    item_texts: Sequence[str],
    *,
    config: TextConfig,
    examples: int,
    work: Path,
    seed: int,
    device: str,
    teacher: Teacher | None = None,
) -> float | None:
    """Fine-tunes `model` in place and returns its best recall@10 on `held_out`, or None where that is empty.

    Training reads `examples` pairs in all: a random part of `pairs`, or all of them several times. `teacher` is a
    cross-encoder that scores (query text, item text) pairs, float32 [n]; see `TextBatches` for its use.

    Checkpoints are written under `work`, and an interrupted run resumes from the last one; `work` must not hold those
    of another run. Raises BadConfig where `matryoshka` exceeds the model's dimension or `distil` lacks a teacher.
    """
    _check(model, config, teacher)
    rng = np.random.default_rng(seed)
    chosen = pairs.take(rng.permutation(len(pairs))[:examples])
    evaluator = HeldOutRecall(held_out, item_texts, rng) if len(held_out) else None
    _freeze_words(model, config.freeze_word_embeddings)
    longest = model.max_seq_length
    model.max_seq_length = min(config.max_tokens, longest or config.max_tokens)
    shown = TrainingProgress("text encoder")
    with quiet_libraries():
        lengths = _lengths(chosen, item_texts)
        arguments = _arguments(config, examples, lengths, work, seed, device, evaluated=evaluator is not None)
        mined = HardNegatives(chosen, item_texts, config, steps=arguments.max_steps, seed=seed)
        trainer = _Trainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict({"pair": np.arange(len(chosen))}),
            batches=TextBatches(model, chosen, item_texts, config, seed, mined, teacher),
            data_collator=_PairNumbers(),
            loss=TextLoss(model, chosen, len(item_texts), config),
            evaluator=evaluator,
            callbacks=[EarlyStoppingCallback(config.patience)] if evaluator is not None else None,
        )
        if config.hard_negatives:
            trainer.add_callback(_HardNegativesCheckpoint(mined))
        show_training(trainer, shown)
        with closing(shown):
            trainer.train(resume_from_checkpoint=last_checkpoint(work))
    model.max_seq_length = longest
    model.eval()
    return trainer.state.best_metric


@dataclass
class _PairNumbers:
    """Collates rows of the training set, which are positions of pairs."""

    valid_label_columns: list[str] = field(default_factory=list)  # required by the trainer

    def __call__(self, rows: Sequence[dict[str, int]]) -> dict[str, Tensor]:
        return {"pair": torch.tensor([row["pair"] for row in rows])}


class _Trainer(SentenceTransformerTrainer):
    """A trainer that builds each batch at its own step, so that hard negatives are mined with the current model.

    It writes no model card, because a card quotes training texts, which are shoppers' queries.
    """

    def __init__(self, *, batches: TextBatches, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.batches = batches

    def training_step(self, model: nn.Module, inputs: dict[str, Tensor], num_items_in_batch: Any = None) -> Tensor:
        """One step on the pairs whose positions are in `inputs`; returns the loss."""
        step = self.state.global_step
        self.batches.mined.refresh(self.batches.model, step)
        batch = self.batches(inputs["pair"].cpu().numpy(), step)
        loss: Tensor = super().training_step(model, batch, num_items_in_batch)
        return loss

    def add_model_card_callback(self, default_args_dict: dict[str, object]) -> None:
        """Leaves the model card out."""


class _HardNegativesCheckpoint(TrainerCallback):
    """Saves the mined negatives beside each checkpoint, so that a resumed run trains on the same ones."""

    def __init__(self, mined: HardNegatives) -> None:
        self._mined = mined

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Writes the negatives; called after a checkpoint is written."""
        tensors = {"mined": torch.from_numpy(self._mined.rows), "round": torch.tensor(self._mined.round)}
        path = self._path(args, state)
        save_file(tensors, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Reads the negatives of the checkpoint that training resumes from, if any."""
        path = self._path(args, state)
        if not path.exists():
            return
        tensors = load_file(path)
        self._mined.rows, self._mined.round = tensors["mined"].numpy(), int(tensors["round"])

    @staticmethod
    def _path(args: TrainingArguments, state: TrainerState) -> Path:
        return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / HARD_NEGATIVES


def _check(model: SentenceTransformer, config: TextConfig, teacher: Teacher | None) -> None:
    dim = model.get_embedding_dimension() or 0
    if max(config.matryoshka, default=0) > dim:
        raise BadConfig(
            f"matryoshka {max(config.matryoshka)} is more than the {dim} dimensions of {config.model}; "
            f"give at most {dim}"
        )
    if config.distil and teacher is None:
        raise BadConfig("distil needs a teacher, and there is none; set ranking.teacher or set distil to 0")


def _lengths(pairs: TextPairs, item_texts: Sequence[str]) -> NDArray[np.int64]:
    """The characters of both texts of each pair, int64 [n], by which batches are grouped."""
    return np.array([len(text) + len(item_texts[row]) for text, row in zip(pairs.text, pairs.item, strict=True)])


def _freeze_words(model: SentenceTransformer, freeze: bool) -> None:
    inner = getattr(model[0], "model", None)
    if isinstance(inner, PreTrainedModel):
        inner.get_input_embeddings().weight.requires_grad_(not freeze)


def _arguments(
    config: TextConfig,
    examples: int,
    lengths: NDArray[np.int64],
    work: Path,
    seed: int,
    device: str,
    *,
    evaluated: bool,
) -> SentenceTransformerTrainingArguments:
    steps = max(1, examples // config.batch)
    every = max(1, steps // EVALUATIONS)
    return SentenceTransformerTrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=config.batch,
        batch_sampler=LengthGroupedBatches.by(lengths),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=int(config.warmup * steps),
        lr_scheduler_type="linear",
        eval_strategy="steps" if evaluated else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=evaluated,
        metric_for_best_model=f"eval_{RECALL}" if evaluated else None,
        greater_is_better=True if evaluated else None,
        restore_callback_states_from_checkpoint=evaluated,
        logging_steps=5,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        seed=seed,
        bf16=training_bf16(device),
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
    )


def hashed_share(keys: Sequence[str], share: float) -> NDArray[np.bool_]:
    """A pseudo-random choice of about `share` of the keys, bool [n], which depends on the key alone.

    >>> hashed_share(["a", "b", "c"], 0.0).any(), hashed_share(["a", "b", "c"], 1.0).all()
    (np.False_, np.True_)
    """
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.array([int.from_bytes(digest, "big") < share * 2**64 for digest in digests], bool)
