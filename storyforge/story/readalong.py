"""Where a page's recording lies: where the page says, or where all of a read-along book lie."""

from __future__ import annotations

from pathlib import Path

from storyforge.pictures import beside
from storyforge.story.concept import text_in
from storyforge.story.story import Page, Story


def narration_of(story: Story, number: int, language: str) -> Path | None:
    """The recording of the page with this number in a language; None if it has none."""
    own = recorded(story, number, language)
    if own is not None:
        return own
    if story.book.read_along:
        path = spoken_file(story, number, language)
        return path if path.is_file() else None
    return None


def recorded(story: Story, number: int, language: str) -> Path | None:
    """The recording that the page itself names for an edition; None if it names none for it.

    One that names no language is in the story's: it is not played beside other words.
    """
    page = story.pages[number - 1]
    said = page.narration
    if isinstance(said, str):
        same = language == story.language or not _translated(story, page, language)
        return beside(story.folder, said) if same else None
    return beside(story.folder, said[language]) if said and language in said else None


def _translated(story: Story, page: Page, language: str) -> bool:
    """Whether an edition has other words on a page than the story's own language."""
    texts = [page.text, *(speech.text for panel in page.panels for speech in panel.say)]
    return any(
        text_in(text, language, story.language) != text_in(text, story.language, story.language)
        for text in texts
        if text
    )


def spoken_file(story: Story, number: int, language: str) -> Path:
    """Where the recording of a page lies that names none: `narration/en/3.mp3` for the third."""
    return story.folder / "narration" / language / f"{number}.mp3"


def narrations(story: Story, language: str) -> dict[int, Path]:
    """Every recording of an edition by the page's number."""
    found = {n: narration_of(story, n, language) for n in range(1, len(story.pages) + 1)}
    return {number: path for number, path in found.items() if path is not None}
