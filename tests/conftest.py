"""What stands in for models and shops: a two-layer random BERT with its tokenizer, and events told in a line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings

from made_once import made_once
from retrieval.data.dataset import DataSet, load
from retrieval.data.events import Events

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # a test file may import openvino first

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (  # one blank between any two
    "red blue green large small steel wood mug drill saw hammer oil mask hair care lamp chair table cordless argan "
    "kitchen garden tool price to over under | ; , . a b c d e f g h i j k l m n o p q r s t u v w x y z "
    "##a ##e ##s ##r ##ing ##ed 0 1 2 3 4 5 6 7 8 9"
)
HOUR = 3_600_000_000  # microseconds
Step: TypeAlias = tuple[int, ...]  # item, kind, hours since the event before, and if any: query or -1, basket or -1


def save_tiny_bert(folder: Path, *, seed: int = 0) -> Path:
    """Write a random two-layer BERT of width 32 with its tokenizer to `folder`, in transformers' layout."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS.split()))}
    tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=64)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def without_fast_bf16() -> Iterator[Callable[[], bool]]:
    """`auto` is float32 on every CPU alike, so that figures do not depend on the machine that tests. Gives what says
    whether this one has bfloat16."""
    from retrieval.encoders import runtime

    with pytest.MonkeyPatch.context() as patch:
        has_it = runtime.has_fast_bf16
        patch.setattr(runtime, "has_fast_bf16", lambda: False)
        yield has_it


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Tiny matrices gain nothing from a second thread, and lose much where the machine is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained-looking encoder: what a training starts from."""
    return made_once(tmp_path_factory, "tiny-bert", save_tiny_bert)


@pytest.fixture(scope="session")
def tiny_encoder_folder(tiny_bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with mean pooling, saved by sentence-transformers."""

    def save(folder: Path) -> None:
        from sentence_transformers import SentenceTransformer

        SentenceTransformer(str(tiny_bert_folder), device="cpu").save_pretrained(str(folder), create_model_card=False)

    return made_once(tmp_path_factory, "tiny-encoder", save)


@pytest.fixture(scope="session")
def tiny_ranker_folder(tiny_bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with a random head, saved by sentence-transformers."""

    def save(folder: Path) -> None:
        import torch
        from sentence_transformers import CrossEncoder

        with torch.random.fork_rng():
            torch.manual_seed(1)
            CrossEncoder(str(tiny_bert_folder), num_labels=1, device="cpu").save_pretrained(str(folder))

    return made_once(tmp_path_factory, "tiny-ranker", save)


@pytest.fixture(scope="session")
def make_events() -> Callable[[Sequence[Sequence[Step]]], Events]:
    """Events out of one list of steps a user; kinds 0 and 1 are purchase and view."""
    return events_of


def events_of(users: Sequence[Sequence[Step]]) -> Events:
    """See `Step`; a user's first event lies its own hours after 1970 began."""
    flat = [(user, *step, *(-1, -1)[len(step) - 3 :]) for user, steps in enumerate(users) for step in steps]
    columns = np.array(flat, np.int64).reshape(len(flat), 6)
    times = [np.cumsum([step[2] for step in steps]) for steps in users if steps]
    return Events(
        user=columns[:, 0].astype(np.int32),
        item=columns[:, 1].astype(np.int32),
        kind=columns[:, 2].astype(np.int16),
        time=(np.concatenate(times) if times else np.empty(0)).astype(np.int64) * HOUR,
        query=columns[:, 4].astype(np.int32),
        basket=columns[:, 5].astype(np.int32),
        quantity=np.ones(len(flat), np.float32),
        price=np.full(len(flat), np.nan, np.float32),
        rating=np.full(len(flat), np.nan, np.float32),
        offsets=np.concatenate(([0], np.cumsum([len(steps) for steps in users]))).astype(np.int64),
        kinds=("purchase", "view"),
        query_texts=tuple(f"red mug {code}" for code in range(int(columns[:, 4].max(initial=-1)) + 1)),
    )


@pytest.fixture(scope="session")
def load_shop(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., DataSet]:
    """A data set out of columns by file, written as parquet and read: `load_shop(items={...}, events={...})`."""

    def loaded(**files: Mapping[str, Sequence[object] | pa.Array]) -> DataSet:
        folder = tmp_path_factory.mktemp("shop")
        for name, columns in files.items():
            pq.write_table(pa.table(dict(columns)), folder / f"{name}.parquet")
        return load(folder, now=datetime(2026, 1, 1, tzinfo=UTC), require_interactions=False)

    return loaded
