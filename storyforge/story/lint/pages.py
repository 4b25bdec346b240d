"""What the pages and the book's settings get wrong: kinds, grids, ids, words that are missing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from storyforge.errors import Report, StoryForgeError, shortened
from storyforge.modelref import HUB_ID, PictureSize, is_embedded
from storyforge.pictures import beside
from storyforge.story.families import FAMILIES
from storyforge.story.gridform import room_in
from storyforge.story.icc import PressProfile
from storyforge.story.lint.cast import no_such, regions_of
from storyforge.story.lint.paths import check_own_picture, located
from storyforge.story.trims import PAPERED, PRINTED, TRIMS, USUAL_TRIM
from storyforge.story.yaml import Node

LONGEST_PROMPT: Final = 60
"""Words; text encoders of the CLIP family read 75 tokens, and a word is often more than one."""

ONE_PICTURE: Final = ("full-bleed", "spread", "text-beside-art")
"""Kinds of page that show exactly one picture."""

_NO_ROWS: Final = (*ONE_PICTURE, "art-over-text", "strip", "blank")

FIRST_PAGE: Final = 4
"""The book's page on which the story begins, after cover, endpaper and title page."""

ON_IMPRINT: Final = ("publisher", "edition", "rights", "isbn", "notes")
"""What of `book.published` stands on a page of its own, behind the title page."""

_TYPED: Final = re.compile(
    r"""(?<!\w)"\w|\w[.,!?]?"|\s--\s|(?<![\w*])\*{1,3}\w[^*]*\w\*{1,3}(?![\w*])"""
)

_FONT_FILES: Final = (".ttf", ".otf")

_SAID_ANYWAY: Final = ("image of", "picture of", "photo of", "illustration of", "drawing of")
"""How descriptions begin that say again what every screen reader says."""


def check_page(page: Node, report: Report) -> None:
    """Whether the page's kind and grid suit what is on it."""
    panels = list(page.each("panels"))
    insets = [panel for panel in panels if panel.get("inset") is not None]
    count = len(panels) - len(insets)
    if insets and panels[0] is insets[0]:
        message = "`inset` lays a panel over the one before it, and here is none; take it out"
        report.error(insets[0].mark_of("inset"), "SF337", message)
        count += 1
    elif insets and page.text_at("kind") == "spread" and count == 1:
        message = "no panel lies over the picture of a spread; leave out this panel, or `kind`"
        report.error(insets[0].mark_of("inset"), "SF337", message)
    kind, grid = page.get("kind"), page.get("grid")
    words, named = _says_something(page.get("text")), page.text_at("kind")
    if named == "blank" and kind is not None and (count or words):
        message = "a `blank` page holds no panels and no text; leave out `kind`, or what is on it"
        report.error(kind.mark, "SF315", message)
    elif named in ONE_PICTURE and kind is not None and count != 1:
        message = (
            f"`{named}` shows one picture, and this page has {count or 'none'}; leave out `kind`"
        )
        report.error(kind.mark, "SF316", message)
    elif named in {"grid", "strip", "art-over-text"} and kind is not None and not count:
        report.warning(kind.mark, "SF413", f"`{named}` means nothing on a page without panels")
    if not count and not words and named != "blank" and page.entries is not None:
        message = "nothing is on this page; mark it `kind: blank` if that is meant"
        report.warning(page.mark, "SF408", message)
    if grid is not None and grid.text is not None:
        _check_grid(grid, grid.text, named, count, report)
    _check_place(page, named, count, words, report)


def _check_place(page: Node, kind: str | None, count: int, words: bool, report: Report) -> None:
    """Whether there is anything to place where `text_place` and `gutter` say."""
    if page.get("text_place") is not None:
        why = None if words else "without words"
        if words and not count:
            why = "without a picture"
        elif words and kind == "text-beside-art":
            why = f"beside `kind: {kind}`"
        if why is not None:
            message = f"`text_place` means nothing {why}; take it out"
            report.warning(page.mark_of("text_place"), "SF413", message)
    if page.get("gutter") is not None and count < 2:
        message = "`gutter` means nothing on a page with fewer than two pictures; take it out"
        report.warning(page.mark_of("gutter"), "SF413", message)


def check_uncut(root: Node, pages: Sequence[Node], report: Report) -> None:
    """Whether pictures that are to show whole stand where they can be: spreads are filled."""
    cover = (root.get("book") or root).get("cover")
    panels = [panel for page in pages for panel in page.each("panels")]
    front = (cover and cover.text_at("panel")) or (panels[0].text_at("id") if panels else None)
    for page in pages:
        for panel in page.each("panels"):
            if panel.text_at("fit") != "contain":
                continue
            name = panel.text_at("id")
            if page.text_at("kind") == "spread":
                message = "`fit: contain` is not obeyed on a spread, which the picture fills"
                remedy = "take it out, or choose another `kind`"
                report.warning(panel.mark_of("fit"), "SF440", f"{message}; {remedy}")
            elif cover is not None and name is not None:
                _check_uncut_on(cover, name, front, report)


def _check_uncut_on(cover: Node, name: str, front: str | None, report: Report) -> None:
    """Whether the cover shows a picture whole that is to show whole."""
    message = f"`{shortened(name)}` is to show whole (`fit: contain`), and is cropped on"
    if name == front and cover.text_at("design") in {"overlay", "band"}:
        remedy = "choose `design: framed`, or another panel"
        mark = cover.mark_of("design")
        report.warning(mark, "SF440", f"{message} this design of the cover; {remedy}")
    if name == cover.text_at("back"):
        remedy = "choose another panel"
        report.warning(cover.mark_of("back"), "SF440", f"{message} the back cover; {remedy}")


def first_page(root: Node) -> int:
    """The book's page on which the story begins: one later if the book says who publishes it."""
    said = (root.get("book") or root).get("published")
    return FIRST_PAGE + (said is not None and any(said.get(key) for key in ON_IMPRINT))


def check_typed(root: Node, pages: Sequence[Node], report: Report) -> None:
    """Whether quotes, dashes and stars are typed that would be printed as they are."""
    if (root.get("book") or root).get("typography") is not None:
        return
    for page in pages:
        said = [speech.get("text") for panel in page.each("panels") for speech in panel.each("say")]
        for text in filter(None, [page.get("text"), *said]):
            words = [text, *(text.entries or {}).values()]
            if any(_TYPED.search(each.text or "") for each in words):
                message = "straight quotes, `--` and `*stars*` are printed as they are typed"
                remedy = "`book: {typography: smart}` sets them as quotes, dashes and italics"
                report.warning(text.mark, "SF423", f"{message}; {remedy}")
                return


def check_sides(pages: Sequence[Node], number: int, report: Report) -> None:
    """Whether every spread begins on an even page: only these have the other beside them.

    number  the book's page on which the story begins
    """
    for page in pages:
        kind = page.get("kind")
        if kind is None or kind.text != "spread":
            number += 1
            continue
        if number % 2:
            message = f"this spread would begin on page {number} of the book, whose other half is"
            remedy = "put one page more or less before it, such as `kind: blank`"
            report.error(kind.mark, "SF321", f"{message} behind it; {remedy}")
            number += 1
        number += 2


def _check_grid(grid: Node, shape: str, kind: str | None, count: int, report: Report) -> None:
    try:
        cells = room_in(shape)
    except ValueError:
        return
    if cells < count:
        message = f"a grid of {shape} has room for {cells}, and this page has {count} panels"
        report.error(grid.mark, "SF314", message)
    elif kind in _NO_ROWS:
        message = f"`grid: {shape}` and `kind: {shortened(kind or '')}` ask for different pages"
        report.error(grid.mark, "SF320", f"{message}; leave out one of them")
    elif not count:
        report.warning(grid.mark, "SF413", "`grid` means nothing on a page without panels")


def _says_something(text: Node | None) -> bool:
    if text is None:
        return False
    words = [text, *(text.entries or {}).values()]
    return any((each.text or "").strip() for each in words)


def check_panel(panel: Node, cell: int, report: Report) -> None:
    """Whether the panel asks for something, in a size that the model can draw.

    cell  pixels along a side of the picture that are one of the model's
    """
    if panel.get("picture") is not None:
        _check_unsaid(panel, _DRAWN_ONLY, "where the panel shows a picture of your own", report)
        _check_words_said(panel, report)
        return
    _check_unsaid(panel, ("made", "fit"), "without a `picture`", report)
    asked = [panel.text_at("scene"), panel.text_at("prompt")]
    for _, region in regions_of(panel):
        asked += [region.text_at("concept"), region.text_at("prompt")]
    if not any(asked) and panel.entries is not None:
        message = "this panel asks for no picture; give it a `prompt`, a `scene` or `regions`"
        report.warning(panel.mark, "SF414", message)
    check_size(panel, cell, report)
    _check_words_said(panel, report)


_DRAWN_ONLY: Final = (
    *("negative", "take", "steps", "guidance_scale", "seed", "size", "control", "refine"),
)
"""Keys of a panel that say how it is drawn."""


def _check_unsaid(panel: Node, keys: Sequence[str], why: str, report: Report) -> None:
    for key in keys:
        if panel.get(key) is not None:
            message = f"`{key}` means nothing {why}; take it out"
            report.warning(panel.mark_of(key), "SF435", message)


def _check_words_said(panel: Node, report: Report) -> None:
    for speech in panel.each("say"):
        text = speech.get("text")
        if text is not None and not text.empty and not _says_something(text):
            report.warning(text.mark, "SF415", "this balloon says nothing")


def check_decode(root: Node, size: PictureSize, report: Report) -> int:
    """Whether the base writes pictures as large as `decode` asks for.

    Returns the pixels along a side of a picture that are then one of the model's.
    """
    asked = (root.get("sampling") or root).get("decode")
    written = (asked and asked.text) or ""
    if asked is None or not written.isdecimal():
        return size.scale
    if (side := int(written[:9])) not in size.sides:
        sides = ", ".join(map(str, size.sides))
        message = f"this base does not draw its picture with {side} pixels a side"
        report.error(asked.mark, "SF325", f"{message}; write {sides}, or leave `decode` out")
        return size.scale
    return side // size.cells


def check_size(node: Node, cell: int, report: Report) -> None:
    """Whether pictures of the size asked for can be drawn to the last pixel."""
    for side in node.each("size"):
        written = side.text or ""
        if written.isdecimal() and int(written[:9]) % cell:
            lower = int(written[:9]) // cell * cell
            message = f"this base draws sides that are multiples of {cell}; write {lower or cell}"
            report.warning(side.mark, "SF416", message)


def check_alt(panels: Sequence[Node], report: Report) -> None:
    """Whether those who do not see the pictures hear of each what it shows."""
    lines: dict[str, int] = {}
    for panel in panels:
        alt, decorative = panel.get("alt"), _is_on(panel.text_at("decorative"))
        if not _says_something(alt):
            if not decorative:
                name = panel.text_at("id")
                about = f"panel `{shortened(name)}`" if name else "this panel"
                remedy = "say in words what it shows, or mark it `decorative: true`"
                report.warning(panel.mark, "SF400", f"{about} has no `alt`; {remedy}")
            continue
        if alt is None:
            continue
        if decorative:
            message = "`alt` is not read where `decorative` is true; keep one of the two"
            report.warning(panel.mark_of("alt"), "SF417", message)
        for said in [alt, *(alt.entries or {}).values()]:
            _check_words(said, lines, report)


def _check_words(alt: Node, lines: dict[str, int], report: Report) -> None:
    words = " ".join((alt.text or "").split()).casefold()
    start = words.removeprefix("an ").removeprefix("a ").removeprefix("the ")
    if start.startswith(_SAID_ANYWAY):
        message = "a screen reader says by itself that this is a picture; begin with what it shows"
        report.warning(alt.mark, "SF419", message)
    if words and words in lines:
        message = f"the same words as for the panel on line {lines[words]}"
        report.warning(alt.mark, "SF418", f"{message}; say what is different here")
    lines.setdefault(words, alt.mark.line)


def _is_on(text: str | None) -> bool:
    return (text or "").lower() in {"true", "yes", "on", "1", "t", "y"}


def check_ids(root: Node, panels: Iterable[Node], report: Report) -> None:
    """Whether every panel's id is its own, and the cover shows one of them."""
    lines: dict[str, int] = {}
    for panel in panels:
        node = panel.get("id")
        if node is None or node.text is None:
            continue
        if node.text in lines:
            first = f"the first is on line {lines[node.text]}"
            message = f"two panels have the id `{shortened(node.text)}`; {first}"
            report.error(node.mark, "SF306", message)
        lines.setdefault(node.text, node.mark.line)
    cover = (root.get("book") or root).get("cover")
    shown = None if cover is None else cover.get("panel")
    for named in (shown, None if cover is None else cover.get("back")):
        if named is not None and named.text is not None and named.text not in lines:
            report.error(named.mark, "SF310", no_such("panel", named.text, lines))
    if shown is not None and shown.text is not None:
        return
    if cover is not None and cover.entries is not None and shown is None:
        first_panel = next(iter(lines), None)
        taken = f"panel `{shortened(first_panel)}` is taken" if first_panel else "it shows none"
        report.warning(cover.mark, "SF409", f"the cover names no `panel`; {taken}")


def check_book(root: Node, folder: Path, report: Report) -> None:
    """Whether page size, font and enlarging model exist, and every format is asked for once."""
    book = root.get("book")
    if book is None:
        return
    trim, font = book.get("trim"), book.get("font")
    if trim is not None and trim.text is not None and trim.text not in TRIMS:
        report.error(trim.mark, "SF312", no_such("page size", trim.text, TRIMS))
    for each in (font, book.get("title_font")):
        if each is not None and each.text is not None:
            _check_font(each, each.text, folder, report)
    _check_upscale(book.get("upscale"), folder, report)
    _check_profile(book.get("print"), folder, report)
    for person in book.each("people"):
        check_own_picture(person, folder, report)
    seen: dict[str, Node] = {}
    for form in book.each("formats"):
        if form.text is not None and form.text in seen:
            report.warning(form.mark, "SF420", f"`{shortened(form.text)}` is listed twice")
        seen.setdefault(form.text or "", form)
    _check_spine(book, seen.get("cover"), report)


def _check_spine(book: Node, cover: Node | None, report: Report) -> None:
    """Whether the cover that is asked for, or that a printer will ask for, can have a spine."""
    trim, said = book.get("trim"), book.get("print")
    if said is not None and (said.get("paper") or said.get("caliper")):
        return
    name = USUAL_TRIM if trim is None else trim.text
    if name is not None and (name not in TRIMS or name.startswith(PAPERED)):
        return
    size = "this page size" if name is None else f"`{name}`"
    message = f"how thick a page is, and with it the spine, is not known for {size}"
    hint = "write `book.print.caliper`, in inches a page; your printer's cover template has it"
    if cover is not None:
        report.error(cover.mark, "SF339", message, hint)
    elif trim is not None and name is not None and name.startswith(PRINTED):
        report.warning(trim.mark, "SF441", f"{message}: no cover wrap can be made", hint)


def _check_font(font: Node, name: str, folder: Path, report: Report) -> None:
    if name.casefold() in {family.casefold() for family in FAMILIES}:
        return
    if not name.lower().endswith(_FONT_FILES):
        known = ", ".join(f"`{family}`" for family in FAMILIES)
        message = no_such("font", name, FAMILIES)
        report.error(font.mark, "SF313", f"{message}; known are {known}, or name a .ttf or .otf")
        return
    path = located(font, folder, "file", report)
    if path is not None and not os.path.isfile(path):
        report.error(font.mark, "SF303", f"no font file at `{path}`")


def _check_profile(said: Node | None, folder: Path, report: Report) -> None:
    """Whether the press's profile is there, and named where its inks are asked for."""
    profile = None if said is None else said.get("profile")
    if said is not None and profile is None and said.text_at("colors") == "cmyk":
        message = "`colors: cmyk` needs the press's `profile`, an ICC file"
        report.error(said.mark_of("colors"), "SF202", message)
    path = located(profile, folder, "file", report) if profile is not None else None
    if said is None or profile is None or path is None:
        return
    if not os.path.isfile(path):
        report.error(profile.mark, "SF303", f"no colour profile at `{path}`")
        return
    try:
        found = PressProfile.read(path)
        if said.text_at("colors") == "cmyk":
            found.check_cmyk()
    except StoryForgeError as exc:
        report.error(profile.mark, "SF336", f"{exc.message}; {exc.hint}")


def _check_upscale(upscale: Node | None, folder: Path, report: Report) -> None:
    if upscale is None or upscale.text in {None, "none", "lanczos"}:
        return
    if not os.path.isfile(beside(folder, upscale.text or "")):
        message = no_such("way of enlarging", upscale.text or "", ("none", "lanczos"))
        known = "`book.upscale` is `none`, `lanczos`, or a model file beside the story"
        report.error(upscale.mark, "SF303", f"{message}; {known}")


def check_base(root: Node, folder: Path, report: Report) -> None:
    """Whether a base that can only be a file or folder of this machine is there."""
    base = root.get("base")
    if base is not None and base.entries is not None:
        base = base.get("model")
    if base is None or base.text is None or is_embedded(base.text):
        return
    is_path = base.text.startswith((".", "/", "~")) or base.text.endswith(".safetensors")
    there = os.path.exists(beside(folder, base.text))
    if not is_path and not there and not HUB_ID.fullmatch(base.text):
        remedy = "`base` is `pocket`, a folder, a .safetensors file or a hub id, `owner/name`"
        report.error(base.mark, "SF330", f"{no_such('base', base.text, ('pocket',))}; {remedy}")
    elif is_path and not there:
        message = f"no model at `{shortened(base.text)}` on this machine; nothing can be drawn"
        report.warning(base.mark, "SF421", message)


_STRANGE: Final = (
    # syntax of other programs -> what it is there, and what is done here
    (re.compile(r"<(?:lora|lyco|hypernet):[^>]*>"), "list the file under `sampling: {lora: …}`"),
    (re.compile(r"\bBREAK\b|\bAND\b"), "give each part a region of its own"),
    (re.compile(r"\{[^{}]*\|[^{}]*\}|__[\w/-]+__"), "write one of the words"),
    (re.compile(r"\[[^\[\]|]+\|[^\[\]]+\]"), "write one of the words"),
    (re.compile(r"\)\.(?:blend|and|swap)\("), "write one prompt"),
    (re.compile(r"\bembedding:[\w.-]+"), "list the file under `characters:` and write `<name>`"),
    (re.compile(r"\[[^\[\]:]*:[^\[\]]*:?\s*[\d.]+\]"), "write what is seen in the end"),
)


def check_syntax(node: Node, report: Report) -> None:
    """Whether a prompt is written for another program; weights in brackets are read."""
    for key in ("prompt", "style", "negative"):
        text = node.get(key)
        for pattern, remedy in _STRANGE:
            for found in pattern.finditer((text.text if text is not None else None) or ""):
                if text is not None and not report.full:
                    mark = text.mark_within(found.start())
                    message = f"`{shortened(found[0])}` is another program's, read letter by letter"
                    report.warning(mark, "SF434", f"{message} here; {remedy}")


def check_length(node: Node, report: Report) -> None:
    """Whether the model reads the node's prompts to their ends."""
    for key in ("prompt", "style", "negative"):
        words = len((node.text_at(key) or "").split())
        if words > LONGEST_PROMPT:
            message = f"`{key}` has {words} words; models read about {LONGEST_PROMPT}"
            report.warning(node.mark_of(key), "SF404", message)
