"""Where a page's recording lies: where the page says, or where all of a read-along book lie."""

from __future__ import annotations

from pathlib import Path

from storyforge.pictures import beside
from storyforge.story.concept import text_in
from storyforge.story.story import Page, Story


def narration_of(story: Story, number: int, language: str) -> Path | None:
    """The recording of the page with this number in a language; None if it has none."""
    page: Page = story.pages[number - 1]
    if page.narration is not None:
        if isinstance(page.narration, dict) and language not in page.narration:
            return None
        return beside(story.folder, text_in(page.narration, language, story.language))
    if story.book.read_along:
        path = spoken_file(story, number, language)
        return path if path.is_file() else None
    return None


def spoken_file(story: Story, number: int, language: str) -> Path:
    """Where the recording of a page lies that names none: `narration/en/3.mp3` for the third."""
    return story.folder / "narration" / language / f"{number}.mp3"


def narrations(story: Story, language: str) -> dict[int, Path]:
    """Every recording of an edition by the page's number."""
    found = {n: narration_of(story, n, language) for n in range(1, len(story.pages) + 1)}
    return {number: path for number, path in found.items() if path is not None}
