"""What cannot be set as the story asks, and which of the story's words are to blame."""

from __future__ import annotations

from storyforge.errors import StoryForgeError

Place = tuple[str | int, ...]
"""Where the story says it: `("title",)`, `("book", "dedication")`, `("page", 3, "text")`,
`("panel", "found", "say", 0)`; a page by its number from 1, a panel by its id."""


class Unsettable(StoryForgeError):
    """Words that do not fit, pictures of the wrong shape."""

    def __init__(self, message: str, *, place: Place, hint: str | None = None) -> None:
        """Keep the place beside message and hint."""
        super().__init__(message, hint=hint)
        self.place = place


class Unprintable(Unsettable):
    """Letters that no font of the book has."""
