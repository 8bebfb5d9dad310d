"""A shop to train towers on, and towers that are random: what several files of this room test.

What is heavy is imported where it is used: most files need none of it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from retrieval.data.dataset import DataSet
from retrieval.data.split import EventSplit, split_events
from retrieval.topk import Vectors

if TYPE_CHECKING:
    from retrieval.towers.sequence_model import HistoryModel, ItemHead
    from retrieval.towers.serving import Towers
    from retrieval.training.towers import TextPart


@pytest.fixture(scope="session")
def shop(load_shop: Callable[..., DataSet]) -> DataSet:
    """Where each shopper walks around one group of items."""
    from walks import ITEMS, walks

    return load_shop(items=ITEMS, events=walks())


@pytest.fixture(scope="session")
def split(shop: DataSet) -> EventSplit:
    return split_events(shop)


@pytest.fixture(scope="session")
def untuned(tiny_encoder_folder: Path, shop: DataSet) -> TextPart:
    """The encoder as it is, taken as a text encoder by trainings that are about something else."""
    from retrieval.encoders.text_encoder import TextEncoder
    from retrieval.text.rendering import item_texts
    from retrieval.training.towers import TextPart

    encoder = TextEncoder.load(tiny_encoder_folder, runtime="torch", device="cpu")
    return TextPart(tiny_encoder_folder, encoder, encoder.encode(item_texts(shop.items)))


@pytest.fixture(scope="session")
def head() -> ItemHead:
    from random_towers import random_head

    return random_head()


@pytest.fixture(scope="session")
def model() -> HistoryModel:
    from random_towers import random_model

    return random_model()


@pytest.fixture(scope="session")
def folder(
    head: ItemHead, model: HistoryModel, tiny_encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What a training leaves."""
    from safetensors.torch import save_file

    from random_towers import CONFIG, FACTORS
    from retrieval.towers.serving import HEAD, HISTORY, TEXT, write_config

    made = tmp_path_factory.mktemp("towers")
    shutil.copytree(tiny_encoder_folder, made / TEXT)
    save_file(head.state_dict() | FACTORS, made / HEAD)
    save_file(model.state_dict(), made / HISTORY)
    write_config(made, CONFIG)
    return made


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(scope="session")
def towers(folder: Path, graphs: Path) -> Towers:
    from retrieval.towers.serving import Towers

    return Towers.open(folder, device="cpu", cache=graphs)


@pytest.fixture(scope="session")
def text_vectors(towers: Towers) -> Vectors:
    from random_towers import ITEMS

    return towers.encode_items(ITEMS["title"].to_pylist())


@pytest.fixture(scope="session")
def item_vectors(towers: Towers, text_vectors: Vectors) -> Vectors:
    from random_towers import ITEMS

    return towers.item.vectors(text_vectors, ITEMS)
