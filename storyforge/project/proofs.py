"""Every page as it will be bound, before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from storyforge.project.output import file_of
from storyforge.store import write_whole
from storyforge.story.locales import check_edition
from storyforge.story.story import Story

if TYPE_CHECKING:
    from storyforge.book.leaf import Art


def write_proofs(
    story: Story,
    formats: Sequence[str],
    language: str | None,
    art: Mapping[str, Art],
    out: Path | None,
) -> tuple[Path, ...]:
    """Lay out every page as it will be bound, before anything is drawn; the files that show it.

    formats  `png`, `pdf` and `html`
    art      pictures that are shown beneath, by panel

    Raises StoryForgeError for a language that no text of the story has.
    """
    from storyforge.book.preview import typeset, web
    from storyforge.book.preview.pages import proof_of

    check_edition(language, story.languages())
    made = proof_of(story, language, art)
    tongue = "" if made.language == story.language else f".{made.language}"
    first = file_of(story, out, f"{tongue}.proof")
    folder, name = first.parent, first.name
    files: list[Path] = []
    if "png" in formats:
        pages = typeset.pngs(made.drawings)
        files = [folder / name / f"{each.name}.png" for each in made.drawings]
        for old in set((folder / name).glob("[0-9][0-9]-*.png")) - set(files):
            old.unlink()
        for path, page in zip(files, pages, strict=True):
            write_whole(path, page)
        files.append(folder / f"{name}.png")
        write_whole(files[-1], typeset.contact_sheet(made, pages))
    if "pdf" in formats:
        files.append(folder / f"{name}.pdf")
        write_whole(files[-1], typeset.pdf(made))
    if "html" in formats:
        files.append(folder / f"{name}.html")
        write_whole(files[-1], web.html(made).encode())
    return tuple(files)
