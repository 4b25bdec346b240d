"""The pages of a book as the desk shows them: each an SVG, made again only where it changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from storyforge.book.binding import places
from storyforge.book.leaf import Art, Face
from storyforge.book.page import Kept
from storyforge.book.preview import web
from storyforge.book.preview.drawing import Drawing, Label, PlacedPanel, Proof
from storyforge.book.preview.pages import Sheets, proof_of
from storyforge.provenance.found import found_boxes
from storyforge.story.prompts import pose_of
from storyforge.story.story import Story

_MOST: Final = 3000
"""Pages that are remembered; an hour of typing on one page comes to about as many."""

Values = dict[str, object]


@dataclass(slots=True)
class Pages:
    """What was composed and painted before, and how pictures are addressed.

    source  the address of a picture's file
    faces   in the order in which they were first seen: `face-0`, `face-1`, …
    """

    source: Callable[[Path], str]
    faces: list[Face] = field(default_factory=list)
    kept: Kept = field(default_factory=dict)
    _sheets_kept: Sheets = field(default_factory=dict)
    _painted: dict[Drawing, tuple[str, str]] = field(default_factory=dict)

    def shown(
        self, story: Story, language: str | None, drawn: Mapping[str, Art]
    ) -> tuple[Values, dict[str, str]]:
        """The book as plain data, and the SVG of every page by its digest.

        Raises StoryForgeError, naming the page, where words do not fit.
        """
        if len(self.kept) > _MOST or len(self._painted) > _MOST:
            self.kept.clear()
            self._painted.clear()
            self._sheets_kept.clear()
        proof = proof_of(story, language, drawn, self.kept, self._sheets_kept)
        painted = [self._paint(drawing) for drawing in proof.drawings]
        told: Values = {
            "title": proof.title,
            "language": proof.language,
            "rtl": proof.rtl,
            "spreads": proof.spreads(),
            "faces": [{"name": f"face-{n}", "weight": f.weight} for n, f in enumerate(self.faces)],
            "pages": self._sheets(story, proof, [digest for digest, _ in painted], drawn),
        }
        return told, dict(painted)

    def _paint(self, drawing: Drawing) -> tuple[str, str]:
        """A page's digest and its SVG."""
        if drawing not in self._painted:
            svg = web.svg(drawing, self.faces_of(drawing), self.source)
            self._painted[drawing] = hashlib.sha256(svg.encode()).hexdigest()[:16], svg
        return self._painted[drawing]

    def faces_of(self, drawing: Drawing) -> list[Face]:
        """All faces by their number, those of this page among them."""
        faces = dict.fromkeys(mark.face for mark in drawing.marks if isinstance(mark, Label))
        self.faces += [face for face in faces if face not in self.faces]
        return self.faces

    def _sheets(
        self, story: Story, proof: Proof, digests: list[str], drawn: Mapping[str, Art]
    ) -> list[Values]:
        return [
            {
                "id": digest,
                "name": drawing.name,
                "title": drawing.title,
                "width": round(drawing.width, 2),
                "height": round(drawing.height, 2),
                "panels": [_panel(story, each, drawn) for each in drawing.panels],
            }
            for drawing, digest in zip(proof.drawings, digests, strict=True)
        ]


def _panel(story: Story, placed: PlacedPanel, drawn: Mapping[str, Art]) -> Values:
    """Where a panel stands on its page, and its regions in fractions of its picture."""
    panel = next(each for _, each in story.panels() if each.id == placed.panel)
    shapes, art = story.region_shapes(panel), drawn.get(panel.id)
    picture = art.path if art else story.path
    boxes, found = places(story, panel, picture), found_boxes(picture)
    frame, crop = placed.frame, placed.crop
    return {
        "panel": panel.id,
        "frame": [round(side, 2) for side in (frame.x, frame.y, frame.width, frame.height)],
        "crop": [round(side, 5) for side in (crop.x, crop.y, crop.width, crop.height)],
        "layout": panel.layout,
        "scene": panel.scene,
        "prompt": panel.prompt,
        "take": panel.take,
        "regions": [
            {
                "name": name,
                "concept": panel.regions[name].concept,
                "prompt": panel.regions[name].prompt,
                "box": list(box.sides()),
                "pose": pose_of(story, panel, name),
                "facing": shape.facing,
                "fixed": shape.mask is not None or shape.auto,
                "auto": shape.auto,
                "found": shape.auto and name in found,
                "z": shape.z,
            }
            for name, shape in shapes.items()
            for box in (boxes[name],)
        ],
    }
