"""`python -m benchmarks.ablation --data DATA`: see `benchmarks.ablation.run`."""

from __future__ import annotations

import typer

from benchmarks.ablation.run import ablate

if __name__ == "__main__":
    typer.run(ablate)
