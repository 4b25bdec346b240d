"""Who may speak to the desk: whoever has the address with its token, from the page itself.

Refused are other hosts' names for this machine (DNS rebinding), other sites' pages (their requests
carry an `Origin`), and whoever does not know the token. One with the second token may only look.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST: Final = 40_000_000
"""Bytes of a request: a retouched picture is the largest thing that is sent."""

_LOOKING: Final = frozenset({"/api/book"})
"""What is asked by POST and changes nothing."""

_HEADERS: Final = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"x-frame-options": b"DENY",
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
"""Of every answer; the page itself brings its own policy."""


def token() -> str:
    """A word that nobody guesses."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class Guard:
    """Stands before the app.

    write, read   the tokens; one without `write` lets nobody change anything
    hosts         how this server is called, with its port
    """

    app: ASGIApp
    read: str
    write: str | None
    hosts: frozenset[str] = field(default_factory=frozenset)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what is allowed, with the token taken off the path."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        word, _, rest = scope["path"].removeprefix("/").partition("/")
        may_write = self.write is not None and _equal(word, self.write)
        reason = self._reason(scope["method"], f"/{rest}", headers, may_write=may_write)
        if reason is None and not may_write and not _equal(word, self.read):
            reason = "this address lacks its token; use the one that `storyforge desk` printed"
        answer = _with_headers(send)
        if reason is not None:
            await PlainTextResponse(reason, status_code=403)(scope, receive, answer)
            return
        inner = {**scope, "root_path": f"/{word}", "may_write": may_write}
        if _said_length(headers) > _MOST:
            await _too_large(scope, receive, answer)
            return
        body = _Body(receive)
        begun = False

        async def heard(message: Message) -> None:
            """Answer, unless the request has turned out to be too large."""
            nonlocal begun
            if not body.too_large:
                begun = True
                await answer(message)

        with suppress(ClientDisconnect):
            await self.app(inner, body.part, heard)
        if body.too_large and not begun:
            await _too_large(scope, receive, answer)

    def _reason(
        self, method: str, path: str, headers: Mapping[bytes, str], *, may_write: bool
    ) -> str | None:
        """Why a request is refused, whatever its token; None if it is not."""
        if headers.get(b"host", "") not in self.hosts:
            return "this is not how the desk is called"
        origin = headers.get(b"origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.hosts}:
            return "another site's page may not ask the desk"
        site, mode = headers.get(b"sec-fetch-site"), headers.get(b"sec-fetch-mode")
        if site not in {None, "same-origin", "none"} and mode != "navigate":
            return "another site's page may not ask the desk"
        if method in {"GET", "HEAD"}:
            return None
        if origin is None:
            return "changes are asked for by the desk's own page"
        if not may_write and path not in _LOOKING:
            return "this address is for looking on"
        return None


def _equal(word: str, known: str) -> bool:
    return secrets.compare_digest(word.encode(), known.encode())


def _with_headers(send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message["headers"]}
            more = [pair for pair in _HEADERS.items() if pair[0] not in there]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return answer


def _said_length(headers: Mapping[bytes, str]) -> int:
    said = headers.get(b"content-length", "")
    return int(said[:20]) if said.isascii() and said.isdigit() else 0


async def _too_large(scope: Scope, receive: Receive, answer: Send) -> None:
    reason = f"a request has at most {_MOST // 1_000_000} MB"
    await PlainTextResponse(reason, status_code=413)(scope, receive, answer)


@dataclass(slots=True)
class _Body:
    """A request's body, which ends where it becomes too large."""

    receive: Receive
    taken: int = 0

    @property
    def too_large(self) -> bool:
        """Whether it was cut."""
        return self.taken > _MOST

    async def part(self) -> Message:
        """What comes next of it."""
        message = await self.receive()
        self.taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.too_large else message
