"""What a story says of its book: page size, typeface, direction, cover and printer.

The pages themselves are `story.story`'s; page sizes, papers and fonts are known by name alone.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from storyforge.settings import Format
from storyforge.story.concept import Text
from storyforge.story.families import FAMILIES
from storyforge.story.trims import PAPERS, TRIMS

BalloonKind = Literal["speech", "thought", "shout", "whisper", "caption", "narration", "sound"]

_STRICT: Final = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class CoverSettings(BaseModel):
    """The front cover, and the words on the back."""

    model_config = _STRICT

    panel: str | None = None
    """the id of the panel to show"""
    subtitle: Text | None = None
    """a line under the title"""
    blurb: Text | None = None
    """a few sentences for the back of a printed cover"""


class PrintSettings(BaseModel):
    """What a printer needs to know besides the page size."""

    model_config = _STRICT

    paper: str | None = Field(default=None, json_schema_extra={"examples": list(PAPERS)})
    """the name of the paper, which says how thick the spine is"""
    caliper: float | None = Field(default=None, gt=0, le=0.1)
    """the thickness of one page in inches, as the printer's cover template says"""


class BookSettings(BaseModel):
    """How the pages become a book."""

    model_config = _STRICT

    trim: str = Field(default="square-8.5", json_schema_extra={"enum": list(TRIMS)})
    """the size of the cut page, by name"""
    font: str | None = Field(default=None, json_schema_extra={"examples": list(FAMILIES)})
    """the name of the typeface, or a .ttf or .otf file beside the story"""
    direction: Literal["ltr", "rtl"] | None = None
    """which way pages turn and panels are read; as the language is written if left out"""
    formats: tuple[Format, ...] = ("pdf", "html")
    """the files to make; `web` is HTML with its pictures beside it, `png` pages as pictures,
    `cover` wraps a printed book and `inside` is what it wraps"""
    ppi: int = Field(default=150, ge=36, le=600)
    """pixels an inch of pages as pictures (`png`)"""
    upscale: str = "none"
    """how pictures are enlarged for print: `none`, `lanczos`, or a model file of the ESRGAN kind"""
    colophon: bool = True
    """whether a last page says how the book was made"""
    cover: CoverSettings | None = None
    """the front cover"""
    dedication: Text | None = None
    """to whom the book is given"""
    print: PrintSettings = PrintSettings()
    """what a printer needs to know"""
