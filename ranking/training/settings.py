"""Settings of a reranker's training; importing them imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retrieval.settings import Budget, Settings

PASSES: dict[Budget, float] = {"quick": 1.0, "default": 2.0, "long": 4.0}
TOKENS: dict[Budget, int] = {"quick": 500_000, "default": 1_900_000, "long": 20_000_000}


class RankerTraining(Settings):
    """Settings of one training of a reranker.

    A run that is killed goes on from its last checkpoint, if settings, pairs and start are the same.
    """

    loss: Literal["bce", "mse", "logit_mse", "softmax"] = Field(
        default="bce",
        description="what is minimised. bce: binary cross-entropy of each pair, bought or not, or a grade scaled to 0 "
        "to 1; mse: squared error of such a grade; logit_mse: squared error of a teacher's logits, for distillation; "
        "softmax: cross-entropy over the items of one request, whose logits then do not compare between requests",
    )
    layers: int | None = Field(
        default=None,
        ge=1,
        description="how many of the start's first transformer layers are kept; none: all. Fewer train and serve "
        "faster, and order less well",
    )
    freeze_layers: int = Field(
        default=0,
        ge=0,
        description="how many of the lowest kept layers do not learn, and with them the embeddings; saves memory and "
        "time, and gained nothing in our experiments",
    )
    freeze_word_embeddings: bool = Field(
        default=True,
        description="keep the word embeddings as pretrained; turn it off for a vocabulary that the start hardly saw",
    )
    lora: int | None = Field(
        default=None,
        ge=1,
        description="rank of LoRA adapters, which are trained instead of the layers' own weights and merged before "
        "the model is saved; none: all weights learn. For large models on a small GPU; needs the extra `lora`",
    )
    late_interaction: bool = Field(
        default=False,
        description="train a model of late interaction, which reads the two texts of a pair apart; `ranking.strategy` "
        "decides whether one is used",
    )
    head_rate: float = Field(
        default=1.0, gt=0, description="learning rate of the new head, as a multiple of `learning_rate`"
    )
    examples: int | None = Field(
        default=None,
        ge=1,
        description="pairs to read in all, counting repeats; none: derived from the number of pairs, their length and "
        "`--budget`",
    )
    batch_size: int = Field(
        default=32, ge=1, description="pairs of one optimiser step, over all processes; lower it where memory runs out"
    )
    learning_rate: float = Field(
        default=6e-5, gt=0, description="AdamW's peak learning rate; lower it for larger models, such as 4e-5 for mpnet"
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="factor on the learning rate for each layer further from the head; below 1, low layers learn more "
        "slowly. 1: all learn alike",
    )
    warmup: float = Field(
        default=0.06,
        ge=0,
        lt=1,
        description="share of the steps in which the learning rate rises; it then falls linearly to 0",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are scaled down to this norm")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout of hidden states and of the head")
    attention_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout of attention weights; above 0 it costs a slower attention kernel"
    )
    max_length: int = Field(
        default=128,
        ge=16,
        description="tokens of a pair, special ones included; a longer user text is cut first, down to a quarter of "
        "the room, then the item's. Time grows with it",
    )
    evaluations: int = Field(
        default=3, ge=1, description="how often nDCG@10 is measured on the validation pairs; the best state is kept"
    )
    patience: int = Field(
        default=2, ge=1, description="measurements in a row without a new best after which training ends early"
    )
    valid_pairs: int = Field(
        default=3_500, ge=1, description="validation pairs that a measurement reads, about; more take longer"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="numbers in training. auto and bf16: bfloat16 where the hardware multiplies it, else float32",
    )
    processes: int = Field(
        default=1,
        ge=1,
        description="processes that train together, one a device, each with its share of every batch; raise it to the "
        "number of GPUs",
    )
    report_to: str = Field(
        default="none", description="where transformers' trainer logs, such as tensorboard or wandb; none: nowhere"
    )
    seed: int = Field(default=0, description="of the new head, the dropout and the order of the pairs")


def budget_examples(n_pairs: int, mean_tokens: float, budget: Budget = "default", *, cost: float = 1.0) -> int:
    """How many pairs a training reads under a budget: one, two or four passes, limited by their tokens; at least 1.

    1,900,000 tokens take about 17 minutes with MiniLM-L6 on two cores with AVX2; of a model that takes `cost` times as
    long, as many fewer are read.

    >>> budget_examples(59_000, 25.0), budget_examples(59_000, 25.0, "quick"), budget_examples(1_000_000, 70.0)
    (76000, 20000, 27143)
    """
    return max(1, min(round(n_pairs * PASSES[budget]), round(TOKENS[budget] / cost / max(mean_tokens, 1.0))))
