"""A machine on which int8 serves, whatever this one has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from retrieval.training import towers
from serving.fitting import train_ranker


@contextmanager
def as_where_int8_serves() -> Iterator[None]:
    """Trains encoders and rankers with an int8 calibration, as for a large catalogue on a machine with int8
    instructions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(towers, "INT8_ITEMS", 0)
        patch.setattr(train_ranker, "serves_int8", lambda _: True)
        yield
