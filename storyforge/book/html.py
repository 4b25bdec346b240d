"""A composed book as HTML, one file or a folder: it looks like a book and needs no network.

On a wide screen pages lie open in pairs; on a phone pictures and words stand in one column, with
the balloons lettered again for it. Vertical writing is not covered.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from storyforge.book import picture
from storyforge.book.inline import carried, divided, unmarked
from storyforge.book.leaf import Balloon, Book, Face, Leaf, Picture, Rect, TextBlock
from storyforge.book.lettering import SMALL
from storyforge.book.markup import (
    drawn,
    font_family,
    joined,
    number,
    paragraphs,
    pieces,
    rendered,
    shapes,
    tag,
)
from storyforge.book.recording import MIME as SPOKEN
from storyforge.provenance.xmp import SOURCES
from storyforge.story.trims import POINTS_PER_INCH

_MIME: Final = {".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf"}

_CONTROLS: Final = {
    "en": ("Pages", "Previous page", "Next page", "Light or dark", "Read aloud", "Panel by panel"),
    "fr": (
        *("Pages", "Page précédente", "Page suivante", "Clair ou sombre"),
        *("Lire à voix haute", "Case par case"),
    ),
    "de": (
        "Seiten",
        "Vorige Seite",
        "Nächste Seite",
        "Hell oder dunkel",
        "Vorlesen",
        "Bild für Bild",
    ),
    "es": (
        *("Páginas", "Página anterior", "Página siguiente", "Claro u oscuro"),
        *("Leer en voz alta", "Viñeta a viñeta"),
    ),
}


def write_html(book: Book, path: Path) -> Path:
    """Write the book to `path` as one file, whole or not at all; the same book, the same bytes.

    Raises StoryForgeError if a picture cannot be read.
    """
    html = _html(book, _data_uri, "data:")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(html, encoding="utf-8", newline="\n")
    os.replace(partial, path)
    return path


def write_web(book: Book, path: Path) -> Path:
    """Write the book to the folder `path`: `index.html`, and its pictures in `assets` beside it.

    Fonts stay in the page: browsers do not load them from a disk. Raises StoryForgeError if a
    picture cannot be read.
    """
    assets: dict[bytes, str] = {}

    def named(mime: str, content: bytes) -> str:
        """The file that holds a picture or a voice; one for the same bytes."""
        kind, ending = ("picture", "jpg") if mime == "image/jpeg" else ("voice", _SPOKEN[mime])
        return assets.setdefault(content, f"assets/{kind}-{len(assets):03d}.{ending}")

    html = _html(book, named, "'self' file:")
    (path / "assets").mkdir(parents=True)
    for content, name in assets.items():
        (path / name).write_bytes(content)
    (path / "index.html").write_text(html, encoding="utf-8", newline="\n")
    return path


MediaSource = Callable[[str, bytes], str]
"""Where a page finds a picture or a recording, given its media type and its content."""

_SPOKEN: Final = {mime: ending.removeprefix(".") for ending, mime in SPOKEN.items()}


def _html(book: Book, source: MediaSource, image_sources: str) -> str:
    page = _HtmlPage(book, source)
    labels = _CONTROLS.get(book.language.split("-")[0], _CONTROLS["en"])
    values = {
        "book": book,
        "source_type": SOURCES[book.made],
        "image_sources": image_sources,
        "width": number(page.width),
        "height": number(page.height),
        "faces": [_font(index, face) for index, face in enumerate(book.faces)],
        "leaves": [page.leaf(leaf) for leaf in book.leaves],
        "spoken": any(leaf.narration for leaf in book.leaves),
        "guided": any(leaf.guided for leaf in book.leaves),
        "ui": dict(
            zip(("pages", "back", "forth", "theme", "voice", "guided"), labels, strict=True)
        ),
    }
    return rendered("book.html", values)


@dataclass(frozen=True, slots=True)
class Segment:
    """Words between two places where a line may end: on the page, in the flow, or in both."""

    text: str
    joint: str
    on_page: bool
    in_flow: bool
    page_hyphen: bool = False
    flow_hyphen: bool = False


def segments(page_lines: Sequence[str], flow_lines: Sequence[str]) -> list[Segment]:
    """Cut one text at the line ends of both of its settings."""
    text = joined(page_lines)
    page_ends, flow_ends = _ends(page_lines), _ends(flow_lines)
    whole = drawn(text)
    cut: list[Segment] = []
    start = seen = 0
    for index, character in enumerate(text):
        if not drawn(character):
            continue
        seen += 1
        last = seen == whole
        on_page, in_flow = seen in page_ends, seen in flow_ends
        if not (on_page or in_flow or last):
            continue
        rest = unmarked(text[index + 1 :])
        joint = " " if not last and rest[:1].isspace() else ""
        end = len(text) if last else index + 1
        segment = Segment(
            text[start:end].strip(), joint, on_page and not last, in_flow and not last
        )
        hyphens = (page_ends.get(seen, False), flow_ends.get(seen, False))
        cut.append(replace(segment, page_hyphen=hyphens[0], flow_hyphen=hyphens[1]))
        start = index + 1
    return [
        replace(segment, text=piece)
        for segment, piece in zip(cut, carried([each.text for each in cut]), strict=True)
    ]


def _ends(lines: Iterable[str]) -> dict[int, bool]:
    """After how many characters a line ends, and whether it ends within a word."""
    ends: dict[int, bool] = {}
    total = 0
    for line in lines:
        total += drawn(line)
        ends[total] = divided(line)
    return ends


def _style(**properties: str | float) -> str:
    pairs = (
        (name.replace("_", "-"), value if isinstance(value, str) else number(value))
        for name, value in properties.items()
    )
    return ";".join(f"--{name}:{value}" for name, value in pairs)


def _data_uri(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def _font(index: int, face: Face) -> dict[str, str | int]:
    source = _data_uri(_MIME[face.web.suffix.lower()], face.web.read_bytes())
    return {"name": f"face-{index}", "weight": face.weight, "source": source}


@dataclass(frozen=True, slots=True)
class _HtmlPage:
    """Turns points of the page into what the template shows: percent, paths and data URIs."""

    book: Book
    source: MediaSource

    @property
    def width(self) -> float:
        """The page's width in points."""
        return self.book.trim.width * POINTS_PER_INCH

    @property
    def height(self) -> float:
        """The page's height in points."""
        return self.book.trim.height * POINTS_PER_INCH

    def leaf(self, leaf: Leaf) -> dict[str, object]:
        """What the template shows of one leaf.

        A `flowing` leaf gives up its places on a small screen, a `fixed` one is scaled, an `empty`
        one is left out.
        """
        tones = picture.tones(leaf.tone)
        empty = not leaf.pictures and not leaf.texts
        fixed = leaf.kind in {"cover", "back", "endpaper"}
        return {
            "kind": leaf.kind,
            "ground": leaf.ground,
            "number": leaf.number,
            "label": leaf.label,
            "guided": leaf.guided,
            "manner": "empty" if empty else "fixed" if fixed else "flowing",
            "style": _style(paper=tones.paper, deep=tones.deep, motif=tones.motif),
            "pictures": [self.picture(item) for item in leaf.pictures],
            "texts": [self.text(item, leaf) for item in leaf.texts],
            "narration": self.source(said.mime, said.path.read_bytes())
            if (said := leaf.narration)
            else None,
        }

    def rect(self, rect: Rect) -> dict[str, float]:
        """A rectangle in percent of the page."""
        return {
            "x": 100 * rect.x / self.width,
            "y": 100 * rect.y / self.height,
            "w": 100 * rect.width / self.width,
            "h": 100 * rect.height / self.height,
        }

    def picture(self, item: Picture) -> dict[str, object]:
        """What the template shows of one picture and its balloons."""
        crop = item.crop
        style = _style(
            **self.rect(item.frame),
            crop_x=100 * crop.x / crop.width,
            crop_y=100 * crop.y / crop.height,
            crop_w=100 / crop.width,
            crop_h=100 / crop.height,
            aspect=item.aspect,
        )
        small_height = SMALL / item.aspect
        return {
            "corner": item.corner,
            "border": item.border,
            "halved": item.halved,
            "style": style,
            "source": self.source("image/jpeg", picture.screen_jpeg(item)),
            "alt": item.alt or "",
            "width": item.art.width,
            "height": item.art.height,
            "small": bool(item.small),
            "page_shapes": shapes(item.balloons),
            "page_box": f"0 0 {number(self.width)} {number(self.height)}",
            "small_shapes": shapes(item.small),
            "small_box": f"0 0 {number(SMALL)} {number(small_height)}",
            "balloons": [
                self.balloon(said, item.small[index] if item.small else None, small_height)
                for index, said in enumerate(item.balloons)
            ],
        }

    def balloon(
        self, said: Balloon, small: Balloon | None, small_height: float
    ) -> dict[str, object]:
        """What the template shows of one balloon, on the page and on a small screen."""
        style: dict[str, str | float] = {
            **self.rect(said.text),
            "size": 100 * said.size / self.width,
        }
        if said.tilt:
            style["tilt"] = f"{number(said.tilt)}deg"
        if small is not None:
            style |= {
                "small_x": 100 * small.text.x / SMALL,
                "small_y": 100 * small.text.y / small_height,
                "small_w": 100 * small.text.width / SMALL,
                "small_size": 100 * small.size / SMALL,
            }
        return {
            "kind": said.kind,
            "speaker": said.speaker,
            "segments": self.segments(said.lines, small.lines if small else (), said.face),
            "style": f"{_style(**style, leading=said.leading)};{self.face(said.face)}",
        }

    def text(self, item: TextBlock, leaf: Leaf) -> dict[str, object]:
        """What the template shows of one block of words."""
        size = 100 * item.size / self.width
        style = _style(**self.rect(item.rect), size=size, leading=item.leading)
        return {
            "role": item.role,
            "align": item.align,
            "language": item.language,
            "tag": "p" if leaf.kind == "cover" else tag(item, leaf),
            "said_already": leaf.kind == "cover" and item.role == "title",
            "paragraphs": [self.segments(lines, (), item.face) for lines in paragraphs(item)],
            "style": f"{style};{self.face(item.face)}"
            + (f";--color:{item.color}" if item.color else ""),
            "colored": item.color is not None,
            "plate": _style(**self.rect(item.plate)) if item.plate else None,
            "ground": item.ground,
            "halo": item.halo,
            "initial": None
            if item.initial is None
            else {
                "letter": item.initial.letter,
                "style": _style(
                    initial=item.initial.size / item.size, room=item.initial.width / item.size
                ),
            },
        }

    def face(self, face: Face) -> str:
        """The style that picks a face."""
        return _style(face=font_family(face, self.book.faces), weight=face.weight)

    def segments(
        self, page_lines: Sequence[str], flow_lines: Sequence[str], face: Face
    ) -> list[dict[str, object]]:
        """The text cut at its line ends, each part with its words by style."""
        return [
            {
                "pieces": pieces(segment.text, face, self.book.faces),
                "joint": segment.joint,
                "on_page": segment.on_page,
                "in_flow": segment.in_flow,
                "page_hyphen": segment.page_hyphen,
                "flow_hyphen": segment.flow_hyphen,
            }
            for segment in segments(page_lines, flow_lines)
        ]
