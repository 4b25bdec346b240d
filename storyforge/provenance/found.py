"""Where a picture's own file says that somebody was found, whose region had no place in the story.

Only pictures drawn with `regions: auto` say it; of all others nothing is known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from storyforge.geometry.box import Box
from storyforge.provenance.recipe import recipe_in


def found_boxes(path: Path) -> Mapping[str, Box]:
    """The box of every region that was found, by its name; none in a file that says nothing."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return {}
    return _found(path, changed)


@lru_cache(maxsize=512)
def _found(path: Path, changed: int) -> Mapping[str, Box]:
    """The same of a file as it was when it was last written (ns)."""
    regions = recipe_in(path).get("regions")
    made: dict[str, Box] = {}
    for region in regions if isinstance(regions, list) else ():
        if isinstance(region, dict) and "found" in region and isinstance(region.get("name"), str):
            try:
                made[region["name"]] = Box.model_validate(region.get("box"))
            except ValidationError:
                continue
    return made
