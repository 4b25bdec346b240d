"""A cluster opened: the scheduler that `--cluster` names, or one that is started for this run.

Whoever may speak to a scheduler may let every member run anything. So what others could reach needs
a token, and what runs on this machine alone makes one that nobody else ever has.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Final

from storyforge.engine.cluster import Cluster
from storyforge.engine.orders import mark_in, sees
from storyforge.engine.token import check_dask, comm_settings, lacking, own_security, security_of
from storyforge.engine.worker import gpus
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import processors
from storyforge.modelref import DEVICE
from storyforge.store import Store
from storyforge.store.locks import held, is_held

if TYPE_CHECKING:
    from distributed import Client

WAITING: Final = 120.0
"""Seconds to wait for the first worker."""

_HIGHEST_PORT: Final = 65_535

_ALONE: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names under which nobody else reaches a machine."""


START_ERRORS: Final = (OSError, TimeoutError, RuntimeError, ValueError, ImportError)
"""What is raised while members of a cluster start; of most of it Dask makes a RuntimeError."""


def reason_of(error: BaseException) -> str:
    """What it was that went wrong, beneath what Dask says of it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Where tasks are to be done, as `--cluster` says it.

    kind   `local`, `slurm`, `ssh`, or `scheduler` for one that is there
    where  the address of a scheduler, or the file that lists hosts
    count  workers to start; None for as many as there is room for
    token  the file that all members share; None on one machine alone
    """

    kind: str
    where: str = ""
    count: int | None = None
    token: Path | None = None

    @staticmethod
    def read(text: str, token: Path | None = None) -> ClusterSpec:
        """What `--cluster` says.

        Raises StoryForgeError for anything else, and for what others could listen to, or answer.
        """
        spec = _said(text, token)
        spec.check_guarded()
        return spec

    def check_guarded(self) -> None:
        """Raise StoryForgeError for connections that others could listen to, or answer."""
        protocol, _, rest = self.where.partition("://") if self.kind == "scheduler" else ("",) * 3
        host = rest.rpartition(":")[0]
        if self.token is None:
            unsafe = protocol == "tls" or self.kind in {"slurm", "ssh"}
            if unsafe or (protocol and host not in _ALONE):
                raise StoryForgeError(
                    f"without a token nobody knows who answers at `{host or self.kind}`",
                    hint="name it with `--token FILE`; `storyforge worker --new-token FILE` makes "
                    "one",
                )
        elif protocol == "tcp":
            message = f"what is said at `{self.where}` is not encrypted, so no token guards it"
            raise StoryForgeError(message, hint=f"write `tls://{rest}`")


def _said(text: str, token: Path | None) -> ClusterSpec:
    started = re.fullmatch(r"(local|slurm)(?::([1-9]\d{0,3}))?", text, re.ASCII)
    if started:
        return ClusterSpec(started[1], "", int(started[2]) if started[2] else None, token)
    if text.startswith("ssh:") and len(text) > len("ssh:"):
        return ClusterSpec("ssh", text.removeprefix("ssh:"), token=token)
    address = re.fullmatch(r"(?:tcp|tls)://[^\s/]+:(\d{1,9})", text, re.ASCII)
    if address and int(address[1]) <= _HIGHEST_PORT:
        return ClusterSpec("scheduler", text, token=token)
    hint = "write `local:4`, `slurm:8`, `ssh:hosts.txt` or `tls://host:8786`"
    if address:
        hint = f"ports end at {_HIGHEST_PORT}"
    raise StoryForgeError(f"`{text}` is no cluster", hint=hint)


@contextmanager
def opened_cluster(spec: ClusterSpec, store: Store) -> Iterator[Cluster]:
    """Connect to a cluster, or start one that ends with this.

    Raises EnvironmentProblem if it cannot be started, or nobody answers.
    """
    check_dask()
    spec.check_guarded()
    import dask
    from distributed import Client

    security = own_security() if _is_own(spec) else security_of(spec.token)
    settings: dict[str, object] = {"distributed.admin.large-graph-warning-threshold": "1GiB"}
    # Hosts that ssh reaches hear of the token by Dask's settings alone.
    settings |= comm_settings(spec.token) if spec.kind == "ssh" and spec.token else {}
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        with _answering(spec):
            address = _started(spec, security, stack)
            client = stack.enter_context(Client(address, security=security, timeout=WAITING))
            client.wait_for_workers(1, timeout=WAITING)
            mark = stack.enter_context(_mark(store))
            seen = mark if _is_shared(client, store, mark) else None
        yield Cluster(client, seen=seen)


def _is_own(spec: ClusterSpec) -> bool:
    """Whether all of a cluster is this run's, on this machine."""
    return spec.kind == "local" and spec.token is None


@contextmanager
def _answering(spec: ClusterSpec) -> Iterator[None]:
    """Say that nobody answers, or that it could not be started, and why."""
    try:
        yield
    except START_ERRORS as exc:
        if spec.kind == "scheduler":
            message = f"no worker answers at `{spec.where}`: {reason_of(exc)}"
            hint = "start some with `storyforge worker`; all need the same token"
        else:
            message = f"cannot start a cluster by `{spec.where or spec.kind}`: {reason_of(exc)}"
            hint = "run `storyforge worker` on each machine, and name its scheduler"
        raise EnvironmentProblem(message, hint=hint) from exc


def _started(spec: ClusterSpec, security: Any, stack: ExitStack) -> Any:  # noqa: ANN401
    """What a client connects to: an address, or a cluster of Dask's that ends with the stack."""
    if spec.kind == "scheduler":
        return spec.where
    if spec.kind == "local":
        return stack.enter_context(_local(spec, security))
    if spec.kind == "slurm":
        return stack.enter_context(_slurm(spec, security))
    return stack.enter_context(_ssh(spec, security))


def _local(spec: ClusterSpec, security: Any) -> Any:  # noqa: ANN401
    from distributed import LocalCluster

    count = spec.count or gpus() or processors()
    threads = {"OMP_NUM_THREADS": str(max(1, processors() // count))}
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        memory_limit=0,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.ERROR,
        security=security,
        env=threads,
    )


_JOB: Final = (
    "say what a job gets in ~/.config/dask/jobqueue.yaml, as the site wants it: "
    "`jobqueue: {slurm: {cores: 4, memory: 16GB, queue: gpu, job-extra-directives: [--gpus=1]}}`"
)


def _slurm(spec: ClusterSpec, security: Any) -> Any:  # noqa: ANN401
    import dask

    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as exc:
        raise lacking("dask-jobqueue", "Slurm", "slurm") from exc
    # Queue, memory and account stand in dask's jobqueue.yaml, as the site wants them.
    unsaid = [
        name for name in ("cores", "memory") if not dask.config.get(f"jobqueue.slurm.{name}", None)
    ]
    if unsaid:
        message = f"no job can be sent to Slurm: nothing says its {' and '.join(unsaid)}"
        raise EnvironmentProblem(message, hint=_JOB)
    made: Any = SLURMCluster(processes=1, security=security, protocol="tls://")
    made.scale(spec.count or 1)
    return made


def _ssh(spec: ClusterSpec, security: Any) -> Any:  # noqa: ANN401
    try:
        import asyncssh  # noqa: F401
    except ImportError as exc:
        raise lacking("asyncssh", "work on other machines by ssh", "ssh") from exc
    from distributed import SSHCluster

    hosts = hosts_in(Path(spec.where))
    logging.getLogger("distributed.deploy.ssh").setLevel(logging.WARNING)
    return SSHCluster(
        [hosts[0], *hosts],
        worker_options={"nthreads": 1, "memory_limit": 0},
        scheduler_options={"protocol": "tls://", "dashboard_address": "127.0.0.1:0"},
        security=security,
    )


def usual_cluster() -> ClusterSpec | None:
    """All GPUs of this machine, if it has several and Dask is there; None for doing it here."""
    # Looked up where the driver lists them: loading torch to ask would take seconds.
    several = len(list(Path("/dev").glob("nvidia[0-9]*"))) > 1
    if not several or not all(map(find_spec, ("distributed", "cryptography"))):
        return None
    count = gpus()
    return ClusterSpec("local", count=count) if count > 1 and not os.environ.get(DEVICE) else None


def hosts_in(path: Path) -> list[str]:
    """The hosts that a file lists, one a line.

    Raises EnvironmentProblem if there are none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc
    hosts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not hosts:
        raise EnvironmentProblem(f"`{path}` lists no host", hint="write one a line")
    return hosts


@contextmanager
def _mark(store: Store) -> Iterator[str]:
    """The name of a mark that stands in the store as long as a cluster is open.

    Whoever finds it there sees the same store and not one of its own at the same path.
    """
    name = f"{_MARK}-{secrets.token_hex(8)}"
    for left in store.root.glob(f"locks/{_MARK}-*.lock"):
        with suppress(FileNotFoundError):
            if time() - left.stat().st_mtime > _FORGOTTEN and not is_held(left):
                left.unlink()
    path = mark_in(store.root, name)
    try:
        with held(path, 0.0):
            yield name
    finally:
        path.unlink(missing_ok=True)


_MARK: Final = "seen"

_ASKED: Final = 3
"""How often workers are asked that cannot be heard."""

_FORGOTTEN: Final = 3600.0
"""Seconds after which nobody is about to hold a mark that nobody holds."""


def _is_shared(client: Client, store: Store, mark: str) -> bool:
    """Whether every worker that is there sees the store; of later ones each order asks itself."""
    for _ in range(_ASKED):
        told = client.run(sees, str(store.root), mark, on_error="return").values()
        # A connection that broke says nothing of the store.
        if not any(isinstance(answer, OSError) for answer in told):
            break
    return all(answer is True for answer in told)
