"""Contrastive fine-tuning of the text part on sentence-transformers' trainer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, PreTrainedModel

from retrieval.batches import LengthGroupedBatches
from retrieval.checkpoint import last_checkpoint
from retrieval.config import TextConfig
from retrieval.fingerprint import array_sha256, fingerprint
from retrieval.losses import in_batch_softmax
from retrieval.runtime import training_bf16
from retrieval.topk import CSR, exact_topk
from retrieval.training_progress import TrainingProgress, quiet_libraries, show_training

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

EVALUATIONS = 3
RECALL = "recall@10"
EVALUATED_PAIRS, EVALUATED_ITEMS = 400, 1500


@dataclass(frozen=True)
class TextPairs:
    """What asks (a query, or a shopper's recent titles), and an item that answers; `owner` names who asked.

    `known` holds, for each owner, every item row that is good for it: those never count as negatives.
    """

    text: tuple[str, ...]
    owner: NDArray[np.int64]  # [n]
    item: NDArray[np.int64]  # [n]
    known: CSR

    def __len__(self) -> int:
        return len(self.item)

    def digest(self) -> str:
        """A fingerprint of what the pairs say."""
        arrays = (self.owner, self.item, self.known.indptr, self.known.rows)
        return fingerprint(list(self.text), [array_sha256(array) for array in arrays])

    def take(self, index: NDArray[np.int64]) -> TextPairs:
        """Some of the pairs; what is known stays whole."""
        return TextPairs(tuple(self.text[i] for i in index), self.owner[index], self.item[index], self.known)

    @classmethod
    def join(cls, parts: Sequence[TextPairs]) -> TextPairs:
        """Pairs of several kinds; owners of different kinds stay apart."""
        starts = np.cumsum([0, *(part.known.n_lists for part in parts)])
        sizes = np.concatenate([np.diff(part.known.indptr) for part in parts])
        known = CSR(np.concatenate(([0], np.cumsum(sizes))), np.concatenate([part.known.rows for part in parts]))
        return cls(
            tuple(text for part in parts for text in part.text),
            np.concatenate([part.owner + start for part, start in zip(parts, starts, strict=False)]),
            np.concatenate([part.item for part in parts]),
            known,
        )


class KnownPositives:
    """Whether an owner is known to like an item, for whole batches at once."""

    def __init__(self, known: CSR, n_items: int) -> None:
        self.n_items = n_items
        self.keys = torch.from_numpy(np.unique(known.owners * n_items + known.rows))

    def __call__(self, owner: Tensor, item: Tensor) -> Tensor:
        """int64 [b], int64 [b] -> bool [b, b], row by owner."""
        wanted = owner[:, None] * self.n_items + item[None, :]
        keys = self.keys.to(wanted.device)
        at = torch.searchsorted(keys, wanted).clamp(max=max(0, len(keys) - 1))
        return keys[at] == wanted if len(keys) else torch.zeros_like(wanted, dtype=torch.bool)


class InBatchSoftmax(nn.Module):
    """`in_batch_softmax` in the form that the trainer calls; the label column holds (owner, item) of each pair."""

    def __init__(self, model: SentenceTransformer, known: KnownPositives, temperature: float) -> None:
        super().__init__()
        self.model, self.known, self.temperature = model, known, temperature

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Features of the askers and of the items, labels int64 [b, 2]."""
        asked, items = (self.model(features)["sentence_embedding"] for features in sentence_features)
        positive = self.known(labels[:, 0], labels[:, 1])
        return in_batch_softmax(
            nn.functional.normalize(asked, dim=-1),
            nn.functional.normalize(items, dim=-1),
            positive,
            temperature=self.temperature,
        )


class HeldOutRecall(BaseEvaluator):
    """recall@10 of held-out pairs among a sample of the catalogue."""

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
        """Called by the trainer."""
        text_part = cast("SentenceTransformer", model)
        encoded = (text_part.encode_document(self.texts), text_part.encode_query(list(self.pairs.text)))
        items, asked = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12) for vectors in encoded)
        best = exact_topk(asked, items, min(10, len(items))).rows
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
) -> float | None:
    """Fine-tunes `model` in place and returns its best held-out recall@10, if any was measured.

    `examples` pairs are read: some of them, or all in turn, as often as that makes.

    Checkpoints lie under `work`; a run that was interrupted goes on from the last one, so that `work` must hold no
    other run's.
    """
    rng = np.random.default_rng(seed)
    chosen = pairs.take(rng.permutation(len(pairs))[:examples])
    label = np.stack([chosen.owner, chosen.item], axis=1)
    dataset = Dataset.from_dict(
        {"asked": list(chosen.text), "item": [item_texts[row] for row in chosen.item], "label": label.tolist()}
    )
    lengths = np.array([len(text) + len(item_texts[row]) for text, row in zip(chosen.text, chosen.item, strict=True)])
    evaluator = HeldOutRecall(held_out, item_texts, rng) if len(held_out) else None
    _freeze_words(model, config.freeze_word_embeddings)
    longest = model.max_seq_length
    model.max_seq_length = min(config.max_tokens, longest or config.max_tokens)
    shown = TrainingProgress("text part")
    with quiet_libraries():
        trainer = _Trainer(
            model=model,
            args=_arguments(model, config, examples, lengths, work, seed, device, evaluated=evaluator is not None),
            train_dataset=dataset,
            loss=InBatchSoftmax(model, KnownPositives(chosen.known, len(item_texts)), config.temperature),
            evaluator=evaluator,
            callbacks=[EarlyStoppingCallback(config.patience)] if evaluator is not None else None,
        )
        show_training(trainer, shown)
        try:
            trainer.train(resume_from_checkpoint=last_checkpoint(work))
        finally:
            shown.close()
    model.max_seq_length = longest
    model.eval()
    return trainer.state.best_metric


class _Trainer(SentenceTransformerTrainer):
    """The trainer without a generated model card: it would quote shoppers' texts as examples."""

    def add_model_card_callback(self, default_args_dict: dict[str, object]) -> None:
        """No card."""


def _freeze_words(model: SentenceTransformer, freeze: bool) -> None:
    inner = getattr(model[0], "model", None)
    if isinstance(inner, PreTrainedModel):
        inner.get_input_embeddings().weight.requires_grad_(not freeze)


def _arguments(
    model: SentenceTransformer,
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
    prompts = {"asked": model.prompts.get("query") or "", "item": model.prompts.get("document") or ""}
    return SentenceTransformerTrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=config.batch,
        batch_sampler=LengthGroupedBatches.by(lengths),
        prompts=prompts if any(prompts.values()) else None,
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
    """A stable pick of about `share` of the keys, the same in every run.

    >>> hashed_share(["a", "b", "c"], 0.0).any(), hashed_share(["a", "b", "c"], 1.0).all()
    (np.False_, np.True_)
    """
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.array([int.from_bytes(digest, "big") < share * 2**64 for digest in digests], bool)
