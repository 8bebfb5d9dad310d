"""What a server allows, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

from retrieval.encoders.runtime import available_cores
from retrieval.errors import BadConfig

LOOPBACK_NAME = "localhost"
RUNNING_PER_CORE = 2  # with more at once each takes longer, and fewer are answered


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How large and how many requests may be.

    `body_bytes` of one request; `k` items, `history` events and `filters` conditions of one; `batch` requests, `events`
    or `items` of one call. `running` requests are answered at once by a worker, by default RUNNING_PER_CORE for each
    core, `waiting` wait for that; more are told to come again.
    `timeout_s` seconds are the longest time from the first byte of a request to its answer, and what a caller has to
    send a request in. What changes the bundle may take `change_timeout_s`: they run one after the other.
    `connections` may be open at a worker, and the head of a request may have `head_bytes`.
    """

    body_bytes: int = 2**20
    k: int = 1_000
    history: int = 1_000
    filters: int = 100
    batch: int = 100
    events: int = 1_000
    items: int = 1_000
    running: int = field(default_factory=lambda: RUNNING_PER_CORE * available_cores())
    waiting: int = 64
    timeout_s: float = 10.0
    change_timeout_s: float = 600.0
    connections: int = 4_096
    head_bytes: int = 2**16

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise BadConfig(f"{name} is {value!r}; give a number above 0")


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach a host.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("127.0.0.1.example.org")
    (True, True, False, False)
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == LOOPBACK_NAME
