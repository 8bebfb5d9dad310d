"""Settings of retrieval's training: frozen, keyword-only, checked when made."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Budget: TypeAlias = Literal["quick", "default", "long"]  # how much a training reads, relative to its default
PRETRAINED = "sentence-transformers/all-MiniLM-L6-v2"


class Settings(BaseModel):
    """Base of all settings: unknown names are refused, values are checked, nothing changes afterwards."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TextConfig(Settings):
    """Fine-tuning of the text encoder."""

    model: str = PRETRAINED
    examples: int | None = Field(
        default=None, ge=0, description="budget in pairs; none: derived from the data, 0: no training"
    )
    batch: PositiveInt = 96
    mini_batch: int | None = Field(
        default=None, gt=0, description="texts embedded at once, so that a large batch fits in memory; none: all"
    )
    learning_rate: float = Field(default=4e-5, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    loss: Literal["softmax", "bce", "mse"] = Field(
        default="softmax", description="over the batch's items; mse: cosines against grades, of judged pairs alone"
    )
    temperature: float = Field(default=0.05, gt=0)
    log_q: bool = Field(default=False, description="undo that frequent items are frequent negatives; softmax only")
    matryoshka: tuple[PositiveInt, ...] = Field(default=(), description="shorter vectors trained beside the whole one")
    hard_negatives: int = Field(default=0, ge=0, description="of each pair, mined from the model as it is")
    negative_window: tuple[int, int] = Field(
        default=(10, 100), description="ranks that hard negatives are drawn from: from the first, up to the second"
    )
    negative_margin: float | None = Field(
        default=0.0, description="below its positive's cosine that a hard negative has to stay; none: anywhere"
    )
    negative_pool: PositiveInt = Field(default=10_000, description="items mined among, drawn anew each time")
    mining_rounds: PositiveInt = Field(
        default=2, description="times that hard negatives are mined, evenly over training"
    )
    distil: float = Field(default=0.0, ge=0, description="weight of the teacher's margins over the hard negatives")
    typos: float = Field(default=0.3, ge=0, le=1, description="chance that an asking text is misspelt")
    word_drop: float = Field(default=0.1, ge=0, le=1, description="chance that an asking text loses a word")
    field_loss: float = Field(
        default=0.0, ge=0, le=1, description="chance of an item's field, but the title, to be lost"
    )
    max_tokens: PositiveInt = 64
    patience: PositiveInt = 3
    freeze_word_embeddings: bool = Field(default=True, description="half of MiniLM's weights, and few words are new")

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        first, last = self.negative_window
        if not 0 <= first < last:
            raise ValueError(f"negative_window {first}, {last} holds no rank")
        if self.hard_negatives > last - first:
            raise ValueError(
                f"hard_negatives {self.hard_negatives} are more than negative_window's {last - first} ranks"
            )
        if self.loss == "mse" and self.hard_negatives:
            raise ValueError("loss mse has no negatives; set hard_negatives to 0")
        if self.log_q and self.loss != "softmax":
            raise ValueError(f"log_q corrects a softmax, and the loss is {self.loss}")
        if self.distil and not self.hard_negatives:
            raise ValueError("distil needs hard_negatives")
        return self


class HistoryConfig(Settings):
    """The history model and the item head, trained together over fixed text vectors."""

    dim: int | None = Field(
        default=None, gt=0, description="of the items' space; none: 128 without search, else the text's"
    )
    width: PositiveInt = Field(default=128, description="of the transformer that reads what items are")
    identity: int = Field(default=128, ge=0, description="dimensions for which item it is, beside what it is; 0: none")
    identity_weight: float | None = Field(
        default=None, ge=0, description="of its logits beside the content's; none: the best one on tower_valid"
    )
    linear: int = Field(default=512, ge=0, description="dimensions of the closed-form item-to-item reading; 0: none")
    layers: PositiveInt = 1
    heads: PositiveInt = Field(default=2, description="of the same; the one that reads identities has one")
    gated: bool = Field(default=True, description="LiGR blocks: gated residuals and SwiGLU; else plain ones")
    features: bool = Field(default=True, description="price, category and brand beside the text")
    bias: bool = Field(default=True, description="a bias per item: popularity, which a cosine cannot hold")
    longest: PositiveInt = Field(default=50, le=1000, description="newest events of a history that are read")
    target_weights: dict[str, float] = Field(
        default_factory=dict, description="kinds of events that are learned, with weights; none: the split's, each 1"
    )
    loss: Literal["softmax", "bce"] = "softmax"
    dropout: float = Field(default=0.5, ge=0, lt=1)
    event_drop: float = Field(default=0.2, ge=0, lt=1, description="share of past events that a step does not see")
    residual: bool | None = Field(
        default=None,
        description="a free vector per known item in what it is; none: where no queries are, which find less by it",
    )
    residual_drop: float = Field(default=0.05, ge=0, lt=1, description="share of items that a step reads without it")
    temperature: float = Field(default=0.07, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup: float = Field(default=0.03, ge=0, lt=1)
    epochs: int | None = Field(default=None, ge=0, description="none: derived from the data")
    batch_positions: PositiveInt = 1536
    full_softmax_items: int = Field(default=5_000, ge=0, description="larger catalogues are sampled")
    uniform_negatives: PositiveInt = 2048
    log_q: bool = Field(default=True, description="correct samples for how often an item is drawn")
    hard_negatives: int = Field(default=0, ge=0, description="of each target: items that the towers find most like it")
    negative_window: tuple[int, int] = Field(default=(1, 50), description="ranks that hard negatives come from")
    query_weight: float = Field(default=0.5, ge=0, description="weight of the query loss where there are queries")
    evaluations: PositiveInt = 10
    patience: PositiveInt = 3

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self

    @model_validator(mode="after")
    def _weights_are_above_zero(self) -> Self:
        if any(weight <= 0 for weight in self.target_weights.values()):
            raise ValueError("target_weights must be above 0; leave out what is not to be learned")
        return self

    @model_validator(mode="after")
    def _window_holds_ranks(self) -> Self:
        if not 0 <= self.negative_window[0] < self.negative_window[1]:
            raise ValueError(f"negative_window {self.negative_window} is not (first rank, last rank) from 0")
        return self


class RetrievalConfig(Settings):
    """Everything that makes a pair of towers."""

    text: TextConfig = TextConfig()
    history: HistoryConfig = HistoryConfig()
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"  # of the catalogue's texts; int8: see TextEncoder.load
    seed: int = Field(default=1, ge=0)
