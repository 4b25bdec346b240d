"""What is to be drawn, in order: one process draws, and what is drawn lies in the store.

The list outlives the desk: it is a file, and what was drawn before a kill is not drawn again.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter

from storyforge.errors import StoryForgeError
from storyforge.store import write_whole

_log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "failed", "cancelled"]

_REMEMBERED: Final = 60
"""Jobs that are over and still listed."""

_SCORES: Final = ("likeness", "obedience")

Values = dict[str, object]


@dataclass(frozen=True, slots=True)
class Job:
    """Some takes of one panel; or one concept, drawn alone and fused, and then `panel` says so.

    likeness   take -> how alike it is to whom it shows
    obedience  take -> how well it shows what its prompt says
    """

    id: int
    panel: str
    takes: int
    steps: int | None = None
    concept: str | None = None
    state: State = "waiting"
    what: str = ""
    done: int = 0
    total: int = 0
    seconds: float | None = None
    error: str | None = None
    likeness: tuple[tuple[str, float], ...] = ()
    obedience: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class _Left:
    """What one desk leaves to the next."""

    paused: bool = False
    jobs: tuple[Job, ...] = ()


class DrawQueue:
    """The jobs, and the process that does them."""

    def __init__(
        self,
        story: Path,
        store: Path,
        folder: Path,
        on_change: Callable[[str, Values], None],
        *,
        draft: bool = False,
    ) -> None:
        """Take up what was left in the folder.

        store      where products are kept
        on_change  hears `queue`, `preview` and `drawn`, with what there is to say
        draft      whether drafts are drawn, by the embedded model
        """
        self.draft = draft
        self.story, self.store = story, store
        self.folder, self.on_change = folder, on_change
        left = self._read()
        self.paused = left.paused
        self._jobs = [
            replace(job, state="waiting") if job.state == "running" else job for job in left.jobs
        ]
        self._worker: subprocess.Popen[str] | None = None
        self._wake = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def previews(self) -> Path:
        """Where pictures can be seen while they are drawn."""
        return self.folder / "previews"

    @property
    def learning(self) -> Path:
        """Where concepts can be seen while they learn."""
        return self.folder / "learning"

    def _read(self) -> _Left:
        try:
            told = json.loads((self.folder / "queue.json").read_text(encoding="utf-8"))
            return TypeAdapter(_Left).validate_python(told)
        except OSError:
            return _Left()
        except ValueError:
            _log.warning("the queue of before is none that this desk reads, and begins anew")
            return _Left()

    def jobs(self) -> tuple[Job, ...]:
        """All jobs, those that are over first."""
        with self._wake:
            return tuple(self._jobs)

    def told(self) -> Values:
        """The queue as plain data."""
        with self._wake:
            return {"paused": self.paused, "jobs": [asdict(job) for job in self._jobs]}

    def add(self, panels: Sequence[str], takes: int = 1, steps: int | None = None) -> None:
        """Ask for some takes of each panel."""
        with self._wake:
            for panel in panels:
                number = max((job.id for job in self._jobs), default=0) + 1
                self._jobs.append(Job(number, panel, takes, steps))
        self._changed()

    def add_concept(self, name: str) -> None:
        """Ask for a concept alone and fused."""
        with self._wake:
            number = max((job.id for job in self._jobs), default=0) + 1
            self._jobs.append(Job(number, f"{name}, alone and fused", 1, concept=name))
        self._changed()

    def pause(self, paused: bool) -> None:
        """Draw no more, not after a restart either, or go on; the picture at hand is finished."""
        self.paused = paused
        self._changed()

    def cancel(self, number: int) -> None:
        """Take a job out; one that is running is ended, and what it finished is kept."""
        with self._wake:
            for job in self._jobs:
                if job.id != number or job.state not in {"waiting", "running"}:
                    continue
                if job.state == "running" and self._worker is not None:
                    self._worker.terminate()
                self._set(number, state="cancelled")
        self._changed()

    def first(self, number: int) -> None:
        """Put a waiting job before all others."""
        with self._wake:
            chosen = [job for job in self._jobs if job.id == number and job.state == "waiting"]
            rest = [job for job in self._jobs if job not in chosen]
            place = next((n for n, job in enumerate(rest) if job.state == "waiting"), len(rest))
            self._jobs = [*rest[:place], *chosen, *rest[place:]]
        self._changed()

    def clear(self) -> None:
        """List no more what is over."""
        with self._wake:
            self._jobs = [job for job in self._jobs if job.state in {"waiting", "running"}]
        self._changed()

    def close(self) -> None:
        """End the process; what waits, waits for the next desk."""
        with self._wake:
            self._ended = True
            if self._worker is not None:
                self._worker.terminate()
            self._wake.notify_all()
        self._thread.join(timeout=10)
        self._let_go()

    def _set(self, number: int, **changes: object) -> None:
        self._jobs = [
            replace(job, **changes) if job.id == number else job  # type: ignore[arg-type]
            for job in self._jobs
        ]

    def _changed(self) -> None:
        with self._wake:
            over = [job for job in self._jobs if job.state not in {"waiting", "running"}]
            gone = set(over[:-_REMEMBERED])
            self._jobs = [job for job in self._jobs if job not in gone]
            left = _Left(self.paused, tuple(self._jobs))
            try:
                write_whole(self.folder / "queue.json", json.dumps(asdict(left), indent=1).encode())
            except StoryForgeError as exc:
                _log.warning("the queue is not kept: %s", exc.message)
            self._wake.notify_all()
        self.on_change("queue", self.told())

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._do(job)

    def _next(self) -> Job | None:
        """Wait for a job; None when the desk is closed."""
        with self._wake:
            while True:
                if self._ended:
                    return None
                waiting = [job for job in self._jobs if job.state == "waiting"]
                if waiting and not self.paused:
                    self._set(waiting[0].id, state="running", error=None)
                    return waiting[0]
                self._wake.wait()

    def _do(self, job: Job) -> None:
        self._changed()
        asked = {
            "story": str(self.story),
            "store": str(self.store),
            "panel": job.panel,
            "takes": job.takes,
            "steps": job.steps,
            "previews": str(self.previews),
            "draft": self.draft,
            "concept": job.concept,
            "learning": str(self.learning),
            "compared": str(self.folder / "compared"),
        }
        try:
            worker = self._started()
            if self._state(job) == "cancelled":  # before there was a process to end
                return
            if worker.stdin is None or worker.stdout is None:
                raise OSError("no pipe")
            worker.stdin.write(json.dumps(asked) + "\n")
            worker.stdin.flush()
            for line in worker.stdout:
                if self._heard(job, json.loads(line)):
                    return
        except (OSError, ValueError) as exc:
            _log.warning("the drawing process: %s", exc)
        self._lost(job)

    def _state(self, job: Job) -> State | None:
        """What became of a job."""
        with self._wake:
            return next((each.state for each in self._jobs if each.id == job.id), None)

    def _heard(self, job: Job, said: Values) -> bool:
        """Take in one line; True when the job is over."""
        if isinstance(progress := said.get("progress"), list):
            what, done, total = progress
            with self._wake:
                self._set(job.id, what=what, done=done, total=total)
            told = {"id": job.id, "panel": job.panel, "what": what, "done": done, "total": total}
            self.on_change("preview", told)
            return False
        with self._wake:
            if isinstance(done_ := said.get("done"), dict):
                scores = {name: tuple(done_[name].items()) for name in _SCORES}
                self._set(job.id, state="done", seconds=done_["seconds"], **scores)
            elif self._ended:
                self._set(job.id, state="waiting")  # it was ended with the desk
            else:
                self._set(job.id, state="failed", error=str(said.get("failed")))
        self._changed()
        self.on_change("drawn", {"panel": job.panel})
        return True

    def _lost(self, job: Job) -> None:
        """The process ended within the job: somebody ended it, or it broke."""
        with self._wake:
            self._let_go()
            running = [each for each in self._jobs if each.id == job.id and each.state == "running"]
            if running and self._ended:
                self._set(job.id, state="waiting")
            elif running:
                self._set(job.id, state="failed", error="the drawing process ended")
        self._changed()

    def _let_go(self) -> None:
        """End the process, if there is one, and close what leads to it."""
        worker, self._worker = self._worker, None
        if worker is not None:
            with worker, suppress(OSError):
                worker.terminate()

    def _started(self) -> subprocess.Popen[str]:
        """The process that draws, begun if there is none."""
        if self._worker is None or self._worker.poll() is not None:
            command = [sys.executable, "-m", "storyforge.desk.worker"]
            self._worker = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
        return self._worker

    def preview(self, panel: str) -> Path | None:
        """The picture of a panel as far as it is drawn."""
        path = self.previews / f"{panel}.png"
        with suppress(OSError):
            return path if path.is_file() else None
        return None
