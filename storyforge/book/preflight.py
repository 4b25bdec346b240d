"""Is the book fit to print? Pictures, bleed, gutter, letters, page count, and the finished PDF.

Judges the composed book and the file; colours and ink are not looked at. What each code means is
in the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from storyforge.book.compose import Sheet
from storyforge.book.inline import printed
from storyforge.book.leaf import Balloon, Book, Leaf, Picture, Rect, TextBlock
from storyforge.book.printers import Printer, printer_of
from storyforge.book.upscale import PRINT_PPI, inches
from storyforge.errors import EnvironmentProblem, Mark, Report
from storyforge.story.trims import POINTS_PER_INCH

LEAST_PPI: Final = 150
"""Below this, printed pictures look blurred at arm's length."""

_SLACK: Final = 0.5
"""Points by which a length may miss."""

_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Marks:
    """Where the story file speaks of what: its book, and each panel by its id."""

    book: Mark = Mark()
    panels: Mapping[str, Mark] = field(default_factory=dict)

    def panel(self, name: str) -> Mark:
        """Where a panel stands; the book's place if it is not known."""
        return self.panels.get(name, self.book)


def check_book(book: Book, marks: Marks, report: Report) -> None:
    """Report everything in the composed pages that a printer would send back."""
    printer = printer_of(book.trim)
    _check_ppi(book, printer, marks, report)
    _check_count(len(book.leaves), printer, marks, report)
    for leaf in book.leaves:
        sheet = Sheet(book.trim, outer_right=(leaf.number % 2 == 1) != (book.direction == "rtl"))
        for item in leaf.pictures:
            _check_bleed(item, sheet, leaf, marks, report)
        _check_words(book, leaf, sheet, printer, marks, report)


def _check_ppi(book: Book, printer: Printer | None, marks: Marks, report: Report) -> None:
    """Each panel once, where it is placed largest."""
    worst: dict[str, tuple[float, Picture, Leaf]] = {}
    for leaf in book.leaves:
        for item in leaf.pictures:
            ppi = item.art.width / inches(item)
            if ppi < worst.get(item.art.panel, (float("inf"),))[0]:
                worst[item.art.panel] = (ppi, item, leaf)
    for panel, (ppi, item, leaf) in worst.items():
        message = (
            f"{leaf.label}: `{panel}` has {item.art.width} pixels on {inches(item):.2f} inches, "
            f"{ppi:.0f} an inch"
        )
        if printer is not None and ppi < LEAST_PPI:
            hint = "draw it larger, or set `book.upscale`"
            report.error(marks.panel(panel), "SF502", f"{message}; print needs {LEAST_PPI}", hint)
        elif ppi < PRINT_PPI:
            hint = "`book.upscale: lanczos` makes it large enough for a printer"
            message = f"{message}; print wants {PRINT_PPI}"
            report.warning(marks.panel(panel), "SF501", message, hint)


def _check_count(pages: int, printer: Printer | None, marks: Marks, report: Report) -> None:
    if printer is None:
        return
    fewest, most = printer.pages
    limits = f"at least {fewest}" if most is None else f"{fewest} to {most}"
    if pages < fewest or (most is not None and pages > most):
        message = f"the book has {pages} pages; {printer.name} binds {limits}"
        report.error(marks.book, "SF503", message)
    if pages % printer.multiple:
        message = f"the book has {pages} pages; {printer.name} wants a multiple of"
        report.error(marks.book, "SF504", f"{message} {printer.multiple}")


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
        if printer and printer.smallest and item.size < printer.smallest:
            message = f"{leaf.label}: letters of {item.size:.1f} points; {printer.name} prints"
            report.error(mark, "SF507", f"{message} {printer.smallest:g} and more")


def _live(book: Book, sheet: Sheet, printer: Printer | None) -> Rect:
    """Where words may stand: inside the safe edge, and further from the fold in a thick book."""
    safe, cut = sheet.safe, sheet.cut
    gutter = printer.gutter(len(book.leaves)) * POINTS_PER_INCH if printer else 0.0
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
            boxes = [[float(edge) for edge in page.TrimBox] for page in pdf.pages]
    except pikepdf.PdfError as exc:
        raise EnvironmentProblem(f"cannot read `{path}` as a PDF") from exc
    for font in loose:
        report.error(marks.book, "SF509", f"the font `{font}` is not in the PDF")
    width, height = book.trim.width * POINTS_PER_INCH, book.trim.height * POINTS_PER_INCH
    for number, (left, bottom, right, top) in enumerate(boxes, start=1):
        if abs(right - left - width) > _SLACK or abs(top - bottom - height) > _SLACK:
            message = f"page {number} of the PDF is not cut to `{book.trim.name}`"
            report.error(marks.book, "SF510", message)
