"""What can go wrong, as the author hears it: diagnostics with a place, errors with an exit code.

Programming mistakes are not here; they are `ValueError` and the like, and show as tracebacks.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import ClassVar, Final

_MOST_COMPARED: Final = 300
"""Known words; comparing with more would be felt in a file full of mistakes."""

MAX_FINDINGS: Final = 200
"""Findings kept for one file; whoever has more mends these first."""


class Severity(StrEnum):
    """Whether a diagnostic stops the story from being made."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One finding in one of the author's files.

    Diagnostics sort by file, then by position; `line` and `column` count from 1.
    """

    file: str
    line: int
    column: int
    code: str
    message: str
    severity: Severity = Severity.ERROR
    hint: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        """The line editors know how to follow: `file:line:col CODE message`."""
        return f"{self.file}:{self.line}:{self.column} {self.code} {self.message}"


LONGEST_MESSAGE: Final = 400
"""Letters of a finding; a file may hold names of any length."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file, both numbers from 1."""

    line: int = 1
    column: int = 1


class Report:
    """The findings in one file, as they are made."""

    def __init__(self, file: str) -> None:
        """Begin an empty report on `file`, named as the author will read it."""
        self.file = file
        self._kept: list[Diagnostic] = []
        self._untold = 0

    def error(self, mark: Mark, code: str, message: str, hint: str | None = None) -> None:
        """Add a mistake."""
        self._add(mark, code, message, Severity.ERROR, hint)

    def warning(self, mark: Mark, code: str, message: str, hint: str | None = None) -> None:
        """Add something that works and is probably not meant."""
        self._add(mark, code, message, Severity.WARNING, hint)

    @property
    def full(self) -> bool:
        """Whether further findings would only be counted."""
        return len(self._kept) >= MAX_FINDINGS

    def has_errors(self) -> bool:
        """Whether any mistake was added."""
        return any(finding.severity is Severity.ERROR for finding in self.findings())

    def findings(self) -> list[Diagnostic]:
        """Everything added, the last of it a count if there was too much to list."""
        if not self._untold:
            return list(self._kept)
        last = max(self._kept)
        message = f"{self._untold} more findings are not listed; mend these first"
        return [*self._kept, Diagnostic(self.file, last.line, last.column, "SF900", message)]

    def _add(
        self, mark: Mark, code: str, message: str, severity: Severity, hint: str | None
    ) -> None:
        if self.full:
            self._untold += 1
            return
        line = visible(message.strip())
        line = line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"
        found = Diagnostic(self.file, mark.line, mark.column, code, line, severity, hint)
        if found not in self._kept:
            self._kept.append(found)


class StoryForgeError(Exception):
    """Anything that the person at the keyboard can mend.

    `hint` is the next thing to do, `exit_code` what the command line answers with, and `trace`
    where it broke, in words, if it came out of a task.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Keep the message, lower case and without a full stop, and the hint."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.trace = ""


class StoryError(StoryForgeError):
    """The author's files hold mistakes; `diagnostics` has every one of them."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str, *, diagnostics: Sequence[Diagnostic] = (), hint: str | None = None
    ) -> None:
        """Keep the diagnostics in the order given."""
        super().__init__(message, hint=hint)
        self.diagnostics = tuple(diagnostics)


class EnvironmentProblem(StoryForgeError):
    """A model, a font or a program is missing, unreadable or the wrong one."""

    exit_code: ClassVar[int] = 3


class NotEnoughMemory(EnvironmentProblem):
    """A task does not fit into the machine's memory, or its GPU's."""


class Damaged(EnvironmentProblem):
    """A product is not what it was when it was finished; it is set aside, to be made again."""


class TaskFailed(StoryForgeError):
    """Some tasks of the plan failed; what the others made is kept."""

    exit_code: ClassVar[int] = 4


class InputChanged(TaskFailed):
    """A file of the author's was changed while it was used; what came of it has no name."""


class Locked(StoryForgeError):
    """Another run is making the same, and the author did not want to wait."""

    exit_code: ClassVar[int] = 5


_HIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What moves a cursor, ends or turns a line, or is no letter at all: the rest of a broken name."""


def visible(text: str) -> str:
    """The text with what would not be seen, or would be obeyed, as escapes: `\\n`, `\\x1b`."""
    return _HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None."""
    folded = {each.casefold(): each for each in islice(known, _MOST_COMPARED)}
    near = difflib.get_close_matches(word.casefold()[:80], folded, n=1, cutoff=0.65)
    return folded[near[0]] if near else None


def shortened(text: str) -> str:
    """The text on one line, at most 40 characters of it."""
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:39] + "…"
