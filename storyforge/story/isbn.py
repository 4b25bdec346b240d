"""International Standard Book Numbers: thirteen digits, of which the last checks the others."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

_WRITTEN: Final = re.compile(r"97[89]([- ]?[0-9]){10}")
_DIGITS: Final = 13


def digits_of(isbn: str) -> str:
    """The number without the hyphens that it is written with."""
    return "".join(character for character in isbn if character.isdecimal())


def check_digit(digits: str) -> str:
    """The thirteenth digit: it makes the sum, every second digit thrice, a multiple of ten."""
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits[:12]))
    return str(-total % 10)


def _checked(text: str) -> str:
    if _WRITTEN.fullmatch(text) is None or len(digits_of(text)) != _DIGITS:
        message = "`{isbn}` is not an ISBN; write all 13 digits, such as `978-3-16-148410-0`"
        raise PydanticCustomError("written_as", message, {"isbn": text[:40]})
    wanted = check_digit(digits_of(text))
    if digits_of(text)[-1] != wanted:
        message = "the ISBN `{isbn}` has a wrong digit; with the others its last would be {wanted}"
        raise PydanticCustomError("written_as", message, {"isbn": text, "wanted": wanted})
    return text


Isbn = Annotated[str, AfterValidator(_checked)]
"""An ISBN of 13 digits, written with or without hyphens."""
