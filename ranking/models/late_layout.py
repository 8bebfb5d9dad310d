"""What the late-interaction network and its serving agree on: positions, widths and scales. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from retrieval.encoders.text_encoder import max_tokens, read_json

ITEM_POSITION = 16  # position id of an item's first token: about where it would stand behind a query
TOKEN_WIDTH = 128  # dimensions of a token's vector
HEAD_FEATURES, HEAD_HIDDEN = 5, 16  # inputs and hidden units of the head
SIMILARITY_SCALE = 10.0  # multiplies the head's inputs, which differ by tenths
INT8_SCALE = 127.0  # a stored component is this times the float one, rounded


def text_tokens(folder: Path) -> int:
    """The most tokens of one text, special tokens included, that the model in `folder` reads."""
    longest, positions = max_tokens(folder), read_json(folder / "config.json").get("max_position_embeddings")
    return min(longest, positions - ITEM_POSITION) if isinstance(positions, int) else longest
