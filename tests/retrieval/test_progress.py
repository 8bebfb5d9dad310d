"""The progress bar counts, rates and stays off stdout."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from retrieval.progress import ProgressMeter, progress, record_loops


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _silent() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=200), out


def test_off_a_terminal_a_line_comes_every_ten_seconds() -> None:
    console, out = _silent()
    clock = _Clock()
    meter = ProgressMeter(1_000, "training", unit="examples", console=console, clock=clock)
    for _ in range(25):
        clock.now += 1.0
        meter.advance(10, loss=0.5)
    meter.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3  # after 10 s, after 20 s, and the last state
    assert lines[0] == "training: 100/1,000, loss 0.5, 10 examples/s, 1 min 30 s left"
    assert lines[-1].startswith("training: 250/1,000")


def test_a_short_loop_off_a_terminal_prints_nothing() -> None:
    console, out = _silent()
    with progress(10, "embedding", console=console) as advance:
        advance(10)
    assert out.getvalue() == ""


def test_what_was_done_before_does_not_count_into_the_rate() -> None:
    console, _ = _silent()
    clock = _Clock()
    meter = ProgressMeter(100, "training", unit="examples", done=60, console=console, clock=clock)
    clock.now = 2.0
    meter.advance(20)
    assert meter.state() == "10 examples/s, 2 s left"


def test_a_terminal_gets_one_bar_with_the_last_state() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with progress(4, "building", unit="rows", console=console) as advance:
        advance(4, recall=0.75)
    assert "building" in out.getvalue()
    assert "recall 0.75" in out.getvalue()
    assert "100 %" in out.getvalue()


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    clock = _Clock()
    meter = ProgressMeter(10, "embedding", clock=clock)
    clock.now = 11.0
    meter.advance(5)
    meter.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "embedding: 5/10" in captured.err


def test_who_watches_learns_of_every_loop_that_ended_and_when_its_figures_came() -> None:
    console, _ = _silent()
    clock = _Clock()
    with record_loops() as loops:
        meter = ProgressMeter(100, "training", unit="examples", done=20, console=console, clock=clock)
        for step in (1, 2):
            clock.now += 5
            meter.advance(30, recall=0.1 * step)
        assert loops == []
        meter.close()
    (loop,) = loops
    assert (loop.description, loop.unit, loop.done, loop.seconds) == ("training", "examples", 60, 10.0)
    assert loop.figures == [(5.0, {"recall": 0.1}), (10.0, {"recall": 0.2})]
    ProgressMeter(1, "later", console=console, clock=clock).close()
    assert len(loops) == 1
