"""The pictures of one concept as tensors: pixels, mask and captions of each.

Every picture becomes a square of the base's side, or keeps its shape in the nearest aspect bucket.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageOps

from storyforge.errors import StoryForgeError
from storyforge.pictures import mask_of, on_paper, open_picture, sources

_LONGEST: Final = 2.0
"""No bucket is longer than this many times its width: further from what the base was trained on."""


@dataclass(frozen=True, slots=True)
class Example:
    """One picture.

    pixels    (3, h, w) in [0, 1]
    mask      (h, w) in [0, 1], 1 where the subject is; None without a mask
    captions  one is drawn at random each time; the concept stands in them as `<name>`
    """

    file: str
    pixels: torch.Tensor
    mask: torch.Tensor | None
    captions: tuple[str, ...]

    def mirrored(self) -> Example:
        """The same with left and right exchanged."""
        mask = None if self.mask is None else self.mask.flip(-1)
        return replace(self, pixels=self.pixels.flip(-1), mask=mask)


def read_examples(
    folder: Path, images: Sequence[str], *, name: str, kind: str, side: int, cell: int | None = None
) -> list[Example]:
    """Read the pictures of a concept.

    Args:
      folder: where they lie, with captions and masks beside them.
      images: their names.
      name: what the concept is called in captions.
      kind: character, object or scene.
      side: the base's own side in pixels; pictures are cut to this square.
      cell: with it, pictures keep their shape as far as buckets of whole cells (px) allow.

    Raises:
      StoryForgeError: for a picture, mask or caption that cannot be read, naming it.
    """
    found = []
    for source in sources(folder, images):
        picture = open_picture(folder / source.file)
        size = (side, side) if cell is None else bucket(picture.size, side, cell)
        drawn = mask_of(folder, source, picture)
        mask = None if drawn is None else _fitted(drawn, size)
        if mask is not None and not mask.any():
            raise StoryForgeError(
                f"the mask of `{folder / source.file}` is empty",
                hint="paint the subject white on black",
            )
        pixels = _fitted(on_paper(picture), size)
        captions = source.captions(name, kind)
        found.append(Example(source.file, pixels.permute(2, 0, 1), mask, captions))
    if not found:
        raise StoryForgeError(f"there are no pictures of `{name}` in `{folder}`")
    return found


def buckets(side: int, cell: int) -> list[tuple[int, int]]:
    """Sizes (width, height) of whole cells with about the area of the square, none too long."""
    most = int(side * math.sqrt(_LONGEST)) // cell
    widths = [cell * count for count in range(1, most + 1)]
    sizes = {(width, cell * round(side * side / width / cell)) for width in widths}
    shapes = {(side, side)} | sizes | {(height, width) for width, height in sizes}
    return sorted(size for size in shapes if min(size) and max(size) <= _LONGEST * min(size))


def bucket(size: tuple[int, int], side: int, cell: int) -> tuple[int, int]:
    """The bucket whose shape is nearest to that of a picture of `size` (width, height)."""
    shape = math.log(size[0] / size[1])
    return min(
        buckets(side, cell), key=lambda each: (abs(math.log(each[0] / each[1]) - shape), each)
    )


def _fitted(picture: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """Cut the middle out in the shape of `size` and scale; (h, w) or (h, w, 3) in [0, 1]."""
    fitted = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255)
