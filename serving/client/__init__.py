"""A typed client of the server, whose answers are the engine's own types: `Client`, and `AsyncClient` for asyncio.

It needs httpx: `pip install 'shortlist[client]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retrieval.lazy import exports

if TYPE_CHECKING:
    from serving.client.asynchronous import AsyncClient as AsyncClient
    from serving.client.errors import ServerError as ServerError
    from serving.client.results import CheckedRules as CheckedRules
    from serving.client.results import Moved as Moved
    from serving.client.results import Releases as Releases
    from serving.client.results import RulesInForce as RulesInForce
    from serving.client.results import Updated as Updated
    from serving.client.synchronous import Client as Client

    __version__: str

_MODULES = {
    "serving.client.asynchronous": "AsyncClient",
    "serving.client.errors": "ServerError",
    "serving.client.results": "CheckedRules Moved Releases RulesInForce Updated",
    "serving.client.synchronous": "Client",
}
__all__ = [
    "AsyncClient",
    "CheckedRules",
    "Client",
    "Moved",
    "Releases",
    "RulesInForce",
    "ServerError",
    "Updated",
]
__getattr__, __dir__ = exports(__name__, _MODULES)
