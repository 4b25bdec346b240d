"""Every page as it will be bound, before anything is drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from storyforge.engine.books import art_of
from storyforge.engine.engine import Engine
from storyforge.executor import silent
from storyforge.plan.plan import Plan
from storyforge.plan.status import missing
from storyforge.plan.takes import picture_of
from storyforge.project.output import file_of
from storyforge.store import Store, write_whole
from storyforge.story.locales import check_edition
from storyforge.story.story import Story

if TYPE_CHECKING:
    from storyforge.book.leaf import Art
    from storyforge.book.preview.drawing import Proof


def write_proofs(
    story: Story,
    formats: Sequence[str],
    language: str | None,
    art: Mapping[str, Art],
    out: Path | None,
    *,
    unshown: Collection[str] = (),
) -> tuple[Path, ...]:
    """Lay out every page as it will be bound, before anything is drawn; the files that show it.

    formats  `png`, `pdf` and `html`
    art      pictures that exist, by panel; they are shown beneath, but for those `unshown`

    Raises StoryForgeError for a language that no text of the story has.
    """
    from storyforge.book.preview import typeset, web
    from storyforge.book.preview.pages import proof_of

    check_edition(language, story.languages())
    made = proof_of(story, language, art, unshown=unshown)
    tongue = "" if made.language == story.language else f".{made.language}"
    first = file_of(story, out, f"{tongue}.proof")
    folder, name = first.parent, first.name
    files: list[Path] = []
    if "png" in formats:
        files += _pngs(made, folder / name)
    if "pdf" in formats:
        files.append(folder / f"{name}.pdf")
        write_whole(files[-1], typeset.pdf(made))
    if "html" in formats:
        files.append(folder / f"{name}.html")
        write_whole(files[-1], web.html(made))
    return tuple(files)


def art_there(plan: Plan, store: Store, *, drawn: bool) -> dict[str, Art]:
    """The author's own pictures by panel, and if wanted those that are drawn already."""
    engine = Engine(plan, store, silent)
    with store.at_work():
        engine.maker.take_own(missing(plan, store).own)
    pairs = [(task.panel, task.key) for task in plan.pictures() if drawn or task in plan.own]
    found = {panel: picture_of(plan, store, panel, key) for panel, key in pairs}
    return {panel: art_of(panel, path) for panel, path in found.items() if path is not None}


def _pngs(proof: Proof, folder: Path) -> list[Path]:
    """Write every page to a folder, and contact sheets beside it; only some are held at a time."""
    from storyforge.book.preview import typeset

    files = [folder / f"{each.name}.png" for each in proof.drawings]
    sheets: list[Path] = []
    spreads = proof.spreads()
    for start in range(0, len(spreads), typeset.SHEET_SPREADS):
        some = spreads[start : start + typeset.SHEET_SPREADS]
        places = sorted(place for spread in some for place in spread)
        pages = typeset.pngs([proof.drawings[place] for place in places])
        for place, page in zip(places, pages, strict=True):
            write_whole(files[place], page)
        number = f"-{len(sheets) + 1}" if sheets else ""
        sheets.append(folder.with_name(f"{folder.name}{number}.png"))
        shown = dict(zip(places, pages, strict=True))
        lying = [[shown[place] for place in spread] for spread in some]
        write_whole(sheets[-1], typeset.contact_sheet(lying))
    old = set(folder.glob("[0-9][0-9]*-*.png")) | set(folder.parent.glob(f"{folder.name}-*.png"))
    for path in old - {*files, *sheets}:
        path.unlink()
    return [*files, *sheets]
