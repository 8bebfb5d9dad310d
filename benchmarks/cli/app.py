"""`shortlist bench ...`: measurements that record what was measured, on which machine, and how to repeat them.

Every command imports what it needs when it runs, so that `--help` is quick.
"""

from benchmarks.cli import index_commands, model_commands, result_commands, shop_commands
from benchmarks.cli.group import bench

__all__ = ["bench", "index_commands", "model_commands", "result_commands", "shop_commands"]
