"""What a story says of its book: page size, typeface, direction and cover.

The pages themselves are `story`'s; which page sizes and fonts exist is the book's to know.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from storyforge.subject import Text

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CoverSettings(BaseModel):
    """The front cover."""

    model_config = _STRICT

    panel: str | None = None
    """the id of the panel to show"""
    subtitle: Text | None = None
    """a line under the title"""


class BookSettings(BaseModel):
    """How the pages become a book."""

    model_config = _STRICT

    trim: str = "square-8.5"
    """the size of the cut page, by name"""
    font: str | None = None
    """the name of the typeface, or a .ttf or .otf file beside the story"""
    direction: Literal["ltr", "rtl"] | None = None
    """which way pages turn and panels are read; as the language is written if left out"""
    formats: tuple[Literal["pdf", "html", "epub", "cbz"], ...] = ("pdf", "html")
    """the files to make"""
    colophon: bool = True
    """whether a last page says how the book was made"""
    cover: CoverSettings | None = None
    """the front cover"""
    dedication: Text | None = None
    """to whom the book is given"""
