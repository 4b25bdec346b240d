"""Starts the desk: sockets on this machine, addresses with their tokens, a page in the browser."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from storyforge.desk.app import make_app
from storyforge.desk.guard import Guard, token
from storyforge.desk.studio import Studio
from storyforge.errors import EnvironmentProblem


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the desk is; `looking` changes nothing, `phone` is the same for the network."""

    desk: str
    looking: str
    phone: str | None


def serve(
    story: Path,
    *,
    port: int = 0,
    store: Path | None = None,
    phone: bool = False,
    on_ready: Callable[[Addresses], None],
) -> None:
    """Serve the desk until it is interrupted.

    port      on this machine; 0 for any that is free
    phone     whether others in the same network may look on, with an address of their own
    on_ready  hears where it is

    Raises EnvironmentProblem if the port is taken.
    """
    studio = Studio(story, store=store)
    write, read = token(), token()
    app = make_app(studio)
    with contextlib.closing(studio), _bound("127.0.0.1", port) as own:
        number = own.getsockname()[1]
        hosts = frozenset({f"127.0.0.1:{number}", f"localhost:{number}"})
        servers = [(_server(Guard(app, read, write, hosts)), own)]
        desk = f"http://127.0.0.1:{number}"
        where = Addresses(f"{desk}/{write}/", f"{desk}/{read}/", None)
        with _bound(_network_address(), 0) if phone else contextlib.nullcontext() as other:
            if other is not None:
                host = f"{other.getsockname()[0]}:{other.getsockname()[1]}"
                guard = Guard(app, read, None, frozenset({host}))
                servers.append((_server(guard), other))
                where = Addresses(where.desk, where.looking, f"http://{host}/{read}/")
            asyncio.run(_together(servers, lambda: on_ready(where)))


async def _together(
    servers: list[tuple[uvicorn.Server, socket.socket]], ready: Callable[[], None]
) -> None:
    running = [asyncio.create_task(server.serve([bound])) for server, bound in servers]
    while not all(server.started for server, _ in servers):
        if any(task.done() for task in running):
            break
        await asyncio.sleep(0.02)
    ready()
    await asyncio.gather(*running)


def _server(guard: Guard) -> uvicorn.Server:
    # No access log: addresses hold the token.
    config = uvicorn.Config(
        guard,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError as exc:
        made.close()
        message = f"cannot listen on {host}:{port}: {exc.strerror}"
        raise EnvironmentProblem(message, hint="choose another `--port`") from exc
    with made:
        yield made


def _network_address() -> str:
    """How this machine is called in its network; nothing is sent to find out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        try:
            made.connect(("192.0.2.1", 9))
        except OSError as exc:
            raise EnvironmentProblem("this machine is in no network") from exc
        return str(made.getsockname()[0])
