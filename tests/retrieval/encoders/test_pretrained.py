"""Where a pretrained model comes from."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from retrieval.encoders import pretrained
from retrieval.encoders.pretrained import pretrained_source
from retrieval.errors import CorruptBundle
from retrieval.settings import PRETRAINED


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package of that kind, whose weights are those expected."""
    model = tmp_path / "site" / "some_offline_model" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("")
    (model / "model.safetensors").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(pretrained, "OFFLINE_PACKAGE", "some_offline_model")
    monkeypatch.setattr(pretrained, "OFFLINE_SHA256", hashlib.sha256(b"weights").hexdigest())
    return model


def test_the_default_model_comes_from_its_package(package: Path) -> None:
    assert pretrained_source(PRETRAINED) == str(package)
    assert "some_offline_model" not in sys.modules  # found, not imported


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
    monkeypatch.setattr(pretrained, "OFFLINE_PACKAGE", "no_such_package_anywhere")
    assert pretrained_source(PRETRAINED) == PRETRAINED


def test_another_model_and_a_folder_are_taken_as_they_are(package: Path, tmp_path: Path) -> None:
    assert pretrained_source("someone/other-model") == "someone/other-model"
    assert pretrained_source(str(tmp_path)) == str(tmp_path)


def test_a_folder_of_the_default_models_name_goes_first(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / PRETRAINED).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert pretrained_source(PRETRAINED) == PRETRAINED
