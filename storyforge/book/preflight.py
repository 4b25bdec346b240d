"""Is the book fit to print? Pictures, bleed, gutter, letters, page count, and the finished PDF.

Judges the composed book and the file; colours and ink are not looked at. What each code means is
in the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from storyforge.book.compose import Sheet
from storyforge.book.faces import Marks, check_faces, check_known
from storyforge.book.inline import printed
from storyforge.book.leaf import Balloon, Book, Leaf, Picture, Rect, TextBlock
from storyforge.book.printers import Printer, printer_of
from storyforge.book.upscale import PRINT_PPI, inches
from storyforge.book.wrap import inside
from storyforge.errors import EnvironmentProblem, Report
from storyforge.story.trims import POINTS_PER_INCH

LEAST_PPI: Final = 150
"""Below this, printed pictures look blurred at arm's length."""

SMALLEST_STORY: Final = 14.0
"""Points; smaller letters are hard to read for children."""

STAPLED: Final = 4
"""Pages on one folded sheet of a stapled book."""

_MOST_STAPLED: Final = 64
"""Thicker books are glued, and need no multiple of `STAPLED`."""

__all__ = ["Marks", "check_book", "check_pdf"]

_SLACK: Final = 0.5
"""Points by which a length may miss."""

_MEGABYTE: Final = 1_000_000


def check_book(book: Book, marks: Marks, report: Report) -> None:
    """Report everything in the composed pages that a printer or a reader would send back."""
    printer = printer_of(book.trim)
    _check_ppi(book, printer, marks, report)
    _check_soft(book, marks, report)
    _check_count(len(inside(book).leaves), printer, marks, report)
    for leaf in book.leaves:
        sheet = Sheet(book.trim, outer_right=(leaf.number % 2 == 1) != (book.direction == "rtl"))
        for item in leaf.pictures:
            _check_bleed(item, sheet, leaf, marks, report)
        _check_words(book, leaf, sheet, printer, marks, report)
        check_faces(leaf, marks, report)
    check_known(book.leaves, marks, report)


def _check_ppi(book: Book, printer: Printer | None, marks: Marks, report: Report) -> None:
    """Pictures with too few pixels: those that are alike in one finding."""
    few: dict[tuple[int, str], list[tuple[float, str, str]]] = {}
    for panel, (ppi, item, leaf) in _largest(book).items():
        if ppi < PRINT_PPI:
            placed = f"{leaf.label}: {item.art.width} pixels on {inches(item):.2f} inches"
            hint = _larger(item, leaf, refused=printer is not None and ppi < LEAST_PPI)
            few.setdefault((item.art.width, hint), []).append((ppi, panel, placed))
    for (width, hint), places in few.items():
        ppi, panel, placed = min(places)
        mark = marks.panel(panel) if len(places) == 1 else marks.book
        message = f"`{panel}`, {placed}, {ppi:.0f} an inch"
        if len(places) > 1:
            names = _listed([name for _, name, _ in places])
            message = (
                f"{len(places)} pictures are {width} pixels wide: {ppi:.0f} an inch where they are "
                f"largest ({names})"
            )
        if printer is not None and ppi < LEAST_PPI:
            report.error(mark, "SF502", f"{message}; print needs {LEAST_PPI}", hint)
        else:
            report.warning(mark, "SF501", f"{message}; print wants {PRINT_PPI}", hint)


def _larger(item: Picture, leaf: Leaf, *, refused: bool) -> str:
    """How such a picture gets more pixels: portraits are never enlarged, and none is drawn."""
    if leaf.kind == "lives":
        return "give a larger picture of them in `book.people`"
    if refused:
        brought = item.art.made == "hand"
        return f"{'bring' if brought else 'draw'} them larger, or set `book.upscale`"
    return "`book.upscale: lanczos` makes them large enough for a printer"


def _largest(book: Book) -> dict[str, tuple[float, Picture, Leaf]]:
    """Each panel's picture where it is placed largest, with its pixels an inch there."""
    worst: dict[str, tuple[float, Picture, Leaf]] = {}
    for leaf in book.leaves:
        for item in leaf.pictures:
            ppi = item.art.width / inches(item)
            if ppi < worst.get(item.art.panel, (float("inf"),))[0]:
                worst[item.art.panel] = (ppi, item, leaf)
    return worst


def _check_soft(book: Book, marks: Marks, report: Report) -> None:
    """Pictures that have their pixels from enlargement: large enough, and soft all the same."""
    soft: dict[int, list[tuple[float, str]]] = {}
    for panel, (_, item, _) in _largest(book).items():
        width = marks.drawn.get(panel, item.art.width)
        if width < item.art.width and width / inches(item) < LEAST_PPI:
            soft.setdefault(width, []).append((width / inches(item), panel))
    for width, places in soft.items():
        ppi, panel = min(places)
        mark = marks.panel(panel) if len(places) == 1 else marks.book
        who = f"`{panel}` was" if len(places) == 1 else f"{len(places)} pictures were"
        message = f"{who} enlarged from {width} pixels, {ppi:.0f} an inch: soft in print"
        hint = "draw them larger, or enlarge them by a model (`book.upscale`)"
        report.warning(mark, "SF520", message, hint)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


_NAMED: Final = 4
"""Panels that one finding names."""


def _check_count(pages: int, printer: Printer | None, marks: Marks, report: Report) -> None:
    """The pages inside the cover: what is sent to the printer."""
    if printer is None:
        if pages % STAPLED and pages <= _MOST_STAPLED:
            more = STAPLED - pages % STAPLED
            message = f"{pages} pages inside the cover are no multiple of {STAPLED}"
            hint = f"to staple it, add {more}, such as `kind: blank`; a glued book may stay so"
            report.warning(marks.book, "SF521", message, hint)
        return
    fewest, most = printer.pages
    limits = f"at least {fewest}" if most is None else f"{fewest} to {most}"
    if pages < fewest or (most is not None and pages > most):
        message = f"the book has {pages} pages inside its cover; {printer.name} binds {limits}"
        report.error(marks.book, "SF503", message)


def _check_bleed(item: Picture, sheet: Sheet, leaf: Leaf, marks: Marks, report: Report) -> None:
    """A picture that reaches the cut has to reach the bleed."""
    cut, bled, frame = sheet.cut, sheet.bled, item.frame
    edges = {
        "left": (cut.x - frame.x, cut.x - bled.x),
        "top": (cut.y - frame.y, cut.y - bled.y),
        "right": (frame.right - cut.right, bled.right - cut.right),
        "bottom": (frame.bottom - cut.bottom, bled.bottom - cut.bottom),
    }
    short = [name for name, (over, wanted) in edges.items() if -1 < over < wanted - _SLACK]
    if short:
        message = f"{leaf.label}: `{item.art.panel}` reaches the cut and not the bleed at the"
        report.error(marks.panel(item.art.panel), "SF505", f"{message} {', '.join(short)}")


def _check_words(
    book: Book,
    leaf: Leaf,
    sheet: Sheet,
    printer: Printer | None,
    marks: Marks,
    report: Report,
) -> None:
    """Words keep off the cut and the fold, and are large enough to be printed."""
    live = _live(book, sheet, printer)
    texts: list[tuple[TextBlock | Balloon, str]] = [(text, "") for text in leaf.texts]
    texts += [(item, panel.art.panel) for panel in leaf.pictures for item in panel.balloons]
    for item, panel in texts:
        mark = marks.panel(panel)
        if not _inside(_extent(item), live):
            first = " ".join(map(printed, item.lines))[:30]
            message = f"{leaf.label}: “{first}” stands too near to the cut or the fold"
            report.error(mark, "SF506", message)
        if isinstance(item, TextBlock) and item.role == "story" and item.size < SMALLEST_STORY:
            message = f"{leaf.label}: its words are set at {item.size:g} points to fit"
            report.warning(mark, "SF522", f"{message}; for children {SMALLEST_STORY:g} and more")
        if printer and printer.smallest and item.size < printer.smallest:
            message = f"{leaf.label}: letters of {item.size:.1f} points; {printer.name} prints"
            report.error(mark, "SF507", f"{message} {printer.smallest:g} and more")


def _live(book: Book, sheet: Sheet, printer: Printer | None) -> Rect:
    """Where words may stand: inside the safe edge, and further from the fold in a thick book."""
    safe, cut = sheet.safe, sheet.cut
    gutter = printer.gutter(len(inside(book).leaves)) * POINTS_PER_INCH if printer else 0.0
    if sheet.outer_right:
        left = max(safe.x, cut.x + gutter)
        return Rect(left, safe.y, safe.right - left, safe.height)
    right = min(safe.right, cut.right - gutter)
    return Rect(safe.x, safe.y, right - safe.x, safe.height)


def _extent(item: TextBlock | Balloon) -> Rect:
    return item.rect if isinstance(item, TextBlock) else item.text


def _inside(rect: Rect, room: Rect) -> bool:
    return (
        rect.x >= room.x - _SLACK
        and rect.y >= room.y - _SLACK
        and rect.right <= room.right + _SLACK
        and rect.bottom <= room.bottom + _SLACK
    )


def check_pdf(book: Book, path: Path, marks: Marks, report: Report) -> None:
    """Report what is wrong with the finished file: its fonts, its page boxes, its size.

    Raises EnvironmentProblem if it is no PDF.
    """
    import pikepdf

    printer = printer_of(book.trim)
    size = path.stat().st_size / _MEGABYTE
    if printer and printer.megabytes and size > printer.megabytes:
        message = f"the PDF has {size:.0f} MB; {printer.name} takes {printer.megabytes}"
        report.error(marks.book, "SF508", message)
    try:
        with pikepdf.open(path) as pdf:
            loose = sorted(
                str(font.get("/FontName"))
                for font in pdf.objects
                if isinstance(font, pikepdf.Dictionary)
                and font.get("/Type") == pikepdf.Name.FontDescriptor
                and not any(name in font for name in ("/FontFile", "/FontFile2", "/FontFile3"))
            )
            boxes = [[float(edge) for edge in page.trimbox] for page in pdf.pages]
    except pikepdf.PdfError as exc:
        raise EnvironmentProblem(f"cannot read `{path}` as a PDF") from exc
    for font in loose:
        report.error(marks.book, "SF509", f"the font `{font}` is not in the PDF")
    width, height = book.trim.width * POINTS_PER_INCH, book.trim.height * POINTS_PER_INCH
    for number, (left, bottom, right, top) in enumerate(boxes, start=1):
        if abs(right - left - width) > _SLACK or abs(top - bottom - height) > _SLACK:
            message = f"page {number} of the PDF is not cut to `{book.trim.name}`"
            report.error(marks.book, "SF510", message)
