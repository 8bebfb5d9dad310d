"""The random BERT of the tests as a cross-encoder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_ranker_folder(tiny_bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with a random head, saved by sentence-transformers."""
    import torch
    from sentence_transformers import CrossEncoder

    folder = tmp_path_factory.mktemp("ranker") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        CrossEncoder(str(tiny_bert_folder), num_labels=1, device="cpu").save_pretrained(str(folder))
    return folder
