"""The pictures of one concept: pixels, mask and caption of each.

A caption lies beside its picture as `.txt`, a mask as `NAME-mask.png` or in the alpha channel. A
picture without a caption gets one from the templates of its kind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from storyforge.errors import StoryForgeError

_TEMPLATES = {
    "character": ("a {}", "a picture of a {}", "a drawing of a {}", "illustration of a {}"),
    "object": ("a {}", "a picture of a {}", "a drawing of a {}", "illustration of a {}"),
    "scene": ("in {}", "a picture of {}", "{}", "a view of {}"),
}


@dataclass(frozen=True, slots=True)
class Example:
    """One picture.

    pixels    (3, side, side) in [0, 1]
    mask      (side, side) in [0, 1], 1 where the subject is; None without a mask
    captions  one is drawn at random each time; the concept stands in them as `<name>`
    """

    file: str
    pixels: torch.Tensor
    mask: torch.Tensor | None
    captions: tuple[str, ...]


def read_examples(
    folder: Path, images: Sequence[str], *, name: str, kind: str, side: int
) -> list[Example]:
    """Read and square the pictures of a concept.

    Raises:
      StoryForgeError: for a picture or mask that cannot be read, naming it.
    """
    found = []
    for file in images:
        if Path(file).stem.endswith("-mask"):
            continue
        path = folder / file
        picture = _open(path)
        note, drawn = path.with_suffix(".txt"), path.with_name(f"{path.stem}-mask.png")
        captions = tuple(caption_of(line, name, kind) for line in _lines(note))
        mask = None
        if drawn.is_file():
            mask = _square(_open(drawn).convert("L"), side)
        elif "A" in picture.getbands():
            mask = _square(picture.getchannel("A"), side)
        if mask is not None and not mask.any():
            raise StoryForgeError(
                f"the mask of `{path}` is empty", hint="paint the subject white on black"
            )
        pixels = _square(_flat(picture), side)
        found.append(
            Example(
                file,
                pixels.permute(2, 0, 1),
                mask,
                captions or tuple(t.format(f"<{name}>") for t in _TEMPLATES[kind]),
            )
        )
    if not found:
        raise StoryForgeError(f"there are no pictures of `{name}` in `{folder}`")
    return found


def caption_of(line: str, name: str, kind: str) -> str:
    """A caption with the concept as `<name>`: written so, as `[trigger]`, or put in front."""
    line = line.strip().replace("[trigger]", f"<{name}>")
    if f"<{name}>" in line:
        return line
    named = re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE)
    if named.search(line):
        return named.sub(f"<{name}>", line)
    return f"{'in' if kind == 'scene' else 'a'} <{name}>, {line}"


def _lines(note: Path) -> list[str]:
    """The captions in a file, one a line; none without a file."""
    if not note.is_file():
        return []
    try:
        text = note.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise StoryForgeError(
            f"cannot read the caption `{note}`: {exc}", hint="save it as UTF-8"
        ) from exc
    return [line for line in text.splitlines() if line.strip()]


def _open(path: Path) -> Image.Image:
    """A picture, upright; any transparency in a channel of its own."""
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            return upright.convert("RGBA") if upright.has_transparency_data else upright.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise StoryForgeError(
            f"cannot read the picture `{path}`: {exc}", hint="PNG, JPEG and WebP are fine"
        ) from exc


def _flat(picture: Image.Image) -> Image.Image:
    if "A" not in picture.getbands():
        return picture.convert("RGB")
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")


def _square(picture: Image.Image, side: int) -> torch.Tensor:
    """Crop to the middle square and scale; (side, side) or (side, side, 3) in [0, 1]."""
    fitted = ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255)
