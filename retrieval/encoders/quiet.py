"""Silence for the log lines and progress bars of transformers and sentence-transformers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as transformers_logging


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence warnings and progress bars of transformers and sentence-transformers meanwhile; errors are shown."""
    library: Any = transformers_logging  # its switches carry no types
    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    ours = logging.getLogger("sentence_transformers")
    level = ours.level
    library.set_verbosity_error()
    library.disable_progress_bar()
    ours.setLevel(logging.ERROR)
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        ours.setLevel(level)
        if bars:
            library.enable_progress_bar()
