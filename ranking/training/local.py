"""Fine-tuning of the cross-encoder in one process, on sentence-transformers' trainer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, cast

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from rich.console import Console
from sentence_transformers import CrossEncoder
from sentence_transformers.base.evaluation import BaseEvaluator
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ranking.models.cross_encoder import logit_module, run_pairs, takes_segments
from ranking.models.late_network import late_head, open_late_interaction
from ranking.models.pair_tokens import PairTokenizer
from ranking.training.collator import PairCollator
from ranking.training.initial_model import new_cross_encoder, tokenizer_of
from ranking.training.lora import load_lora, merge_lora
from ranking.training.losses import GROUP_LOSSES, PAIR_LOSSES
from ranking.training.pairs import PairSet, digest_of
from ranking.training.settings import RankerTraining, budget_examples
from retrieval.encoders.quiet import quiet_libraries
from retrieval.encoders.runtime import TorchRunner, pick_device, resolve_precision
from retrieval.fingerprint import fingerprint
from retrieval.metrics.ranking import by_score, ndcg_at
from retrieval.topk import CSR
from retrieval.training.checkpoint import claim, last_checkpoint
from retrieval.training.length_batches import LengthGroupedBatches
from retrieval.training.trainer_progress import TrainingProgress, show_training

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel
    from sentence_transformers.cross_encoder.data_collator import CrossEncoderDataCollator

METRIC = "ndcg@10"

_LAYER = re.compile(r"\.layers?\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class RankerRun:
    """The outcome of a training: pairs read, optimiser steps, seconds, and nDCG@10 on the validation groups.

    `evaluations` holds (pairs read, nDCG@10) in order; the best state's weights are kept. Without validation groups it
    is empty, `best` is None, and the last weights are kept.
    """

    examples: int
    steps: int
    seconds: float
    evaluations: tuple[tuple[int, float], ...]
    best: float | None


class RankerJob(TypedDict):
    """The arguments of `train_ranker` beside its pairs."""

    valid: PairSet | None
    start: str | Path
    out: Path
    checkpoints: Path
    settings: RankerTraining
    device: str
    description: str


def train_here(pairs: PairSet, *, console: Console | None = None, **job: Unpack[RankerJob]) -> RankerRun:
    """`train_ranker` in this process, which may be one of several that torchrun started; the first one saves."""
    settings, valid, start, checkpoints = job["settings"], job["valid"], job["start"], job["checkpoints"]
    where, begun = pick_device(job["device"]), time.monotonic()
    with quiet_libraries():
        model = new_cross_encoder(start, settings, device=where)
        tokenizer = tokenizer_of(model)
        units = training_rows(pairs, settings)
        tokenised = tokenizer.pairs(pairs.user_texts, pairs.item_texts, pairs.group, pairs.item)
        collator = PairCollator(tokenizer, tokenised, pairs.label, units)
        evaluator = _evaluator(tokenizer, valid, settings, where)
        arguments = _arguments(collator, settings, checkpoints, where, evaluates=evaluator is not None)
        trainer = _trainer(model, arguments, collator, evaluator, settings)
        first = arguments.process_index == 0
        screen = console if first else Console(quiet=True)
        shown = TrainingProgress(job["description"], examples_per_row=len(pairs) / (len(units) - 1), console=screen)
        show_training(trainer, shown)
        stamp = fingerprint(settings.model_dump(), str(start), digest_of(pairs), len(valid) if valid else 0)
        with arguments.main_process_first(local=False):
            last = last_checkpoint(checkpoints) if claim(checkpoints, stamp) else None
        try:
            trainer.train(resume_from_checkpoint=last)
        finally:
            shown.close()
        if model.model is not None and settings.lora is not None:
            merge_lora(model.model)
        trainer.accelerator.wait_for_everyone()
        if first:
            model.save_pretrained(str(job["out"]), create_model_card=False)
    return _record(trainer, len(pairs) / (len(units) - 1), time.monotonic() - begun)


class RankerLoss(nn.Module):
    """Runs the model over a batch of PairCollator and applies a loss, a name of PAIR_LOSSES or GROUP_LOSSES."""

    def __init__(self, model: CrossEncoder, loss: str) -> None:
        super().__init__()
        self.model, self._loss = model, loss
        self._of_groups = GROUP_LOSSES.get(loss)
        self._takes_segments = takes_segments(model)

    def forward(
        self, features: Sequence[Tensor], labels: Tensor, prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        """The loss, a scalar; `features` are the collator's tensors without the labels, in its order."""
        input_ids, attention_mask, token_type_ids, sizes = features
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._takes_segments:
            inputs["token_type_ids"] = token_type_ids
        logits = self.model(inputs)["scores"].view(-1).float()
        if self._of_groups is None:
            return PAIR_LOSSES[self._loss](logits, labels)
        mask = torch.arange(int(sizes.max()), device=sizes.device) < sizes[:, None]
        return self._of_groups(_by_group(logits, mask), _by_group(labels, mask), mask)


class RankingEvaluator(BaseEvaluator):
    """nDCG@10 of the validation groups by the model's scores: exponential gain, ties at their expected value."""

    def __init__(self, tokenizer: PairTokenizer, valid: PairSet, *, device: str, precision: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.primary_metric = METRIC
        self._tokenizer, self._device, self._precision = tokenizer, device, precision
        self._pairs = tokenizer.pairs(valid.user_texts, valid.item_texts, valid.group, valid.item)
        self._lists, self._gain = CSR(valid.indptr, valid.item), valid.gain

    def __call__(
        self, model: BaseModel, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        runner = TorchRunner(logit_module(cast("CrossEncoder", model)), self._device, self._precision)
        scores = run_pairs(self._tokenizer, runner, self._pairs)
        return {METRIC: float(np.nanmean(ndcg_at(by_score(self._lists, scores), self._lists, 10, grades=self._gain)))}


class _Trainer(CrossEncoderTrainer):
    """A trainer that writes no model card, which would quote shoppers' texts, and that resumes models of late
    interaction and with LoRA, which the library cannot open."""

    def add_model_card_callback(self, default_args_dict: dict[str, object]) -> None:
        """No card."""

    def _load_from_checkpoint(self, checkpoint_path: str) -> None:  # type: ignore[override]
        if self.model.model is not None and load_lora(self.model.model, Path(checkpoint_path)):
            return
        if late_head(self.model) is None:
            super()._load_from_checkpoint(checkpoint_path)
        else:
            self.model.load_state_dict(open_late_interaction(Path(checkpoint_path)).state_dict())


class _Epochs(TrainerCallback):
    """Sets the epoch of the batch sampler, which lies under wrappers with several processes; without it a resumed
    training would repeat the first epoch's batches."""

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: DataLoader[object] | None = None,
        **kwargs: object,
    ) -> None:
        """Set the epoch."""
        batches = getattr(train_dataloader, "batch_sampler", None)
        while inner := getattr(batches, "batch_sampler", None):
            batches = inner
        if isinstance(batches, LengthGroupedBatches):
            batches.set_epoch(int(state.epoch or 0))


def layer_rates(names: Iterable[str], rate: float, decay: float) -> dict[str, float]:
    """Learning rates by pattern of parameter name: times `decay` for the last layer, `decay` squared for the one
    below...

    >>> layer_rates(["bert.encoder.layer.0.w", "bert.encoder.layer.1.w"], 1.0, 0.5)["embeddings"]
    0.125
    """
    layers = sorted({int(found[1]) for name in names if (found := _LAYER.search(name))})
    if decay == 1.0 or not layers:
        return {}
    rates = {rf"\.layers?\.{layer}\.": rate * decay ** (layers[-1] + 1 - layer) for layer in layers}
    return {**rates, "embeddings": rate * decay ** (layers[-1] + 2)}


def _trainer(
    model: CrossEncoder,
    arguments: CrossEncoderTrainingArguments,
    collator: PairCollator,
    evaluator: RankingEvaluator | None,
    settings: RankerTraining,
) -> CrossEncoderTrainer:
    loss = RankerLoss(model, settings.loss)
    names = [name for name, _ in loss.named_parameters()]
    rates = layer_rates(names, settings.learning_rate, settings.layer_decay)
    if settings.head_rate != 1.0:
        rates |= {r"\.classifier\.": settings.learning_rate * settings.head_rate}
    arguments.learning_rate_mapping = rates
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"unit": np.arange(len(collator.indptr) - 1)}),
        loss=loss,
        evaluator=evaluator,
        data_collator=cast("CrossEncoderDataCollator", collator),  # it is only called, and asked for its label columns
    )
    trainer.add_callback(_Epochs())
    if evaluator is not None:
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=settings.patience))
    return trainer


def _arguments(
    collator: PairCollator, settings: RankerTraining, checkpoints: Path, device: str, *, evaluates: bool
) -> CrossEncoderTrainingArguments:
    lengths = collator.tokenizer.lengths(collator.pairs)
    n_units = len(collator.indptr) - 1
    rows = rows_of_a_process(len(lengths), n_units, settings)
    examples = settings.examples or budget_examples(len(lengths), float(lengths.mean()))
    every = max(1, round(examples * n_units / len(lengths) / (rows * settings.processes) / settings.evaluations))
    return CrossEncoderTrainingArguments(
        output_dir=str(checkpoints),
        max_steps=every * settings.evaluations,
        per_device_train_batch_size=rows,
        batch_sampler=LengthGroupedBatches.by(np.maximum.reduceat(lengths, collator.indptr[:-1])),
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup,
        lr_scheduler_type="linear",
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        seed=settings.seed,
        bf16=_trains_in_bf16(settings.precision, device),
        use_cpu=device == "cpu",
        ddp_find_unused_parameters=settings.late_interaction,  # late interaction does not use the pooler
        dataloader_drop_last=settings.processes > 1,  # processes need equal numbers of equal batches
        dataloader_pin_memory=device == "cuda",
        eval_strategy="steps" if evaluates else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=evaluates,
        metric_for_best_model=f"eval_{METRIC}" if evaluates else None,
        greater_is_better=True if evaluates else None,
        logging_steps=10,
        report_to=settings.report_to,
        disable_tqdm=True,
        log_level="error",
    )


def rows_of_a_process(n_pairs: int, n_rows: int, settings: RankerTraining) -> int:
    """How many of the `n_rows` training rows (pairs or groups) one process reads in a step; at least 1."""
    return max(1, round(settings.batch_size * n_rows / n_pairs / settings.processes))


def _trains_in_bf16(precision: str, device: str) -> bool:
    """Whether to train in bfloat16: where the hardware multiplies it, unless fp32 was set."""
    return precision != "fp32" and resolve_precision("bf16", device) == "bf16"


def training_rows(pairs: PairSet, settings: RankerTraining) -> NDArray[np.int64]:
    """The first pair of each training row, and the number of pairs: int64 [n_rows + 1].

    A row is a group where the loss is over groups (empty ones are left out), else a pair.
    """
    if settings.loss in GROUP_LOSSES:
        return np.unique(pairs.indptr)
    return np.arange(len(pairs) + 1)


def _evaluator(
    tokenizer: PairTokenizer, valid: PairSet | None, settings: RankerTraining, device: str
) -> RankingEvaluator | None:
    if valid is None or not valid.contrasting().any():
        return None
    groups = max(1, round(settings.valid_pairs * valid.n_groups / len(valid)))
    precision = "bf16" if _trains_in_bf16(settings.precision, device) else "fp32"
    return RankingEvaluator(tokenizer, valid.sample(groups, settings.seed), device=device, precision=precision)


def _by_group(values: Tensor, mask: Tensor) -> Tensor:
    """The values of consecutive groups float [n] as rows [g, m], 0 where `mask` is False."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)


def _record(trainer: CrossEncoderTrainer, pairs_per_row: float, seconds: float) -> RankerRun:
    state, name = trainer.state, f"eval_{METRIC}"
    pairs_per_step = trainer.args.train_batch_size * trainer.args.world_size * pairs_per_row
    evaluations = [(round(log["step"] * pairs_per_step), float(log[name])) for log in state.log_history if name in log]
    return RankerRun(
        examples=round(state.global_step * pairs_per_step),
        steps=state.global_step,
        seconds=seconds,
        evaluations=tuple(evaluations),
        best=max((value for _, value in evaluations), default=None),
    )
