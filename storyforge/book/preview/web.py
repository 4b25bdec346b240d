"""A proof as one HTML file: every page as an SVG, its layers to be switched on and off."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined

from storyforge.book.leaf import Face, Outline, Rect
from storyforge.book.picture import as_png
from storyforge.book.preview.drawing import (
    ASCENT,
    Drawing,
    DrawnShape,
    Ink,
    Label,
    Layer,
    LineShape,
    Photo,
    Proof,
    RectShape,
)

_BUFFERED: Final = 64
"""Pieces of text that are written at once."""

_SWITCHED: Final[tuple[Layer, ...]] = tuple(
    layer for layer in get_args(Layer) if layer not in {"page", "notes"}
)

Values = dict[str, object]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("storyforge.book.preview"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def html(proof: Proof) -> Iterator[bytes]:
    """The whole proof, a piece at a time; what an author wrote stays text."""
    faces = proof.faces()
    pieces = (
        _environment()
        .get_template("proof.html")
        .stream(
            title=proof.title,
            language=proof.language,
            layers=_SWITCHED,
            faces=[_face(index, face) for index, face in enumerate(faces)],
            # Made while they are written: all of them at once would fill the memory.
            spreads=(
                [_sheet(proof.drawings[n], faces, _inline) for n in spread]
                for spread in proof.spreads()
            ),
        )
    )
    pieces.enable_buffering(_BUFFERED)
    for piece in pieces:
        yield piece.encode()


def svg(drawing: Drawing, faces: Sequence[Face], source: Callable[[Path], str]) -> str:
    """One sheet alone, its letters in `face-0` and so on; what an author wrote stays text.

    source  the address of a picture
    """
    sheet = _sheet(drawing, faces, source)
    return str(_environment().get_template("sheet.svg").module.sheet(sheet))  # type: ignore[attr-defined]


def _inline(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(as_png(path)).decode('ascii')}"


def _face(index: int, face: Face) -> Values:
    content = base64.b64encode(face.web.read_bytes()).decode("ascii")
    kind = mimetypes.guess_type(face.web.name)[0] or "font/otf"
    return {
        "name": f"face-{index}",
        "weight": face.weight,
        "source": f"data:{kind};base64,{content}",
    }


def _sheet(drawing: Drawing, faces: Sequence[Face], source: Callable[[Path], str]) -> Values:
    return {
        "name": drawing.name,
        "title": drawing.title,
        "width": _number(drawing.width),
        "height": _number(drawing.height),
        "marks": [
            _mark(mark, faces, f"{drawing.name}-{n}", source)
            for n, mark in enumerate(drawing.marks)
        ],
    }


def _mark(
    mark: DrawnShape, faces: Sequence[Face], name: str, source: Callable[[Path], str]
) -> Values:
    if isinstance(mark, RectShape):
        return {"is": "box", "layer": mark.layer, "radius": _number(mark.radius)} | (
            _rect(mark.rect) | _ink(mark.ink)
        )
    if isinstance(mark, LineShape):
        clip = _rect(mark.clip) if mark.clip else None
        path = _path(mark.outline)
        return {"is": "line", "layer": mark.layer, "name": name, "path": path, "clip": clip} | (
            _ink(mark.ink)
        )
    if isinstance(mark, Photo):
        return _photo(mark, name, source)
    return _label(mark, faces)


def _photo(mark: Photo, name: str, source: Callable[[Path], str]) -> Values:
    """The picture whole and larger than its frame, which cuts it."""
    frame, crop = mark.frame, mark.crop
    width, height = frame.width / crop.width, frame.height / crop.height
    return {
        "is": "photo",
        "layer": mark.layer,
        "name": name,
        "frame": _rect(frame),
        "radius": _number(mark.radius),
        "source": source(mark.path),
        **_rect(Rect(frame.x - crop.x * width, frame.y - crop.y * height, width, height)),
    }


def _label(mark: Label, faces: Sequence[Face]) -> Values:
    """Words by their baselines; right-to-left lines begin at the right."""
    rect, leading = mark.rect, mark.leading * mark.size
    rise = (mark.leading - 1) * mark.size / 2 + ASCENT * mark.size
    centre = rect.centre()
    x = centre.x if mark.align == "center" else rect.right if mark.rtl else rect.x
    tilt = f"rotate({_number(mark.tilt)} {_number(centre.x)} {_number(centre.y)})"
    return {
        "is": "label",
        "layer": mark.layer,
        "x": _number(x),
        "lines": [
            (_number(rect.y + rise + index * leading), line)
            for index, line in enumerate(mark.lines)
        ],
        "anchor": "middle" if mark.align == "center" else "start",
        "direction": "rtl" if mark.rtl else "ltr",
        "face": f"face-{faces.index(mark.face)}",
        "weight": mark.face.weight,
        "size": _number(mark.size),
        "color": mark.color,
        "halo": mark.halo,
        "halo_width": _number(max(3.0, 0.17 * mark.size)),
        "tilt": tilt if mark.tilt else None,
    }


def _ink(ink: Ink) -> Values:
    dash = max(3.0, 2 * ink.width)
    return {
        "fill": ink.fill or "none",
        "stroke": ink.line or "none",
        "pen": _number(ink.width),
        "dash": _number(dash) if ink.dashed else None,
    }


def _rect(rect: Rect) -> Values:
    return {
        "x": _number(rect.x),
        "y": _number(rect.y),
        "w": _number(rect.width),
        "h": _number(rect.height),
    }


def _path(outline: Outline) -> str:
    return "".join(
        verb + " ".join(f"{_number(x)} {_number(y)}" for x, y in points) for verb, points in outline
    )


def _number(value: float) -> str:
    """A length without a minus before nought."""
    return f"{round(value, 2) + 0:g}"
