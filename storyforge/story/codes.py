"""What the codes of `check` and `concept check` mean and how to mend them, from codes.toml.

The message of a finding says what is wrong in this story; here is what is wrong in general.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from storyforge.errors import StoryForgeError, closest

_FILE: Final = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True, slots=True)
class Code:
    """One code.

    title  what is wrong, in a few words
    means  what it means for the book
    mend   what to do
    wrong  an example that has this finding
    right  the same, mended
    """

    code: str
    severity: Literal["error", "warning"]
    title: str
    means: str
    mend: str
    wrong: str
    right: str


@cache
def catalogue() -> dict[str, Code]:
    """Every code with its entry, in order."""
    with _FILE.open("rb") as file:
        written = tomllib.load(file)
    return {code: Code(code=code, **fields) for code, fields in written.items()}


def entry(code: str) -> Code:
    """The entry of a code, in any case of letters, with or without `SF`.

    Raises StoryForgeError, with the nearest code, if there is none.
    """
    known = catalogue()
    wanted = code.strip().upper()
    wanted = f"SF{wanted}" if wanted.isdecimal() else wanted
    if wanted in known:
        return known[wanted]
    near = _nearest(wanted)
    meant = f"; did you mean `{near}`?" if near else ""
    hint = "`storyforge explain` without a code lists them all"
    raise StoryForgeError(f"no finding has the code `{code}`{meant}", hint=hint)


def _nearest(code: str) -> str | None:
    """The code nearest in number, else in spelling."""
    digits = code.removeprefix("SF")
    if digits.isdecimal() and len(digits) == 3:
        return min(catalogue(), key=lambda known: abs(int(known[2:]) - int(digits)))
    return closest(code, catalogue())
