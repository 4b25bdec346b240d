"""Who looks at the pictures: the CLIP that was asked for, or the base's own."""

from __future__ import annotations

from storyforge.errors import EnvironmentProblem
from storyforge.evaluate.embed import Clip, open_clip


def clip_for(base: str, asked: str | None) -> Clip:
    """Open the CLIP that was asked for, else that of the base.

    base   how the base is opened
    asked  a folder or hub id; None for the embedded base's own

    Raises EnvironmentProblem if there is none, or it cannot be read.
    """
    reference = asked or ("pocket" if base == "pocket" else None)
    if reference is None:
        message = f"the base `{base}` has no CLIP of its own"
        raise EnvironmentProblem(message, hint="give `--clip` a folder or a hub id")
    return open_clip(reference)
