"""A composed book as a reflowable EPUB 3: the story in one column, letters as large as one likes.

Pictures stand whole, what is said in them follows as lines of dialogue, and places where printed
pages begin are marked. Balloons are not drawn: they belong to a page of known size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storyforge.book.epub import in_reading_order
from storyforge.book.inline import carried, unmarked
from storyforge.book.leaf import Book, Leaf, Picture, TextBlock
from storyforge.book.markup import joined, pieces, tag, xml
from storyforge.book.package import TYPES, Content, Document, Files, NavigationLink, write_package

_FILES: Final = {
    "cover": "cover-page",
    "title": "title-page",
    "imprint": "imprint",
    "colophon": "colophon",
    "back": "back-cover",
}
_STORY: Final = "story"


def write_reflow(book: Book, path: Path) -> Path:
    """Write the book to `path`, whole or not at all; the same book, the same bytes.

    Raises StoryForgeError if a picture cannot be read, a text holds a control character, or the
    book has no title.
    """
    files = Files()
    faces = [files.face(face) for face in book.faces]
    body = _body_face(book)
    chapters = _chapters(book)
    documents = tuple(
        Document(
            name=name,
            content=xml("epub/reflow.xhtml", _values(book, leaves, files), leaves[0].label),
            drawn=False,
        )
        for name, leaves in chapters.items()
    )
    style = {"faces": faces, "body": f"face-{body}" if body is not None else None}
    content = Content(
        layout="reflow",
        documents=documents,
        pages=tuple(
            NavigationLink(f"{name}.xhtml#page-{leaf.number}", leaf.label)
            for name, leaves in chapters.items()
            for leaf in leaves
        ),
        places=tuple(_place(book, name, leaves[0]) for name, leaves in chapters.items()),
        style=xml("epub/reflow.css", style, "style sheet"),
        files=files,
    )
    return write_package(book, content, path)


def _chapters(book: Book) -> dict[str, list[Leaf]]:
    """The leaves that say or show something, by the file they stand in, in order."""
    chapters: dict[str, list[Leaf]] = {}
    for leaf in book.leaves:
        if leaf.pictures or leaf.texts:
            chapters.setdefault(_FILES.get(leaf.kind, _STORY), []).append(leaf)
    return chapters


def _place(book: Book, name: str, leaf: Leaf) -> NavigationLink:
    if name == _STORY:
        return NavigationLink(f"{name}.xhtml", book.title, "bodymatter")
    return NavigationLink(f"{name}.xhtml", leaf.label, TYPES.get(leaf.kind))


def _body_face(book: Book) -> int | None:
    """Which face most readers of the printed page read: that of the story's words."""
    texts = [text for leaf in book.leaves for text in leaf.texts if text.role == "story"]
    return book.faces.index(texts[0].face) if texts else None


def _values(book: Book, leaves: list[Leaf], files: Files) -> dict[str, object]:
    """What the template shows of one file."""
    shown = [
        {
            "number": leaf.number,
            "label": leaf.label,
            "kind": leaf.kind,
            "parts": [
                _picture(part, files, book)
                if isinstance(part, Picture)
                else _words(part, leaf, book)
                for part in in_reading_order(leaf, rtl=book.direction == "rtl")
                if isinstance(part, Picture) or part.role != "folio"
            ],
        }
        for leaf in leaves
    ]
    first = leaves[0]
    kind = TYPES.get(first.kind, "bodymatter")
    return {"book": book, "type": kind, "label": first.label, "leaves": shown}


def _picture(item: Picture, files: Files, book: Book) -> dict[str, object]:
    """What the template shows of a picture and of what is said in it."""
    return {
        "is_picture": True,
        "file": files.picture(item),
        "alt": item.alt or "",
        "small": item.corner == "circle",
        "said": [
            {
                "kind": said.kind,
                "speaker": said.speaker,
                "pieces": pieces(joined(said.lines), said.face, book.faces),
            }
            for said in item.balloons
        ],
    }


def _words(item: TextBlock, leaf: Leaf, book: Book) -> dict[str, object]:
    """What the template shows of one block of words, its own line ends forgotten."""
    return {
        "is_picture": False,
        "role": item.role,
        "tag": tag(item, leaf),
        "language": item.language,
        "paragraphs": [
            pieces(line, item.face, book.faces)
            for line in carried([line.strip() for line in item.text.splitlines()])
            if unmarked(line)
        ],
    }
