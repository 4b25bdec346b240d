"""How far a run is: on a terminal one bar for all of it and one for what is at work, else lines.

What the bar for the whole run counts in is the time that each task may take, as the plan tells it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from storyforge.cli.terminal import duration, tell

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

_PACE: Final = 10.0
"""Seconds between two lines about the same task where there is no terminal."""

_MEMORY: Final = 3600.0
"""Seconds that a bar looks back to tell how much time is left: stages are long, and their steps."""

_PHASES: Final = {
    "drawing ordinary pictures": (0.0, 0.3),
    "learning": (0.3, 0.95),
    "measuring drift": (0.95, 1.0),
    "solving": (0.8, 1.0),
    "taking in": (0.0, 1.0),
    "importing": (0.0, 1.0),
    "binding": (0.0, 1.0),
}
"""From where to where each phase takes a task, in parts of its time."""

_WHY: Final = {
    "drawing ordinary pictures": "so that the model forgets nothing else",
    "measuring drift": "how much else it changed",
    "watching": "what fusing has to know",
}
"""What is done in phases that nobody asked for by name."""

_DRAWING: Final = "drawing "
_SURE: Final = 0.05
"""From this part of a run on, its own pace tells how long the rest takes."""


class RunClock:
    """How much of a run is done and how long the rest may take, from what its tasks tell.

    expected  seconds that each task may take, by the subject with which it speaks
    """

    def __init__(self, expected: Mapping[str, float], now: Callable[[], float] = monotonic) -> None:
        """Begin to count."""
        self._expected = dict(expected)
        self._done: dict[str, float] = {}
        self._now, self._began = now, now()

    @property
    def total(self) -> float:
        """Seconds that all of it may take."""
        return sum(self._expected.values())

    @property
    def done(self) -> float:
        """Of these, the seconds of what is done."""
        return sum(self._expected[subject] * part for subject, part in self._done.items())

    @property
    def left(self) -> float:
        """Seconds that the rest may take, at the pace of this run once it has one."""
        done, rest = self.done, self.total - self.done
        pace = (self._now() - self._began) / done if done > _SURE * self.total else 1.0
        return rest * pace

    def hear(self, what: str, done: int, total: int) -> None:
        """Take in how far one phase of a task is; what is further already stays so."""
        subject, _, phase = what.partition(": ")
        if subject.startswith(_DRAWING) and not phase:
            self._hear_drawn(done)
            return
        if subject not in self._expected:
            return
        first, last = _PHASES.get(phase, (0.0, 0.0))
        part = first + (last - first) * done / max(1, total)
        self._done[subject] = max(part, self._done.get(subject, 0.0))

    def _hear_drawn(self, count: int) -> None:
        """So many panels are drawn: which ones does not matter to the clock."""
        panels = [subject for subject in self._expected if subject.startswith("panel ")]
        for subject in panels[:count]:
            self._done[subject] = 1.0


class ProgressLine:
    """How far each task is: bars on a terminal, now and then a line elsewhere.

    expected  gives, once and on a terminal only, the seconds that each task may take
    """

    def __init__(self, expected: Callable[[], Mapping[str, float]] | None = None) -> None:
        """Show nothing before it is entered."""
        self._expected = expected
        self._clock: RunClock | None = None
        self._bars: Bars | None = None
        self._whole: TaskID | None = None
        self._ids: dict[str, TaskID] = {}
        self._told: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> Self:
        """Say at once, on a terminal, that something is going on."""
        if sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
            self._whole = self._bars.add_task("reading the story", total=None, left="")
            self._bars.refresh()
            if self._expected is not None:
                self._clock = RunClock(self._expected())
                self._show_whole("getting ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the bars away: what came of it is said next."""
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Hear how far a task is; `what` begins with its name and a colon."""
        subject = what.partition(":")[0]
        if self._bars is not None:
            self._move_bar(self._bars, subject, what, done, total)
        else:
            self._say_line(subject, what, done, total)

    def _move_bar(self, bars: Bars, subject: str, what: str, done: int, total: int) -> None:
        if subject not in self._ids:
            self._ids[subject] = bars.add_task(what, total=total, left="")
        words = f"{what} ({why})" if (why := _why(what)) else what
        at_work = done < total
        bars.update(
            self._ids[subject], description=words, completed=done, total=total, visible=at_work
        )
        if self._clock is not None:
            self._clock.hear(what, done, total)
        self._show_whole("the whole run")

    def _show_whole(self, words: str) -> None:
        if self._bars is None or self._whole is None:
            return
        if self._clock is None or not self._clock.total:
            self._bars.update(self._whole, description="at work", visible=not self._ids)
            return
        left = f"about {duration(max(1.0, self._clock.left))} left"
        self._bars.update(
            self._whole,
            description=words,
            completed=self._clock.done,
            total=self._clock.total,
            left=left,
        )

    def _say_line(self, subject: str, what: str, done: int, total: int) -> None:
        last_words, last_time = self._told.get(subject, ("", 0.0))
        now = monotonic()
        if what != last_words or done >= total or now - last_time > _PACE:
            self._told[subject] = (what, now)
            tell(f"{what} {done}/{total}")


def _why(what: str) -> str | None:
    phase = what.partition(": ")[2]
    return next((why for begins, why in _WHY.items() if phase.startswith(begins)), None)


def _bars() -> Bars:
    """Bars that go when the run ends, each with how long it may still take."""
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class TimeLeft(ProgressColumn):
        """What the run's clock says, or what the bar's own pace does."""

        def render(self, task: Task) -> Text:
            """The time in words; nothing while there is no pace."""
            if said := task.fields.get("left"):
                return Text(str(said), style="bold")
            rest = task.time_remaining
            return Text("" if rest is None else f"{duration(rest)} left", style="cyan")

    class Count(ProgressColumn):
        """How many of how many; nothing for the whole run, which counts in seconds."""

        def render(self, task: Task) -> Text:
            """The two numbers."""
            if task.fields.get("left") or task.total is None:
                return Text(f"{task.percentage:.0f} %" if task.total else "")
            return Text(f"{task.completed:.0f}/{task.total:.0f}")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), Count(), TimeLeft())
    return Bars(
        *columns, console=Console(stderr=True), transient=True, speed_estimate_period=_MEMORY
    )
