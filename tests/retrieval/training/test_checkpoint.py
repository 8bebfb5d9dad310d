"""Checkpoints of a plain training loop, and whose checkpoints a folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retrieval.training.checkpoint import TrainingState, claim, last_checkpoint, load_checkpoint, save_checkpoint


def training(steps: int) -> tuple[torch.nn.Linear, torch.optim.AdamW]:
    """A model after some steps towards a fixed target."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    proceed(model, optimiser, steps)
    return model, optimiser


def proceed(model: torch.nn.Linear, optimiser: torch.optim.Optimizer, steps: int) -> None:
    inputs = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    for _ in range(steps):
        optimiser.zero_grad()
        (model(inputs) - 1).pow(2).mean().backward()
        optimiser.step()


def test_training_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    whole, _ = training(7)
    model, optimiser = training(4)
    kept = {"weight": torch.ones(2, 3)}
    save_checkpoint(tmp_path / "c.safetensors", "run a", model, optimiser, TrainingState(4, 0.125, 2, kept))
    model, optimiser = training(0)
    state = load_checkpoint(tmp_path / "c.safetensors", "run a", model, optimiser)
    assert (state.step, state.best, state.stale) == (4, 0.125, 2)
    assert state.best_weights["weight"].tolist() == kept["weight"].tolist()
    proceed(model, optimiser, 3)
    for left, right in zip(whole.parameters(), model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("fault", ["another run", "torn", "none", "no path"])
def test_without_a_checkpoint_of_this_run_training_begins(tmp_path: Path, fault: str) -> None:
    path = None if fault == "no path" else tmp_path / "sub" / "c.safetensors"
    model, optimiser = training(2)
    if fault != "none":
        run = "another" if fault == "another run" else "run"
        save_checkpoint(path, run, model, optimiser, TrainingState(2, 0.5, 0, {}))
    if fault == "torn" and path is not None:
        path.write_bytes(path.read_bytes()[:40])
    fresh, optimiser = training(0)
    before = fresh.weight.detach().clone()
    assert load_checkpoint(path, "run", fresh, optimiser) == TrainingState()
    assert torch.equal(fresh.weight, before)
    assert not optimiser.state


def test_a_folder_is_cleared_of_what_another_run_left(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    assert not claim(folder, "one")
    (folder / "checkpoint-5").mkdir()
    assert claim(folder, "one")
    assert (folder / "checkpoint-5").exists()
    assert not claim(folder, "two")
    assert not (folder / "checkpoint-5").exists()
    assert claim(folder, "two")


def test_the_last_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-11").mkdir()  # killed while it was written
    (tmp_path / "checkpoint-12").mkdir()
    (tmp_path / "checkpoint-12" / "trainer_state.json").write_text('{"epoch": 1')  # the disk was full
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
