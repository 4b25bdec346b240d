"""News for every page that is open: server-sent events, from whatever thread they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Final

_QUIET: Final = 15.0
"""Seconds after which a sign of life is sent: what stands between may drop silent connections."""

_BEHIND: Final = 200
"""Events that wait for a page; one that is further behind asks for everything anew anyway."""


class Bus:
    """The pages that listen."""

    def __init__(self) -> None:
        """Begin with nobody listening."""
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Queue[str]]] = set()

    def tell(self, event: str, content: Mapping[str, object]) -> None:
        """Send news to everybody; may be called from any thread."""
        line = f"event: {event}\ndata: {json.dumps(content)}\n\n"
        for loop, queue in tuple(self._listeners):
            if not loop.is_closed():
                loop.call_soon_threadsafe(_put, queue, line)

    async def listen(self) -> AsyncIterator[str]:
        """Everything from now on."""
        queue: asyncio.Queue[str] = asyncio.Queue(_BEHIND)
        listener = (asyncio.get_running_loop(), queue)
        self._listeners.add(listener)
        try:
            yield "retry: 500\n\n"
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), _QUIET)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self._listeners.discard(listener)


def _put(queue: asyncio.Queue[str], line: str) -> None:
    if not queue.full():
        queue.put_nowait(line)
