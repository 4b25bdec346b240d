"""Pictures as a book carries them: enlarged softly, marked as made by a model, and their colours.

Real upscaling, which invents detail, is not done here.
"""

from __future__ import annotations

import colorsys
import io
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from PIL import Image

from storyforge.book.leaf import Art, Picture
from storyforge.errors import StoryForgeError
from storyforge.pictures import on_paper, open_picture
from storyforge.provenance.xmp import packet
from storyforge.settings import Made
from storyforge.story.trims import POINTS_PER_INCH

SOFT_PPI: Final = 200
"""Below this many pixels an inch, print shows the pixels."""

MOST_ENLARGED: Final = 4
"""More pixels than this a side add bytes and no softness."""

_JPEG_QUALITY: Final = 90


@dataclass(frozen=True, slots=True)
class Tones:
    """The colours of a page, as `#rrggbb`, taken from a picture.

    paper   the ground beneath words, nearly white
    deep    a dark ground, for covers and endpapers
    motif   a little lighter than `deep`, for its pattern
    """

    paper: str
    deep: str
    motif: str


PLAIN: Final = Tones("#fbf7ef", "#2f3a56", "#3d4a6b")


def enlargement(picture: Picture) -> int:
    """How many times larger, 1 to 4, the picture must be to look soft in print."""
    inches = picture.frame.width / picture.crop.width / POINTS_PER_INCH
    return min(MOST_ENLARGED, max(1, math.ceil(SOFT_PPI * inches / picture.art.width)))


def jpeg(art: Art, times: int) -> bytes:
    """The picture `times` as large (Lanczos), as a JPEG that says who made it.

    Raises StoryForgeError if the file is not a picture.
    """
    return _resized(art, art.width * times, changed(art))


def screen_jpeg(item: Picture) -> bytes:
    """The same for a screen: as large as it must be to look soft, and no larger."""
    return _resized(item.art, screen_width(item), changed(item.art))


def screen_width(item: Picture) -> int:
    """Pixels across that a picture needs on a screen."""
    inches = item.frame.width / item.crop.width / POINTS_PER_INCH
    most = math.ceil(SOFT_PPI * inches)
    return most if item.art.width > most else item.art.width * enlargement(item)


@lru_cache(maxsize=64)
def _resized(art: Art, width: int, written: int) -> bytes:
    """Several formats ask for the same; `written` (ns) tells when to read the file again."""
    picture = _opened(art)
    if width != picture.width:
        size = (width, round(picture.height * width / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return marked(picture, art.made)


def marked(picture: Image.Image, made: Made = "model") -> bytes:
    """An RGB picture as a JPEG that says who made it."""
    out = io.BytesIO()
    said = packet(made).encode()
    picture.save(out, "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True, xmp=said)
    return out.getvalue()


def tones(art: Art | None) -> Tones:
    """Colours that suit the picture: its mean hue, made very light and very dark."""
    return PLAIN if art is None else _tones(art, changed(art))


@lru_cache(maxsize=64)
def _tones(art: Art, written: int) -> Tones:
    return tones_of(_opened(art))


def tones_of(picture: Image.Image) -> Tones:
    """Colours that suit an RGB picture."""
    mean = picture.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    if not isinstance(mean, tuple):
        return PLAIN
    red, green, blue = (value / 255 for value in mean[:3])
    hue, _, saturation = colorsys.rgb_to_hls(red, green, blue)
    return Tones(
        paper=_hex(hue, 0.965, 0.45 * min(1.0, saturation + 0.3)),
        deep=_hex(hue, 0.22, min(0.5, 0.2 + saturation)),
        motif=_hex(hue, 0.33, min(0.5, 0.2 + saturation)),
    )


def _hex(hue: float, lightness: float, saturation: float) -> str:
    channels = colorsys.hls_to_rgb(hue, lightness, saturation)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


def changed(art: Art) -> int:
    """When the picture's file was last written (ns); 0 if there is none."""
    try:
        return art.path.stat().st_mtime_ns
    except OSError:
        return 0


def as_png(path: Path) -> bytes:
    """A picture's file as a PNG for proofs: one that is none is opened as books show it.

    Raises StoryForgeError if it cannot be read.
    """
    content = path.read_bytes()
    if content.startswith(_PNG):
        return content
    out = io.BytesIO()
    on_paper(open_picture(path)).save(out, "PNG", compress_level=1)
    return out.getvalue()


_PNG: Final = b"\x89PNG"


def _opened(art: Art) -> Image.Image:
    try:
        return on_paper(open_picture(art.path))
    except StoryForgeError as exc:
        raise StoryForgeError(
            f"cannot read the picture of panel `{art.panel}`: {art.path}",
            hint="draw it again with `storyforge render`",
        ) from exc
