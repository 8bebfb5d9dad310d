"""A progress bar for the trainers of transformers and sentence-transformers: loss, rate and time left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from retrieval.progress import ProgressMeter

if TYPE_CHECKING:
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

SHOWN = ("loss", "learning_rate")  # logged figures that are shown, beside those of an evaluator


class TrainingProgress(TrainerCallback):
    """Shows a training run as one bar on stderr, or as a line every ten seconds where that is no terminal.

    `examples_per_row` is the number of examples in one row of the training set (a group of pairs holds several). A
    resumed run starts at the share it had reached.
    """

    def __init__(self, description: str, *, examples_per_row: float = 1.0, console: Console | None = None) -> None:
        self._description, self._per_row, self._console = description, examples_per_row, console
        self._meter: ProgressMeter | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Open the bar."""
        step = self._examples_per_step(args)
        self._meter = ProgressMeter(
            round(state.max_steps * step),
            self._description,
            unit="examples",
            done=round(state.global_step * step),
            console=self._console,
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Advance by one optimiser step."""
        if self._meter is not None:
            self._meter.advance(round(state.global_step * self._examples_per_step(args)) - self._meter.done)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Show the loss and the validation figures beside the bar."""
        if self._meter is None or logs is None or "train_runtime" in logs:
            return
        shown = {
            name: float(value)
            for name, value in logs.items()
            if name in SHOWN or (name.startswith("eval_") and name.rpartition("@")[1])
        }
        self._meter.advance(0, **shown)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar; may be called twice, and has to be called where training ends with an error."""
        if self._meter is not None:
            self._meter.close()
            self._meter = None

    def _examples_per_step(self, args: TrainingArguments) -> float:
        rows = args.train_batch_size * args.gradient_accumulation_steps * max(1, args.world_size)
        return float(rows * self._per_row)


def show_training(trainer: Trainer, shown: TrainingProgress) -> None:
    """Replace the trainer's own progress bar, and its printing of logs to stdout, by `shown`."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(shown)
