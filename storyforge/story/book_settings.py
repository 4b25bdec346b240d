"""What a story says of its book: page size, typeface, direction, cover and printer.

The pages themselves are `story.story`'s; page sizes, papers and fonts are known by name alone.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from storyforge.settings import Color, Format, written_as
from storyforge.story.concept import Text
from storyforge.story.families import FAMILIES
from storyforge.story.isbn import Isbn
from storyforge.story.trims import PAPERS, TRIMS, USUAL_TRIM, length_in

FrameStyle = Literal["round", "square", "line"]
BalloonKind = Literal["speech", "thought", "shout", "whisper", "caption", "narration", "sound"]

_DATE = written_as(
    r"[12][0-9]{3}(-(0[1-9]|1[0-2])(-(0[1-9]|[12][0-9]|3[01]))?)?",
    "a date; write it as `2027-05-01`, `2027-05` or `2027`",
)
PublicationDate = Annotated[str, *_DATE]

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
    back: str | None = None
    """the id of the panel whose picture the back shows; its own ground if left out"""
    design: Literal["overlay", "band", "framed"] | None = None
    """where the type stands: in the picture, on a band above it, or round a framed picture;
    `framed` for a picture of `fit: contain` if left out, else `overlay`"""


class Person(BaseModel):
    """Somebody who made the book."""

    model_config = _STRICT

    name: Text
    """as the book is to say it"""
    life: Text
    """a few sentences"""
    picture: str | None = Field(default=None, min_length=1)
    """a portrait: a file beside the story, shown in a circle"""


def _length(text: str) -> str:
    if length_in(text) is None:
        message = "`{text}` is not a length; write it as `200mm`, `20cm` or `8in`"
        raise PydanticCustomError("written_as", message, {"text": text[:40]})
    return text


Length = Annotated[str, AfterValidator(_length)]


class TrimSize(BaseModel):
    """A page size of one's own."""

    model_config = _STRICT

    width: Length
    """of the cut page, such as `200mm`"""
    height: Length
    """of the cut page"""
    bleed: Length = "3mm"
    """how far pictures run over every edge"""
    safe: Length = "10mm"
    """how far from the cut words keep"""


def _trim_form(value: object) -> str:
    return "size" if isinstance(value, dict | TrimSize) else "name"


TrimSetting = Annotated[
    Annotated[str, Tag("name"), Field(json_schema_extra={"enum": list(TRIMS)})]
    | Annotated[TrimSize, Tag("size")],
    Discriminator(_trim_form),
]
"""A page size by name, or in lengths."""


class PublishedSettings(BaseModel):
    """Who publishes the book; what is said here stands on a page of its own behind the title."""

    model_config = _STRICT

    publisher: Text | None = None
    """who publishes it"""
    edition: Text | None = None
    """such as `First edition, May 2027`"""
    date: PublicationDate | None = None
    """the day of publication, such as `2027-05-01`; the books say that they are of this day"""
    rights: Text | None = None
    """whose the words and pictures are, and what may be done with them"""
    isbn: Isbn | None = None
    """of the printed book; its barcode stands on the back"""
    isbn_ebook: Isbn | None = None
    """of the EPUB, which needs one of its own"""
    notes: Text | None = None
    """more lines for that page: thanks, printer, library data"""


class CaseSettings(BaseModel):
    """A hardcover's boards, and the paper that is glued round them; printers say how large."""

    model_config = _STRICT

    board: Length = "2.5mm"
    """the thickness of each board; the spine is thicker by two of them"""
    overhang: Length = "3mm"
    """how far the boards stand out over the pages"""
    hinge: Length = "8mm"
    """beside the spine, where the cover bends and no words stand"""
    wrap: Length = "16mm"
    """how much paper is turned in round the boards: pictures reach as far"""


class PrintSettings(BaseModel):
    """What a printer needs to know besides the page size."""

    model_config = _STRICT

    paper: str | None = Field(default=None, json_schema_extra={"examples": list(PAPERS)})
    """the name of the paper, which says how thick the spine is"""
    caliper: float | None = Field(default=None, gt=0, le=0.1)
    """the thickness of one page in inches, as the printer's cover template says"""
    profile: str | None = Field(default=None, min_length=1)
    """the press's ICC profile, a file beside the story: `inside` and `cover` are PDF/X-4 then"""
    colors: Literal["rgb", "cmyk"] = "rgb"
    """whether their colours are turned into the profile's inks, or the press does it"""
    marks: bool = False
    """whether crop marks stand round the pages of `inside` and `cover`"""
    binding: Literal["paperback", "case"] = "paperback"
    """what `cover` wraps: a paperback, or the boards of a hardcover"""
    case: CaseSettings = CaseSettings()
    """the measures of a hardcover"""


class BookSettings(BaseModel):
    """How the pages become a book."""

    model_config = _STRICT

    trim: TrimSetting = USUAL_TRIM
    """the size of the cut page, by name or in lengths"""
    font: str | None = Field(default=None, json_schema_extra={"examples": list(FAMILIES)})
    """the name of the typeface, or a .ttf or .otf file beside the story"""
    title_font: str | None = Field(default=None, json_schema_extra={"examples": list(FAMILIES)})
    """the same for titles, where it is another one"""
    text_size: float | None = Field(default=None, ge=11, le=48)
    """points of the story's letters at their largest; 20 if left out"""
    text_color: Color | None = None
    """the colour of the story's letters, such as `#1b2a4a`"""
    typography: Literal["smart", "as-typed"] = "as-typed"
    """whether straight quotes, `--` and `...` are set as the language prints them, and `*words*` in
    italics, `**words**` in bold; else all is printed as it is typed"""
    plate: Literal["rounded", "band", "soft", "none"] = "rounded"
    """the ground under words on a picture: a plate, a band from edge to edge, a veil, or none"""
    frame: FrameStyle = "round"
    """how pictures in frames end: in `round` corners or `square` ones, both without a border, or in
    a `line` around them, as comics do"""
    drop_capitals: bool = False
    """whether a page's words on paper begin with a letter as high as two lines"""
    page_numbers: bool = False
    """whether the story's pages bear their numbers"""
    read_along: bool = False
    """whether pages that name no `narration` are read out by `narration/LANGUAGE/PAGE.mp3`, which
    `storyforge narrate` speaks"""
    direction: Literal["ltr", "rtl"] | None = None
    """which way pages turn and panels are read; as the language is written if left out"""
    formats: tuple[Format, ...] = ("pdf", "html")
    """the files to make; `web` is HTML with its pictures beside it, `png` pages as pictures,
    `cover` wraps a printed book and `inside` is what it wraps, `booklet` is folded and stapled,
    `mp4` is a film of the pages"""
    ppi: int = Field(default=150, ge=36, le=600)
    """pixels an inch of pages as pictures (`png`)"""
    upscale: str = "none"
    """how pictures are enlarged for print: `none`, `lanczos`, or a model file of the ESRGAN kind"""
    colophon: bool = True
    """whether a last page says how the book was made"""
    cover: CoverSettings | None = None
    """the front cover"""
    people: tuple[Person, ...] = Field(default=(), max_length=4)
    """who wrote and who drew the book, on a page of their own at its end"""
    dedication: Text | None = None
    """to whom the book is given"""
    published: PublishedSettings = PublishedSettings()
    """who publishes it, and its numbers"""
    print: PrintSettings = PrintSettings()
    """what a printer needs to know"""
