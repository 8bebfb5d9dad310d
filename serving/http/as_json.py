"""Values as JSON that every reader takes: times as ISO 8601, and null for a number that is none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date
from typing import Any


def as_json(value: object) -> bytes:
    """
    >>> as_json({"price": float("nan"), "added": date(2026, 1, 31)})
    b'{"price": null, "added": "2026-01-31"}'
    """
    try:
        return json.dumps(value, allow_nan=False, default=_told).encode()
    except ValueError:  # there is a NaN or an infinity
        return json.dumps(_finite(value), allow_nan=False, default=_told).encode()


def _told(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)  # a datetime is a date


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value
