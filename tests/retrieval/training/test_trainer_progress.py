"""A trainer's run as one bar: examples counted, losses shown, nothing on stdout."""

from __future__ import annotations

import io
from types import SimpleNamespace

from rich.console import Console
from transformers import Trainer, TrainingArguments

from retrieval.training.trainer_progress import TrainingProgress, show_training


def _arguments() -> SimpleNamespace:
    return SimpleNamespace(train_batch_size=8, gradient_accumulation_steps=2, world_size=1)


def _console() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=160), out


def test_a_run_is_counted_in_examples_with_its_loss_and_validation() -> None:
    console, out = _console()
    shown = TrainingProgress("ranker", examples_per_row=3, console=console)
    state = SimpleNamespace(max_steps=10, global_step=0)
    shown.on_train_begin(_arguments(), state, None)
    state.global_step = 5
    shown.on_step_end(_arguments(), state, None)
    shown.on_log(_arguments(), state, None, logs={"loss": 0.25, "eval_ndcg@10": 0.5, "eval_runtime": 3.0})
    shown.on_train_end(_arguments(), state, None)
    text = out.getvalue()
    assert "ranker" in text
    assert "50 %" in text
    assert "loss 0.25" in text
    assert "eval_ndcg@10 0.5" in text
    assert "eval_runtime" not in text
    assert "examples/s" in text


def test_a_resumed_run_starts_where_it_stopped() -> None:
    console, out = _console()
    shown = TrainingProgress("ranker", console=console)
    shown.on_train_begin(_arguments(), SimpleNamespace(max_steps=4, global_step=3), None)
    shown.close()
    assert "75 %" in out.getvalue()


def test_events_outside_of_a_run_do_nothing() -> None:
    console, out = _console()
    shown = TrainingProgress("ranker", console=console)
    shown.on_step_end(_arguments(), SimpleNamespace(global_step=1), None)
    shown.on_log(_arguments(), SimpleNamespace(), None, logs={"loss": 1.0})
    shown.close()
    assert out.getvalue() == ""


def test_it_takes_the_place_of_the_trainers_own(tmp_path: object) -> None:
    import torch

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True)
    trainer = Trainer(model=torch.nn.Linear(1, 1), args=arguments)
    shown = TrainingProgress("towers")
    show_training(trainer, shown)
    names = {type(callback).__name__ for callback in trainer.callback_handler.callbacks}
    assert shown in trainer.callback_handler.callbacks
    assert not names & {"PrinterCallback", "ProgressCallback"}
