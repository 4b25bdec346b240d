"""The small pictures of the reference: for each key that shows, a story of a few lines, laid out.

Each is a proof as `preview` draws it, without a model. A key stands with the part of the schema
that has it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from PIL import Image

from storyforge.book.preview.drawing import Drawing
from storyforge.book.preview.pages import proof_of
from storyforge.book.preview.typeset import flat, pngs
from storyforge.story.layout import shipped
from storyforge.story.story import examined

WIDTH: Final = 220
"""Pixels."""

EXAMPLES: Final[Mapping[str, dict[str, Any]]] = yaml.safe_load(
    Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
)
"""By part and key of the schema."""


def picture(name: str) -> bytes:
    """The PNG for a key, such as `Panel.inset`."""
    drawing = _drawn(EXAMPLES[name])
    made = io.BytesIO()
    with Image.open(io.BytesIO(flat(pngs([drawing], 48)[0]))) as page:
        height = round(page.height * WIDTH / page.width)
        small = page.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    few = small.quantize(64, dither=Image.Dither.NONE)
    few.save(made, "PNG", optimize=True)
    return made.getvalue()


def _drawn(told: Mapping[str, Any]) -> Drawing:
    """The page that shows what an example says."""
    said = [told.get("panel", {}), *(told[key] for key in ("more", "third") if key in told)]
    panels = [{"id": f"p{n}", "alt": "An example.", **each} for n, each in enumerate(said)]
    story = {
        "storyforge": 1,
        "title": "One Night",
        "characters": {"pip": str(shipped("concepts") / "pip")},
        "book": {"colophon": False, **told.get("book", {})},
        "pages": [{**told.get("page", {}), "panels": panels}],
    }
    found, findings = examined(Path("example.yaml"), yaml.safe_dump(story, sort_keys=False))
    if found is None:
        raise ValueError("; ".join(map(str, findings)))
    drawings = proof_of(found).drawings
    if told.get("show") == "cover":
        return drawings[0]
    # Cover and title show the first panel, too.
    return next(each for each in drawings[3:] if any(p.panel == "p0" for p in each.panels))
