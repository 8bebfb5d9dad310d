"""Settings of the towers' training: frozen, keyword-only, validated by pydantic."""

from __future__ import annotations

from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Budget: TypeAlias = Literal["quick", "default", "long"]  # how much a training reads, relative to its default
PRETRAINED = "sentence-transformers/all-MiniLM-L6-v2"
MULTILINGUAL = "intfloat/multilingual-e5-small"
AUTO = "auto"  # the one of these two that fits the catalogue's language


class Settings(BaseModel):
    """Base of all settings: frozen, and unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TextConfig(Settings):
    """Fine-tuning of the text encoder, which embeds items and queries. It is trained where there are queries."""

    model: str = Field(
        default=AUTO,
        description="Pretrained encoder to start from: a sentence-transformers model id or folder. auto: "
        "all-MiniLM-L6-v2 for an English catalogue, multilingual-e5-small for any other. Take a larger one where "
        "search matters more than the time that embedding takes",
    )
    examples: int | None = Field(
        default=None,
        ge=0,
        description="Training pairs to read in all. None: derived from the data and the budget. 0: no fine-tuning, "
        "the encoder is used as it is",
    )
    batch: PositiveInt = Field(
        default=96,
        description="Pairs in a batch. The other items of the batch are the negatives, so larger is harder and needs "
        "more memory",
    )
    mini_batch: int | None = Field(
        default=None,
        gt=0,
        description="Texts embedded at once (gradient caching). None: the whole batch. Set it where a batch does not "
        "fit in memory; the result is the same, at the cost of a second forward pass",
    )
    learning_rate: float = Field(
        default=4e-5, gt=0, description="Peak learning rate of AdamW. Lower it if validation recall falls in training"
    )
    tuned_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How far the weights go from the pretrained ones (0) to the tuned ones (1). None: as far as "
        "queries that training left out show it to help",
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of AdamW. Rarely worth a change")
    warmup: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises from 0 to its peak"
    )
    loss: Literal["softmax", "bce", "mse"] = Field(
        default="softmax",
        description="softmax: cross-entropy over the items of the batch. bce: binary cross-entropy over the same. "
        "mse: squared error of cosines against grades and ratings, on judged pairs and rated events alone",
    )
    temperature: float = Field(
        default=0.05,
        gt=0,
        description="Divides cosines into logits. Lower values put more weight on the hardest negatives",
    )
    log_q: bool = Field(
        default=False,
        description="Correct for frequent items being frequent negatives (logQ correction); softmax only. Try it "
        "where a few items answer most queries",
    )
    matryoshka: tuple[PositiveInt, ...] = Field(
        default=(),
        description="Shorter dimensions trained beside the full one, so that vectors can be cut. Costs some recall "
        "at full length; set it only to save memory in an index",
    )
    hard_negatives: int = Field(
        default=0,
        ge=0,
        description="Hard negatives per pair, mined with the model as it trains. Try 1 to 4 with many queries; on "
        "small data they brought nothing",
    )
    negative_window: tuple[int, int] = Field(
        default=(10, 100),
        description="Ranks that hard negatives are drawn from, first (inclusive) to last (exclusive). Move it down "
        "the ranking if many unjudged items are relevant",
    )
    negative_margin: float | None = Field(
        default=0.0,
        description="A hard negative has to score below its positive's cosine minus this, or it is taken for "
        "relevant. None: no such filter",
    )
    negative_pool: PositiveInt = Field(
        default=10_000,
        description="Random items among which hard negatives are mined, redrawn each round. Larger finds harder ones "
        "and takes longer",
    )
    mining_rounds: PositiveInt = Field(
        default=2, description="Times that hard negatives are mined, evenly spread over training"
    )
    distil: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the loss that learns the teacher's score margins over the hard negatives; 0: none. "
        "Needs `hard_negatives` and `ranking.teacher`",
    )
    typos: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="Probability that a training query is misspelt, which makes search robust to typing errors. "
        "Lower it for codes and other queries in which every letter counts",
    )
    word_drop: float = Field(default=0.1, ge=0, le=1, description="Probability that a training query loses a word")
    field_loss: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Probability that each field of an item's text but its title is dropped in training. Raise it "
        "where many live items lack a brand or a description",
    )
    max_tokens: PositiveInt = Field(
        default=64,
        description="Tokens of a text that training reads; serving reads up to the model's own limit. Raise it for "
        "long descriptions; the time of a step grows with it",
    )
    patience: PositiveInt = Field(
        default=3, description="Validations in a row without a better recall after which training stops"
    )
    trim_vocabulary: bool = Field(
        default=True,
        description="Leave out of a vocabulary of more than 100,000 pieces, as multilingual models have, what neither "
        "the shop's texts nor everyday language use: smaller and quicker, and known texts are read as before",
    )
    freeze_word_embeddings: bool = Field(
        default=True,
        description="Keep the embeddings of words as pretrained. Switch it off, with many queries, if the vocabulary "
        "of the shop is far from everyday language",
    )

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        first, last = self.negative_window
        if not 0 <= first < last:
            raise ValueError(
                f"negative_window {first}, {last} holds no rank; give two numbers from 0, the first smaller"
            )
        if self.hard_negatives > last - first:
            raise ValueError(
                f"hard_negatives {self.hard_negatives} are more than negative_window's {last - first} ranks; widen it"
            )
        if self.loss == "mse" and self.hard_negatives:
            raise ValueError("loss mse has no negatives; set hard_negatives to 0")
        if self.log_q and self.loss != "softmax":
            raise ValueError(f"log_q corrects a softmax, and the loss is {self.loss}; set log_q to false")
        if self.distil and not self.hard_negatives:
            raise ValueError("distil needs hard_negatives; set them to 1 or more, or distil to 0")
        return self


class HistoryConfig(Settings):
    """The history model and the item head, trained together on fixed text vectors. Needs events."""

    dim: int | None = Field(
        default=None,
        gt=0,
        description="Content dimensions of item and user vectors. None: 128 without search, else those of the text "
        "encoder. Fewer save memory",
    )
    width: PositiveInt = Field(
        default=128, description="Hidden size of the transformer that reads item content. A multiple of `heads`"
    )
    identity: int = Field(
        default=128,
        ge=0,
        description="Dimensions of the free vector of each known item, read by a transformer of its own; 0: none. "
        "Set it to 0 where most items are new",
    )
    identity_weight: float | None = Field(
        default=None,
        ge=0,
        description="Weight of the identity logits beside the content logits. None: fitted on tower_valid",
    )
    linear: int = Field(
        default=512,
        ge=0,
        description="Rank of the item-to-item regression in closed form; 0: none. It adds as many numbers to each "
        "vector and was the largest single gain on Amazon Beauty",
    )
    layers: PositiveInt = Field(
        default=1, description="Transformer blocks. A second one brought nothing on Amazon Beauty"
    )
    heads: PositiveInt = Field(
        default=2, description="Attention heads of the content transformer; the identity transformer has one"
    )
    gated: bool = Field(
        default=True, description="LiGR blocks: gated residuals and SwiGLU. Off: plain pre-norm transformer blocks"
    )
    features: bool = Field(default=True, description="Learn vectors of price, category and brand beside the text")
    bias: bool = Field(
        default=True, description="Learn a bias per item, which holds the popularity that a cosine cannot express"
    )
    longest: PositiveInt = Field(
        default=50,
        le=1000,
        description="Newest events of a history that are read. Raise it for shoppers with long histories; the time "
        "of a request grows with it",
    )
    target_weights: dict[str, float] = Field(
        default_factory=dict,
        description="Weights of the kinds of events to predict, such as `{purchase = 1.0, cart = 0.3}`. Empty: the "
        "split's target events, each 1. Add weaker kinds where purchases are few",
    )
    loss: Literal["softmax", "bce"] = Field(
        default="softmax",
        description="Loss over the candidates of a step. Binary cross-entropy was far behind the softmax",
    )
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="Dropout in the transformers. Try less with millions of events"
    )
    event_drop: float = Field(
        default=0.2, ge=0, lt=1, description="Share of the past events that are hidden at random in each step"
    )
    residual: bool | None = Field(
        default=None,
        description="Learn a content residual per known item. None: only without queries, because queries, which "
        "read the text alone, find such items less well",
    )
    residual_drop: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of items whose residual is dropped in each step, so that vectors from text alone stay "
        "good. Raise it where many items are new",
    )
    temperature: float = Field(
        default=0.07, gt=0, description="Initial temperature of the content logits; it is learned from there"
    )
    learning_rate: float = Field(default=2e-3, gt=0, description="Peak learning rate of AdamW")
    weight_decay: float = Field(default=0.1, ge=0, description="Weight decay of matrices; biases have none")
    warmup: float = Field(
        default=0.03, ge=0, lt=1, description="Share of the steps in which the learning rate rises from 0 to its peak"
    )
    epochs: int | None = Field(
        default=None,
        ge=0,
        description="Passes over the histories at most. None: derived from the number of events and the budget",
    )
    batch_positions: PositiveInt = Field(
        default=1536, description="Events in a batch, over all its histories. Smaller batches cost the head of the list"
    )
    full_softmax_items: int = Field(
        default=5_000,
        ge=0,
        description="Catalogues up to this size are scored as a whole in each step, larger ones by a sample",
    )
    uniform_negatives: PositiveInt = Field(
        default=2048,
        description="Random items scored in each step of a sampled catalogue. More is slower and closer to exact",
    )
    log_q: bool = Field(
        default=True,
        description="Correct sampled candidates for how often each item is drawn (logQ correction). Off favours the "
        "head of the list over the whole shortlist",
    )
    hard_negatives: int = Field(
        default=0,
        ge=0,
        description="Hard negatives per target, drawn from its nearest items; sampled catalogues only. Try 4 where "
        "recall far down the list matters",
    )
    negative_window: tuple[int, int] = Field(
        default=(1, 50), description="Ranks that hard negatives are drawn from, first (inclusive) to last (exclusive)"
    )
    query_weight: float = Field(
        default=0.5,
        ge=0,
        description="Weight of the loss of query and item pairs, where there are queries. Raise it if search matters "
        "more than recommendation",
    )
    evaluations: PositiveInt = Field(default=10, description="Validations over a run, each followed by a checkpoint")
    patience: PositiveInt = Field(
        default=3, description="Validations in a row without a better recall after which training stops"
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}; change one of them")
        return self

    @model_validator(mode="after")
    def _weights_are_above_zero(self) -> Self:
        if any(weight <= 0 for weight in self.target_weights.values()):
            raise ValueError("target_weights have to be above 0; leave out the kinds that are not to be learned")
        return self

    @model_validator(mode="after")
    def _window_holds_ranks(self) -> Self:
        if not 0 <= self.negative_window[0] < self.negative_window[1]:
            raise ValueError(
                f"negative_window {self.negative_window} holds no rank; give two numbers from 0, the first smaller"
            )
        return self


class RetrievalConfig(Settings):
    """Both towers: precision and seed; see the groups below for their parts."""

    text: TextConfig = Field(default=TextConfig(), description="Fine-tuning of the text encoder")
    history: HistoryConfig = Field(default=HistoryConfig(), description="The history model and the item head")
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        default="auto",
        description="Numbers in which the catalogue's texts are embedded. auto: bf16 where the hardware has it, else "
        "fp32. int8: faster on CPUs with int8 instructions, at a small loss",
    )
    seed: int = Field(
        default=1, ge=0, description="Seed of everything random in training; another one shows how much chance decides"
    )
