"""`python -m benchmarks COMMAND`: the same as `shortlist bench COMMAND`."""

from __future__ import annotations

from benchmarks.cli import bench
from serving.commands import quiet

if __name__ == "__main__":
    quiet(debug=False)
    bench(prog_name="shortlist bench")
