"""Pictures that an author brings, made ready for books: upright, sRGB, eight bits, nothing clear.

What is drawn or enlarged comes from elsewhere; a file that is shown as it is passes here.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from storyforge.book.picture import Tones, tones_of
from storyforge.pictures import in_srgb, open_picture
from storyforge.provenance.xmp import XMP_CHUNK, packet, told_by
from storyforge.settings import Made

_ROUNDS: Final = 4
"""A page's paper is tinted by its picture, which stands on it: so often, until both agree."""

_COMPRESSION: Final = 6
_TILE: Final = 256
"""Pixels a side that are enough for the mean of a picture's colours."""


def made_by(path: Path, said: Made | None) -> Made:
    """Who made a picture: as the author says, else as its file does, else a hand."""
    return said or told_by(path) or "hand"


def ready(path: Path, said: Made | None) -> bytes:
    """The picture as a PNG for books, marked with who made it.

    Raises StoryForgeError if it cannot be read.
    """
    picture = on_its_paper(in_srgb(open_picture(path)))
    notes = PngInfo()
    notes.add_itxt(XMP_CHUNK, packet(made_by(path, said)))
    out = io.BytesIO()
    picture.save(out, "PNG", pnginfo=notes, compress_level=_COMPRESSION)
    return out.getvalue()


def on_its_paper(picture: Image.Image) -> Image.Image:
    """An RGB picture: what was clear shows the paper of the page that takes its colours from it."""
    if picture.mode != "RGBA":
        return picture
    tile = (min(picture.width, _TILE), min(picture.height, _TILE))
    small = picture.resize(tile, Image.Resampling.BOX)
    tones: Tones | None = None
    for _ in range(_ROUNDS):
        tones = tones_of(_on(small, "#ffffff" if tones is None else tones.paper))
    return _on(picture, "#ffffff" if tones is None else tones.paper)


def _on(picture: Image.Image, color: str) -> Image.Image:
    ground = Image.new("RGBA", picture.size, color)
    return Image.alpha_composite(ground, picture).convert("RGB")
