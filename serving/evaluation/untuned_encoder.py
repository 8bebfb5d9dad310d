"""The pretrained encoder before any training: a baseline of every evaluation, and what cross-fitting starts from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexing.bundle.atomic_files import write_array
from indexing.bundle.bundle import Bundle
from retrieval.encoders.text_encoder import TextEncoder, open_sentence_transformer
from retrieval.fingerprint import fingerprint
from retrieval.text.rendering import item_texts
from retrieval.text.text_model import text_model_for
from serving.settings import RunSettings
from serving.shop import Shop

if TYPE_CHECKING:
    from retrieval.training.towers import TextPart

VECTORS = "vectors.npy"


def untuned_text(shop: Shop, bundle: Bundle | None, config: RunSettings, *, device: str, work: Path) -> TextPart:
    """The encoder in sentence-transformers' layout below `work`, and its vectors of the catalogue.

    The vectors are taken from the bundle's derived files, if there is one and `keep_untuned` has put them there, or
    from `work`, if they were made there before.
    """
    from retrieval.training.towers import TextPart, embed_catalogue

    folder, made = work / "untuned", work / untuned_name(shop, config)
    if not folder.exists():
        beside = folder.with_suffix(".part")
        shutil.rmtree(beside, ignore_errors=True)
        model = open_sentence_transformer(pretrained_name(shop, config))
        model.save(str(beside), create_model_card=False)
        beside.rename(folder)
    kept = (None if bundle is None else bundle.runtime(made.name)) or made
    if (kept / VECTORS).exists():
        return TextPart(folder, TextEncoder.load(folder, device=device), np.load(kept / VECTORS))
    wanted = config.retrieval.precision
    part = embed_catalogue(shop.data, folder, "auto" if wanted == "int8" else wanted, device)  # nothing is calibrated
    made.mkdir(exist_ok=True)
    write_array(made / f"part-{VECTORS}", part.vectors)
    (made / f"part-{VECTORS}").rename(made / VECTORS)
    return part


def keep_untuned(shop: Shop, bundle: Bundle, config: RunSettings, *, work: Path) -> None:
    """Keeps the vectors of the catalogue with the bundle's derived files, so that an evaluation need not make them."""
    made = work / untuned_name(shop, config)
    if made.exists() and bundle.runtime(made.name) is None:
        with bundle.stage("runtime") as folder:
            (made / VECTORS).rename(folder / VECTORS)
            bundle.keep_runtime(made.name, folder)


def untuned_name(shop: Shop, config: RunSettings) -> str:
    """Changes with the model, the items' texts and their order."""
    return f"untuned-{fingerprint(pretrained_name(shop, config), item_texts(shop.data.items))}"


def pretrained_name(shop: Shop, config: RunSettings) -> str:
    """The text model that the settings name, or that fits the shop's language."""
    return text_model_for(config.retrieval.text.model, shop.data.language).model
