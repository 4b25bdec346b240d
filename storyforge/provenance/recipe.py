"""What a picture's file says of itself: the recipe that storyforge wrote into it.

Pictures of other programs are read as far as they speak: `parameters`, and who made them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, TypeAdapter, ValidationError

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.geometry.box import Box
from storyforge.provenance.xmp import DIGITAL_SOURCE

RECIPE: Final = "storyforge"
"""The name of the text chunk that holds the recipe."""


class DrawnPlace(BaseModel):
    """Where a subject is in a picture.

    head   None if none shows
    exact  whether that is known, and not made out
    """

    body: Box
    head: Box | None = None
    exact: bool = False


_SUBJECTS: Final = TypeAdapter(dict[str, DrawnPlace])


@dataclass(frozen=True, slots=True)
class PictureMetadata:
    """One picture.

    recipe       all that storyforge drew it from; empty for pictures of other programs
    parameters   the text that web programs show; empty if there is none
    by_model     whether the file says that a trained model made it
    """

    path: Path
    width: int
    height: int
    recipe: Mapping[str, object] = field(default_factory=dict)
    parameters: str = ""
    by_model: bool = False


def read_metadata(path: Path) -> PictureMetadata:
    """Read what a PNG says of itself.

    Raises:
      EnvironmentProblem: if there is no such file.
      StoryForgeError: if it is no PNG, is damaged, or holds more text than a recipe has.
    """
    if not path.is_file():
        raise EnvironmentProblem(f"no picture at `{path}`")
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            size = picture.size
            picture.load()
            texts = {
                name: str(text) for name, text in picture.info.items() if isinstance(text, str)
            }
    except Image.DecompressionBombError as exc:
        raise StoryForgeError(f"`{path}` has more pixels than any picture drawn here") from exc
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError) as exc:
        hint = "pictures with a recipe are PNGs as storyforge wrote them"
        raise StoryForgeError(f"cannot read `{path}` as a PNG", hint=hint) from exc
    said = any(DIGITAL_SOURCE in text for text in texts.values())
    return PictureMetadata(
        path, *size, _recipe(texts.get(RECIPE, "")), texts.get("parameters", ""), said
    )


def _recipe(text: str) -> Mapping[str, object]:
    """The recipe; empty if the chunk is another program's, or was changed."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) and "schema_version" in told else {}


def recipe_in(path: Path) -> Mapping[str, object]:
    """The recipe of a picture whose pixels are not read; empty if there is none to be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as picture:
                return _recipe(str(picture.info.get(RECIPE, "")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {}


def subjects_in(path: Path) -> dict[str, DrawnPlace]:
    """Region -> where its subject is, as was seen while a picture was drawn.

    Nothing of a picture that does not say; its pixels are not read.
    """
    try:
        return _SUBJECTS.validate_python(recipe_in(path).get("subjects", {}))
    except ValidationError:
        return {}


def again(shown: PictureMetadata, keys: Mapping[str, str]) -> str:
    """The panel that is drawn again to get the same picture.

    keys   the keys of the story's pictures, by panel

    Raises StoryForgeError if the story asks for another picture by now, or never did for this.
    """
    panel, key = shown.recipe.get("panel"), shown.recipe.get("key")
    if not shown.recipe:
        raise StoryForgeError(f"`{shown.path}` holds no recipe of storyforge to draw it from")
    for name, own in keys.items():
        if own == key:
            return name
    if panel in keys:
        message = f"the story asks for another picture as `{panel}` by now"
        hint = "get the story back as it was; `storyforge plan` says what changed"
        raise StoryForgeError(message, hint=hint)
    raise StoryForgeError(f"the story has no panel `{panel}`")
