"""The file of int8 weights in a model's folder, and checks of it; see `retrieval.encoders.int8_layers`."""

from __future__ import annotations

from pathlib import Path

from retrieval.errors import BadBundle

INT8, INT8_LAYOUT = "int8.safetensors", "2"  # file name, and version of its contents


def holds_int8(folder: Path) -> bool:
    """Whether a model's folder has int8 weights in the layout of this version."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / INT8, "numpy") as opened:
            return (opened.metadata() or {}).get("layout") == INT8_LAYOUT
    except (OSError, SafetensorError):
        return False


def require_int8(folder: Path) -> None:
    """Raises BadBundle where a model's folder has no int8 weights, or those of an earlier version."""
    if not holds_int8(folder):
        earlier = (folder / INT8).exists()
        what = f"{folder / INT8} is of an earlier version" if earlier else f"{folder} holds no {INT8}"
        raise BadBundle(f"{what}, so that it cannot run in int8; train or adopt the model again")
