"""What every EPUB 3 consists of: its package document, navigation, fonts, pictures and metadata.

What its pages look like is `epub`'s and `reflow`'s.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import re
import uuid
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from storyforge.book import picture
from storyforge.book.archive import MADE_ON, archived, write_archive
from storyforge.book.cbz import page_pictures
from storyforge.book.colophon import RIGHT_TO_LEFT, spoken_in
from storyforge.book.leaf import Book, Face, Picture
from storyforge.book.markup import xml
from storyforge.book.recording import MIME as SPOKEN
from storyforge.book.recording import Recording
from storyforge.errors import StoryForgeError
from storyforge.provenance.xmp import SOURCES

_YEARS: Final = 20 * 365 * 24 * 3600
"""Seconds after `MADE_ON` over which books' dates are spread."""

_PACKAGE: Final = "EPUB/package.opf"
_WRITTEN: Final = "%Y-%m-%dT%H:%M:%SZ"
_DATE: Final = re.compile(rb'(?<=<meta property="dcterms:modified">)[^<]+(?=</meta>)')

BookLayout = Literal["fixed", "reflow"]

TYPES: Final = {
    "cover": "cover",
    "title": "titlepage",
    "imprint": "copyright-page",
    "colophon": "colophon",
}
"""What EPUB calls some kinds of leaves."""

_MIME: Final = {
    **SPOKEN,
    ".jpg": "image/jpeg",
    ".otf": "font/otf",
    ".ttf": "font/ttf",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}

_PAGES: Final = {"en": "Pages", "fr": "Pages", "de": "Seiten", "es": "Páginas", "he": "עמודים"}

_LAYOUTS: Final[dict[BookLayout, dict[str, str]]] = {
    "fixed": {
        "en": "Pages have a fixed layout.",
        "fr": "Les pages ont une mise en page fixe.",
        "de": "Die Seiten haben ein festes Layout.",
        "es": "Las páginas tienen un diseño fijo.",
        "he": "לעמודים פריסה קבועה.",
    },
    "reflow": {
        "en": "Letters, lines and colours can be changed.",
        "fr": "Les lettres, les lignes et les couleurs peuvent être changées.",
        "de": "Schrift, Zeilen und Farben lassen sich ändern.",
        "es": "Las letras, las líneas y los colores se pueden cambiar.",
        "he": "אפשר לשנות אותיות, שורות וצבעים.",
    },
}
_ACCESSIBILITY: Final = {
    "en": "Pictures are described in words, and all words, those in balloons too, are real text "
    "in the order of reading.",
    "fr": "Les images sont décrites, et tous les mots, même dans les bulles, sont du vrai texte "
    "dans l’ordre de lecture.",
    "de": "Bilder sind in Worten beschrieben, und alle Worte, auch die in Sprechblasen, sind "
    "echter Text in Lesereihenfolge.",
    "es": "Las imágenes se describen con palabras, y todas las palabras, también las de los "
    "globos, son texto real en orden de lectura.",
    "he": "התמונות מתוארות במילים, וכל המילים, גם אלה שבבועות, הן טקסט אמיתי בסדר הקריאה.",
}


@dataclass(slots=True)
class Files:
    """Pictures and fonts on their way into the book, each once, by name."""

    contents: dict[str, bytes] = field(default_factory=dict)
    names: dict[tuple[Path, int], str] = field(default_factory=dict)

    def face(self, face: Face) -> dict[str, str | int]:
        """Take in a font and its licence; what the style sheet says of it."""
        count = sum(name.startswith("face-") for name in self.contents)
        name = f"face-{count}"
        file = name + face.web.suffix.lower()
        self.contents[file] = face.web.read_bytes()
        licence = face.path.with_name(f"{face.path.stem.partition('-')[0]}-OFL.txt")
        if licence.is_file() and (licence, 0) not in self.names:
            self.names[licence, 0] = f"licence-{count}.txt"
            self.contents[f"licence-{count}.txt"] = licence.read_bytes()
        return {"name": name, "weight": face.weight, "file": file}

    def recording(self, item: Recording) -> str:
        """Take in a recording; the name it has in the book."""
        if (item.path, 0) not in self.names:
            count = sum(name.startswith("voice-") for name in self.contents)
            self.names[item.path, 0] = f"voice-{count:03d}{item.path.suffix.lower()}"
            self.contents[self.names[item.path, 0]] = item.path.read_bytes()
        return self.names[item.path, 0]

    def picture(self, item: Picture) -> str:
        """Take in a picture, large enough for its place; the name it has in the book."""
        key = (item.art.path, picture.screen_width(item))
        if key not in self.names:
            count = sum(name.startswith("picture-") for name in self.contents)
            self.names[key] = f"picture-{count:03d}.jpg"
            self.contents[self.names[key]] = picture.screen_jpeg(item)
        return self.names[key]


@dataclass(frozen=True, slots=True)
class Document:
    """One XHTML file of the book.

    drawn  whether it holds inline SVG
    side   on which side of the fold it lies, in a fixed layout
    spoken its words, read out, and the name of the recording in the book
    """

    name: str
    content: bytes
    drawn: bool
    side: str | None = None
    spoken: tuple[Recording, str] | None = None

    @property
    def overlay(self) -> str | None:
        """The file that lays its recording over it; None where there is none."""
        return f"{self.name}.smil" if self.spoken else None

    @property
    def seconds(self) -> str:
        """How long it is spoken."""
        return f"{self.spoken[0].seconds:.3f}s" if self.spoken else "0s"

    @property
    def file(self) -> str:
        """Its name in the archive."""
        return f"{self.name}.xhtml"


@dataclass(frozen=True, slots=True)
class NavigationLink:
    """Where a link of the navigation leads; `type` is EPUB's word for what is there."""

    file: str
    label: str
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """All that differs between the layouts; `places` are landmarks and table of contents.

    regions  what is looked at panel by panel, one part of a page after the other
    """

    layout: BookLayout
    documents: tuple[Document, ...]
    pages: tuple[NavigationLink, ...]
    places: tuple[NavigationLink, ...]
    style: bytes
    files: Files
    regions: tuple[str, ...] = ()


def write_package(book: Book, content: Content, path: Path) -> Path:
    """Write the archive, whole or not at all.

    Raises StoryForgeError if a text holds a control character, or the book has no title.
    """
    if not book.title.strip():
        raise StoryForgeError("an EPUB needs a title", hint="write one as `title`")
    navigation = {
        "book": book,
        "leaves": content.pages,
        "contents": content.places,
        "pages": _PAGES[spoken_in(book.language)],
    }
    (cover,) = page_pictures(book, book.leaves[:1])
    inside = {
        "nav.xhtml": xml("epub/nav.xhtml", navigation, "table of contents"),
        "style.css": content.style,
        **{document.file: document.content for document in content.documents},
        **_overlays(content.documents),
        **_guide(book, content.regions),
        "cover.jpg": cover.content,
        **content.files.contents,
    }
    return write_archive(
        path,
        {
            "mimetype": b"application/epub+zip",
            "META-INF/container.xml": xml("epub/container.xml", {}, "container"),
            _PACKAGE: xml("epub/package.opf", _about(book, content, inside), "metadata"),
            **{f"EPUB/{name}": data for name, data in inside.items()},
        },
    )


def _guide(book: Book, regions: Sequence[str]) -> dict[str, bytes]:
    """The way through the panels (EPUB Region-Based Navigation 1.0), where pages have several."""
    said = {"book": book, "regions": regions}
    return {"regions.xhtml": xml("epub/regions.xhtml", said, "panels")} if regions else {}


def _overlays(documents: Sequence[Document]) -> dict[str, bytes]:
    """What plays each page's recording while the page is shown, by its file's name."""
    return {
        f"{document.name}.smil": xml(
            "epub/overlay.smil",
            {"file": document.file, "voice": document.spoken[1], "end": document.seconds},
            document.name,
        )
        for document in documents
        if document.spoken
    }


def _identifier(book: Book, layout: BookLayout) -> str:
    """The e-book's ISBN, else a name that stays the story's whatever is changed in it.

    Two books of one identifier are one book to a shelf, so each layout has its own.
    """
    if book.published.isbn_ebook and layout == "fixed":
        return f"urn:isbn:{book.published.isbn_ebook}"
    named = [book.title, book.author, book.language]
    named += [] if layout == "fixed" else [layout]
    return uuid.uuid5(uuid.NAMESPACE_URL, f"storyforge:{json.dumps(named)}").urn


def _modified(inside: Mapping[str, bytes]) -> str:
    """When the book was changed last, told by what is in it: other contents, another time.

    No clock: the same book is the same bytes on any day, and reading systems that keep a book until
    its date changes show the new one. Which of two is later is not told: see `edition`.
    """
    digest = hashlib.sha256()
    for name, content in inside.items():
        digest.update(f"{name} {len(content)} ".encode() + content)
    seconds = int.from_bytes(digest.digest()[:8]) % _YEARS
    return (MADE_ON + datetime.timedelta(seconds=seconds)).strftime(_WRITTEN)


def edition(new: bytes, former: bytes) -> bytes:
    """An EPUB that takes the place of a former one, and is not older than that.

    Shelves take of two files of one identifier the one that was modified later. So a changed book
    is, by a second if its own time says otherwise; one in which nothing changed stays as it is.
    """
    before, after = _opened(former), _opened(new)
    old, own = _date_in(before), _date_in(after)
    if old is None or own is None:
        return new
    if _undated(before) == _undated(after):
        return former
    if own > old:
        return new
    later = (old + datetime.timedelta(seconds=1)).strftime(_WRITTEN)
    return archived({**after, _PACKAGE: _DATE.sub(later.encode(), after[_PACKAGE], count=1)})


def _opened(archive: bytes) -> dict[str, bytes]:
    """The files in an archive, in their order; none in what is no archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as file:
            return {name: file.read(name) for name in file.namelist()}
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, zlib.error, NotImplementedError):
        return {}


def _date_in(files: Mapping[str, bytes]) -> datetime.datetime | None:
    """When an EPUB says that it was modified."""
    found = _DATE.search(files.get(_PACKAGE, b""))
    try:
        said = found[0].decode() if found else ""
        return datetime.datetime.strptime(said, _WRITTEN).replace(tzinfo=datetime.UTC)
    except ValueError:
        return None


def _undated(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {**files, _PACKAGE: _DATE.sub(b"", files[_PACKAGE])}


def _about(book: Book, content: Content, inside: Mapping[str, bytes]) -> dict[str, object]:
    """What the package document says of the book and lists."""
    said_in = spoken_in(book.language)
    return {
        "book": book,
        "layout": content.layout,
        "identifier": _identifier(book, content.layout),
        "modified": _modified(inside),
        "notice_dir": "rtl" if book.notice_in in RIGHT_TO_LEFT else "ltr",
        "source": SOURCES[book.made],
        "accessibility": f"{_LAYOUTS[content.layout][said_in]} {_ACCESSIBILITY[said_in]}",
        "leaves": content.documents,
        "guided": bool(content.regions),
        "spoken": f"{sum(d.spoken[0].seconds for d in content.documents if d.spoken):.3f}s",
        "resources": [
            {"id": Path(name).stem, "file": name, "mime": _MIME[Path(name).suffix]}
            for name in content.files.contents
        ],
    }
