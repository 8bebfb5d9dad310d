"""The file of whole numbers beside a model: whether it is there, and of this version. See `retrieval.quantise`."""

from __future__ import annotations

from pathlib import Path

from retrieval.errors import BadBundle

INT8, INT8_LAYOUT = "int8.safetensors", "2"


def holds_int8(folder: Path) -> bool:
    """Whether a model's folder holds whole numbers as this version reads them."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / INT8, "numpy") as opened:
            return (opened.metadata() or {}).get("layout") == INT8_LAYOUT
    except (OSError, SafetensorError):
        return False


def require_int8(folder: Path) -> None:
    """Raises BadBundle where a model's folder holds no whole numbers, or those that an earlier version made."""
    if not holds_int8(folder):
        earlier = (folder / INT8).exists()
        what = f"{folder / INT8} is of an earlier version" if earlier else f"{folder} holds no {INT8}"
        raise BadBundle(f"{what}, so that it cannot run in int8; train or adopt the model again")
