"""What cannot be set as the story asks, and which of the story's words are to blame."""

from __future__ import annotations

from storyforge.errors import StoryForgeError
from storyforge.story.places import StoryPlace as StoryPlace


class Unsettable(StoryForgeError):
    """Words that do not fit, pictures of the wrong shape."""

    def __init__(self, message: str, *, place: StoryPlace, hint: str | None = None) -> None:
        """Keep the place beside message and hint."""
        super().__init__(message, hint=hint)
        self.place = place


class Unprintable(Unsettable):
    """Letters that no font of the book has."""


class Unheeded(Unsettable):
    """What changes nothing on its page, and so will not be what its author expects."""
