"""A composed book: leaves with pictures, words and balloons in their places.

Lengths are points (1/72 inch) from the top left corner of the cut page; pictures that bleed begin
at negative coordinates. Nothing here knows of an output format, a colour or a font file's insides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from storyforge.book.press import Press
from storyforge.book.recording import Recording
from storyforge.settings import Made
from storyforge.story.book_settings import BalloonKind
from storyforge.story.trims import Trim

Role = Literal[
    "title",
    "subtitle",
    "author",
    "story",
    "dedication",
    "heading",
    "colophon",
    "blurb",
    "spine",
    "folio",
]
Ground = Literal["paper", "deep"]
PlateStyle = Literal["rounded", "band", "soft", "none"]
Corner = Literal["square", "round", "circle"]
Border = Literal["none", "lined", "rimmed"]
"""`lined` pictures have a dark line round them; `rimmed` ones lie over others, in a white rim."""
Direction = Literal["ltr", "rtl"]
LeafKind = Literal["cover", "endpaper", "title", "imprint", "story", "lives", "colophon", "back"]


class Point(NamedTuple):
    """A place on the page, in points."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Rect:
    """An upright rectangle; lengths in points, or in fractions where a docstring says so."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y + self.height

    @property
    def area(self) -> float:
        """Width times height."""
        return self.width * self.height

    def centre(self) -> Point:
        """The middle."""
        return Point(self.x + self.width / 2, self.y + self.height / 2)

    def inset(self, across: float, down: float | None = None) -> Rect:
        """The rectangle with `across` taken off left and right, `down` off top and bottom."""
        down = across if down is None else down
        return Rect(self.x + across, self.y + down, self.width - 2 * across, self.height - 2 * down)

    def common(self, other: Rect) -> Rect | None:
        """The part that both cover; None where there is none."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Rect(x, y, right - x, bottom - y) if x < right and y < bottom else None

    def covered(self, other: Rect) -> float:
        """The share of this rectangle, 0 to 1, that `other` covers."""
        common = self.common(other)
        return common.area / self.area if common else 0.0

    def holds(self, point: Point) -> bool:
        """Whether the point lies inside or on the edge."""
        return self.x <= point.x <= self.right and self.y <= point.y <= self.bottom


@dataclass(frozen=True, slots=True)
class DrawnSubject:
    """Where a region's subject is in a picture, as its file says; in fractions of the picture.

    head   None if none shows
    exact  whether that is known, and not made out
    """

    region: str
    body: Rect
    head: Rect | None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Art:
    """One picture: the panel it shows, its PNG, its size in pixels, who made it, and who is where.

    subjects  as was seen while it was drawn; of a picture that does not say none
    """

    panel: str
    path: Path
    width: int
    height: int
    made: Made = "model"
    subjects: tuple[DrawnSubject, ...] = ()


@dataclass(frozen=True, slots=True)
class Face:
    """A font: its family, weight and licence, the file to typeset with and the one for the web."""

    family: str
    weight: int
    path: Path
    web: Path
    licence: str


class Initial(NamedTuple):
    """A drop capital: the letter, its size, and how far it moves two lines aside; in points."""

    letter: str
    size: float
    width: float


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Words broken into lines that fit.

    text     the words as written, with the author's own line ends
    rect     where the lines stand
    size     of the letters, in points
    leading  from one baseline to the next, as a multiple of `size`
    plate    the ground beneath words that stand on a picture
    ground   how that ground looks: a plate with round corners, a band, a veil; `none` shows none
    halo     whether the letters are outlined, as display type on a picture is
    language of the words, where it is not the book's
    tilt     degrees by which the words are turned about the middle of `rect`, clockwise
    color    of the letters, as `#rrggbb`; None for ink
    initial  the first letter of the first line, where it is as high as two
    """

    role: Role
    text: str
    lines: tuple[str, ...]
    rect: Rect
    size: float
    leading: float
    face: Face
    align: Literal["start", "center"] = "center"
    plate: Rect | None = None
    ground: PlateStyle = "rounded"
    halo: bool = False
    language: str | None = None
    tilt: float = 0.0
    color: str | None = None
    initial: Initial | None = None


class Stroke(NamedTuple):
    """One step of an outline: `M`, `L`, `C` with their points, or `Z` with none."""

    verb: Literal["M", "L", "C", "Z"]
    points: tuple[Point, ...]


Outline = tuple[Stroke, ...]


@dataclass(frozen=True, slots=True)
class Balloon:
    """One utterance: its drawn shape, its words, and where its tail ends.

    speaker   name to read out before the words; None for the narrator and for sounds
    text      where the lines stand
    outlines  the balloon with its tail first, then a thought's bubbles; empty for a sound, and for
              a balloon that is joined to the one before it, whose outline then holds both
    tip       the end of the tail; None without a tail
    tilt      degrees by which the words are turned about the middle of `text`, clockwise
    """

    kind: BalloonKind
    speaker: str | None
    lines: tuple[str, ...]
    text: Rect
    size: float
    leading: float
    face: Face
    outlines: tuple[Outline, ...]
    tip: Point | None
    tilt: float = 0.0


@dataclass(frozen=True, slots=True)
class Head:
    """Somebody with a face in a picture, in points of the page.

    name     as a balloon says who speaks
    shown    the share of the body that the frame shows, of what the picture has
    planned  whether the face is only where the layout asked for it
    """

    name: str
    face: Rect
    body: Rect
    shown: float
    planned: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in its place.

    frame     where it stands, in points
    crop      the part of the picture that shows, in fractions of it
    alt       the picture in words; None if it is decorative
    balloons  lettered for the printed page, in page points
    small     lettered for a small screen that shows the picture alone, in points of `SMALL`
              width; as many as `balloons`, or none where they do not fit
    halved    whether this is one half of a spread: then a small screen too shows only `crop`,
              elsewhere the whole picture
    heads     whose faces show in it
    border    what is drawn along its edge
    """

    art: Art
    frame: Rect
    crop: Rect
    corner: Corner
    alt: str | None
    balloons: tuple[Balloon, ...] = ()
    small: tuple[Balloon, ...] = ()
    halved: bool = False
    heads: tuple[Head, ...] = ()
    border: Border = "none"

    @property
    def aspect(self) -> float:
        """Width over height of what a small screen shows."""
        whole = self.art.width / self.art.height
        return whole * self.crop.width / self.crop.height if self.halved else whole


@dataclass(frozen=True, slots=True)
class Barcode:
    """An ISBN for scanners: a white field, in points, with bars and the number under them.

    module  the width of the thinnest bar
    size    of the digits
    """

    digits: str
    rect: Rect
    module: float
    size: float


@dataclass(frozen=True, slots=True)
class Leaf:
    """One page of the book.

    number     from 1, the cover; odd pages lie on the right, or on the left of a book read from
               right to left
    label      what the page is, for readers who cannot see it
    tone       the picture that the page takes its colours from
    spread     which half of one picture over two facing pages this is, in the order of reading
    narration  its words, read out
    """

    number: int
    kind: LeafKind
    label: str
    ground: Ground
    tone: Art | None
    pictures: tuple[Picture, ...] = ()
    texts: tuple[TextBlock, ...] = ()
    spread: Literal["first", "second"] | None = None
    codes: tuple[Barcode, ...] = ()
    narration: Recording | None = None

    @property
    def guided(self) -> bool:
        """Whether it is looked at panel by panel: portraits and single pictures are not."""
        return self.kind == "story" and len(self.pictures) > 1


@dataclass(frozen=True, slots=True)
class Publication:
    """Who publishes the book, when and as what; in the edition's language.

    date       as ISO 8601
    isbn       of the printed book, 13 digits; `isbn_ebook` of the EPUB
    """

    publisher: str | None = None
    edition: str | None = None
    date: str | None = None
    rights: str | None = None
    isbn: str | None = None
    isbn_ebook: str | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """A whole book, ready to be written in any format.

    direction  which way its pages turn and its panels are read
    writing    which way its lines run
    notice     one sentence that says how the pictures were made
    notice_in  the language of the notice
    made       who made the pictures
    press      how a printer wants the PDF; None for readers
    keywords   for the document's metadata
    about      what the book is about, as shops and shelves show it; None if nobody has said
    """

    title: str
    author: str | None
    language: str
    direction: Direction
    trim: Trim
    faces: tuple[Face, ...]
    notice: str
    notice_in: str
    keywords: tuple[str, ...]
    leaves: tuple[Leaf, ...]
    writing: Direction = "ltr"
    about: str | None = None
    published: Publication = Publication()
    made: Made = "model"
    press: Press | None = None
