"""A press's colour profile, an ICC file: who names another one is told at once."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import ImageCms

from storyforge.errors import StoryForgeError

_INKS: Final = {"CMYK": 4, "GRAY": 1, "RGB ": 3}
"""Inks of the colour models that a printer's profile may have."""


@dataclass(frozen=True, slots=True)
class PressProfile:
    """A printer's profile: its bytes, its name, and how many inks it has."""

    content: bytes
    name: str
    inks: int

    @classmethod
    def read(cls, path: Path) -> PressProfile:
        """The profile in a file.

        Raises StoryForgeError if it cannot be read, or is no printer's.
        """
        try:
            content = path.read_bytes()
            opened = ImageCms.ImageCmsProfile(io.BytesIO(content))
        except (OSError, ImageCms.PyCMSError) as exc:
            message = f"cannot read the colour profile `{path}`"
            raise StoryForgeError(message, hint="`book.print.profile` is an ICC file") from exc
        inks = _INKS.get(opened.profile.xcolor_space, 0)
        if opened.profile.device_class.strip() != "prtr" or inks == 0:
            message = f"the colour profile `{path.name}` is no printer's"
            raise StoryForgeError(message, hint="take the one that your printer names")
        return cls(content, (opened.profile.profile_description or path.stem).strip(), inks)

    def check_cmyk(self) -> None:
        """Raise StoryForgeError if colours cannot be turned into its cyan, magenta, and so on."""
        if self.inks != _INKS["CMYK"]:
            message = f"the colour profile `{self.name}` is no CMYK"
            raise StoryForgeError(message, hint="leave `book.print.colors` out")
