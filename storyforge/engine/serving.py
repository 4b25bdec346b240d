"""A machine that works for others: Dask's workers, one a GPU, and if asked Dask's scheduler.

Workers come back when their process ends, until the scheduler is gone for good.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from storyforge.engine.opening import START_ERRORS, ClusterSpec, reason_of
from storyforge.engine.token import check_dask, security_of
from storyforge.engine.worker import STORE, gpus
from storyforge.errors import EnvironmentProblem
from storyforge.executor import processors
from storyforge.modelref import DEVICE

Hear = Callable[[str], None]
"""Hears what is going on, in words."""

_PATIENCE: Final = 60
"""Seconds after which a worker gives up whose scheduler does not answer."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What a machine offers.

    spec   whom it works for; the port that it listens on stands there, too
    store  where its workers keep things
    count  workers; None for one a GPU, or one if there is none
    listen  whether the scheduler runs here
    """

    spec: ClusterSpec
    store: Path | None = None
    count: int | None = None
    listen: bool = False


def serve(serving: Serving, hear: Hear) -> None:
    """Work for others until the scheduler is gone, or somebody ends it.

    Raises EnvironmentProblem if no scheduler answers, or the port is taken.
    """
    check_dask()
    serving.spec.check_guarded()
    logging.getLogger("distributed").setLevel(logging.WARNING)
    # Asked before anybody connects: whoever loads torch does not answer for seconds.
    cards = gpus()
    count = serving.count or max(1, cards)
    options = [_options(number, count, cards, serving.store) for number in range(count)]
    try:
        asyncio.run(_served(serving, options, hear))
    except START_ERRORS as exc:
        message = f"cannot work at `{serving.spec.where}`: {reason_of(exc)}"
        hint = (
            "name a free port"
            if serving.listen
            else "is the scheduler there, and the token its own?"
        )
        raise EnvironmentProblem(message, hint=hint) from exc


async def _served(serving: Serving, options: Sequence[dict[str, Any]], hear: Hear) -> None:
    from distributed import Nanny, Scheduler

    security = security_of(serving.spec.token)
    address = serving.spec.where
    scheduler: Any = None
    if serving.listen:
        protocol, _, rest = address.partition("://")
        host, _, port = rest.rpartition(":")
        where = {"protocol": protocol, "host": host, "port": int(port)}
        own = {**where, "dashboard_address": "127.0.0.1:0"}
        scheduler = await Scheduler(security=security, **own)
        address = scheduler.address
        hear(f"others come to `{address}`")
    workers = [await Nanny(address, security=security, **each) for each in options]
    hear(f"{len(workers)} at work for `{address}`; Ctrl-C ends it")
    try:
        await asyncio.gather(*(worker.finished() for worker in workers))
    finally:
        for each in (*workers, *([scheduler] if scheduler else [])):
            await each.close()


def _options(number: int, count: int, cards: int, store: Path | None) -> dict[str, Any]:
    """How one of so many workers is started: one task at a time, on a GPU of its own."""
    env = {"OMP_NUM_THREADS": str(max(1, processors() // count))}
    if cards > 1 and DEVICE not in os.environ:
        env[DEVICE] = f"cuda:{number % cards}"
    if store is not None:
        env[STORE] = str(store.absolute())
    name = f"{platform.node()}-{os.getpid()}-{number}"
    return {
        "nthreads": 1,
        "memory_limit": 0,
        "name": name,
        "env": env,
        "death_timeout": _PATIENCE,
    }
