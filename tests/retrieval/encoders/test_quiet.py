"""Libraries' log lines and bars: silent inside the block, as before outside of it."""

from __future__ import annotations

import logging

from transformers.utils import logging as transformers_logging

from retrieval.encoders.quiet import quiet_libraries


def test_libraries_are_quiet_inside_and_as_before_outside() -> None:
    before, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    with quiet_libraries():
        assert transformers_logging.get_verbosity() == logging.ERROR
        assert not transformers_logging.is_progress_bar_enabled()
        assert logging.getLogger("sentence_transformers").level == logging.ERROR
    assert transformers_logging.get_verbosity() == before
    assert transformers_logging.is_progress_bar_enabled() == bars  # off from the start where the environment says so
    assert logging.getLogger("sentence_transformers").level != logging.ERROR
