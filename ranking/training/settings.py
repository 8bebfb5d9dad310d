"""How the cross-encoder is fine-tuned: frozen settings that check themselves, readable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from retrieval.settings import Budget

FULL, SHALLOW, LATE = "full", "shallow", "late"  # the models of a ranker; all but the full one lie in folders so named

PASSES: dict[Budget, float] = {"quick": 1.0, "default": 2.0, "long": 4.0}
TOKENS: dict[Budget, int] = {"quick": 500_000, "default": 1_900_000, "long": 20_000_000}


class RankerTraining(BaseModel):
    """Settings of one training run.

    `loss`: `bce` reads each pair by itself (bought or not, or a scaled grade), `mse` fits a scaled grade, `logit_mse` a
    teacher's logits; `softmax` sets the items of a group against each other. `layers` keeps the
    first so many layers of what the training starts from (None: all), of which the lowest `freeze_layers` and the
    embeddings below them do not learn; with `lora` the others learn changes of that rank and nothing else, see
    `ranking.lora`. `apart` makes a model of late interaction, see `ranking.apart`, whose head
    learns at `head_rate` times the rate. `batch_size` counts pairs. `layer_decay` below 1 multiplies the rate
    once for each layer away from the head. `warmup` is a share of the steps; the rate then falls linearly to 0. The
    best state of `evaluations` is kept, and `patience` of them in a row without a new best end a run (so that the
    default three are always reached). `processes` train together, each on a device of its own, and share out every
    batch, see `ranking.together`. `examples` is the number of pairs to read in all, and comes from
    `budget_examples` where it is None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    loss: Literal["bce", "mse", "logit_mse", "softmax"] = "bce"
    layers: int | None = Field(default=None, ge=1)
    freeze_layers: int = Field(default=0, ge=0)
    lora: int | None = Field(default=None, ge=1)
    apart: bool = False
    head_rate: float = Field(default=1.0, gt=0)
    examples: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=6e-5, gt=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    warmup: float = Field(default=0.06, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)
    freeze_word_embeddings: bool = True
    max_length: int = Field(default=128, ge=16)
    evaluations: int = Field(default=3, ge=1)
    patience: int = Field(default=2, ge=1)
    valid_pairs: int = Field(default=3_500, ge=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    processes: int = Field(default=1, ge=1)
    report_to: str = "none"
    seed: int = 0


def budget_examples(n_pairs: int, mean_tokens: float, budget: Budget = "default") -> int:
    """How many pairs a budget reads: one, two or four passes, bounded by their tokens; at least one pair.

    1,900,000 tokens are about 17 minutes of MiniLM-L6 on two cores with AVX2.

    >>> budget_examples(59_000, 25.0), budget_examples(59_000, 25.0, "quick"), budget_examples(1_000_000, 70.0)
    (76000, 20000, 27143)
    """
    return max(1, min(round(n_pairs * PASSES[budget]), round(TOKENS[budget] / max(mean_tokens, 1.0))))
