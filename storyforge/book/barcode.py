"""The bars of an EAN-13, which is how shops read an ISBN (ISO/IEC 15420).

Only which modules are dark; where the code stands on the back is `back`'s.
"""

from __future__ import annotations

from typing import Final

_ODD: Final = (
    *("0001101", "0011001", "0010011", "0111101", "0100011"),
    *("0110001", "0101111", "0111011", "0110111", "0001011"),
)
"""Left digits of odd parity; those of even parity and those of the right half follow from them."""

_PARITIES: Final = (
    *("OOOOOO", "OOEOEE", "OOEEOE", "OOEEEO", "OEOOEE"),
    *("OEEOOE", "OEEEOO", "OEOEOE", "OEOEEO", "OEEOEO"),
)
"""How the six left digits say the first one, which has no bars of its own."""

_GUARD: Final = "101"
_MIDDLE: Final = "01010"

MODULES: Final = 95
QUIET: Final = (11, 7)
"""Light modules before and after, by which a scanner finds the code."""


def modules(digits: str) -> str:
    """The 95 modules from left to right, `1` for a dark one."""
    if len(digits) != 13 or not digits.isdecimal():
        raise ValueError("an EAN-13 has thirteen digits")
    parities = _PARITIES[int(digits[0])]
    left = "".join(
        _ODD[int(digit)] if parity == "O" else _inverted(_ODD[int(digit)])[::-1]
        for digit, parity in zip(digits[1:7], parities, strict=True)
    )
    right = "".join(_inverted(_ODD[int(digit)]) for digit in digits[7:])
    return _GUARD + left + _MIDDLE + right + _GUARD


def _inverted(bits: str) -> str:
    return bits.translate(str.maketrans("01", "10"))
