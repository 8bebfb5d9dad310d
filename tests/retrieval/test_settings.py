"""Settings check themselves."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from retrieval.settings import HistoryConfig, RetrievalConfig, TextConfig


def test_settings_survive_json() -> None:
    config = RetrievalConfig(text=TextConfig(examples=0), history=HistoryConfig(dim=64, epochs=3), precision="bf16")
    assert RetrievalConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"sede": 1}, "sede"),
        ({"precision": "int4"}, "precision"),
        ({"text": {"temperature": 0}}, "temperature"),
        ({"text": {"negative_window": (9, 9)}}, "negative_window 9, 9 holds no rank"),
        ({"text": {"hard_negatives": 4, "negative_window": (2, 5)}}, "more than negative_window's 3 ranks"),
        ({"text": {"loss": "mse", "hard_negatives": 2}}, "loss mse has no negatives"),
        ({"text": {"loss": "bce", "log_q": True}}, "log_q corrects a softmax"),
        ({"text": {"distil": 0.5}}, "distil needs hard_negatives"),
        ({"text": {"typos": 1.5}}, "typos"),
        ({"history": {"dropout": 1.0}}, "dropout"),
        ({"history": {"longest": 0}}, "longest"),
        ({"history": {"width": 30, "heads": 4}}, "width 30 is not a multiple of heads 4"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        RetrievalConfig.model_validate(settings)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        HistoryConfig().width = 64  # type: ignore[misc]


@pytest.mark.parametrize("group", [TextConfig, HistoryConfig, RetrievalConfig])
def test_every_setting_says_what_it_does(group: type[TextConfig | HistoryConfig | RetrievalConfig]) -> None:
    assert [name for name, field in group.model_fields.items() if not field.description] == []
