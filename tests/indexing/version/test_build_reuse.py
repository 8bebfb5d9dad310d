"""What a build of an index version takes over instead of embedding it again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from index_builds import Encoder, N, build, catalogue, with_price
from indexing.bundle.bundle import Bundle
from indexing.version.embedding_cache import TextSource
from indexing.version.hash_index import hash_keys
from indexing.version.index_version import IndexVersion
from retrieval.topk import Vectors

pytestmark = pytest.mark.usefixtures("small_parts")


def test_unchanged_texts_are_not_embedded_again_whatever_became_of_their_prices(bundle: Bundle) -> None:
    before = IndexVersion.open(build(bundle).path)
    items, texts = catalogue(price=9.0)
    order = np.random.default_rng(0).permutation(N)
    items, texts = items.take(pa.array(order)), [texts[i] for i in order]
    texts[5], texts[200] = "a new title", "another one"
    encoder = Encoder()
    built = build(bundle, encoder, items=items, texts=texts, previous=before)
    assert encoder.read == ["a new title", "another one"]
    assert built.texts == (N - 2, 0, 2)
    version = IndexVersion.open(built.path)
    np.testing.assert_array_equal(version.vectors, with_price(Encoder()(texts), items))


def test_text_vectors_of_another_encoder_are_not_taken_over(bundle: Bundle) -> None:
    before = IndexVersion.open(build(bundle).path)
    encoder = Encoder()
    built = build(bundle, encoder, text_encoder="another", previous=before)
    assert len(encoder.read) == built.texts.embedded == N


def test_a_build_of_the_same_things_is_the_same_version_and_embeds_nothing(bundle: Bundle) -> None:
    first = build(bundle)
    encoder = Encoder()
    again = build(bundle, encoder, previous=IndexVersion.open(first.path))
    assert encoder.read == []
    assert (again.name, again.path, again.texts.embedded) == (first.name, first.path, 0)
    assert build(bundle, towers="t2").name != first.name


def test_unchanged_files_of_the_previous_version_are_hard_links(bundle: Bundle) -> None:
    first = build(bundle)
    items, _ = catalogue(price=2.0)
    second = build(bundle, items=items, previous=IndexVersion.open(first.path))
    linked = {
        path.name for path in first.path.iterdir() if path.stat().st_ino == (second.path / path.name).stat().st_ino
    }
    assert linked == {"text_vectors.npy", "text_hashes.npy", "id_hashes.npy", "id_first.npy", "id_rows.npy"}


class Killed(Encoder):
    """An encoder that is killed when it is to read more than so many texts."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def __call__(self, texts: Sequence[str]) -> Vectors:
        if len(self.read) + len(texts) > self.after:
            raise KeyboardInterrupt
        return super().__call__(texts)


def test_what_a_killed_build_embedded_is_not_embedded_again(bundle: Bundle) -> None:
    items, texts = catalogue()
    killed = Killed(after=260)
    with pytest.raises(KeyboardInterrupt):
        build(bundle, killed)
    assert killed.read == texts[:256]
    encoder = Encoder()
    built = build(bundle, encoder)
    assert encoder.read == texts[256:]
    assert built.texts == (0, 256, N - 256)
    assert str(built.texts) == "0 with vectors reused, 256 embedded by the interrupted job, 44 embedded"
    version = IndexVersion.open(built.path)
    np.testing.assert_array_equal(version.vectors, with_price(Encoder()(texts), items))


def test_parts_of_another_encoder_are_not_gone_on_from(bundle: Bundle) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(bundle, Killed(after=260))
    assert build(bundle, text_encoder="another").texts == (0, 0, N)


def test_items_of_one_text_are_embedded_once(bundle: Bundle) -> None:
    _, texts = catalogue()
    encoder = Encoder()
    built = build(bundle, encoder, texts=[texts[row % 10] for row in range(N)])
    assert encoder.read == texts[:10]
    assert built.texts.embedded == N
    vectors = IndexVersion.open(built.path).text_vectors
    assert vectors is not None
    np.testing.assert_array_equal(vectors, Encoder()([texts[row % 10] for row in range(N)]))


def test_vectors_at_hand_are_taken_over(bundle: Bundle) -> None:
    _, texts = catalogue()
    encoder = Encoder()
    known = TextSource(hash_keys(texts[100:]), Encoder()(texts[100:]))
    assert build(bundle, encoder, sources=[known]).texts == (200, 0, 100)
    assert encoder.read == texts[:100]


def test_text_vectors_with_a_flipped_byte_are_embedded_again(bundle: Bundle) -> None:
    first = build(bundle)
    path = first.path / "text_vectors.npy"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    shutil.rmtree(bundle.path / "work")
    items, _ = catalogue(price=2.0)
    assert build(bundle, items=items, previous=IndexVersion.open(first.path)).texts == (0, 0, N)
