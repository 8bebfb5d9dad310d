"""`python -m benchmarks COMMAND`: the same as `shortlist bench COMMAND`."""

from __future__ import annotations

from benchmarks.cli.app import bench
from serving.cli.command_group import quiet

if __name__ == "__main__":
    quiet(debug=False)
    bench(prog_name="shortlist bench")
