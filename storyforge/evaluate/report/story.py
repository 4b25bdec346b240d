"""Results for the eye: one HTML page with bars, a heat map of who looks like whom, and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from storyforge.evaluate.report.page import rendered


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """One picture on the page; `source` is relative to it."""

    concept: str
    condition: str
    kind: str
    prompt: str
    source: str


def story_page(content: Mapping[str, object], shown: Sequence[ShownPicture]) -> str:
    """The page of `evaluation.json`'s content; pictures stay files beside it."""
    rows: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for each in shown:
        row = rows.setdefault(each.concept, {}).setdefault((each.kind, each.prompt), {})
        row.setdefault(each.condition, each.source)
    return rendered("evaluation.html", content=content, rows=rows)


def story_table(content: Mapping[str, object]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heading and rows for a terminal: each concept's alignments, in the three conditions."""
    heading = ("concept", "image base", "single", "fused", "upper", "text base", "single", "fused")
    rows = []
    concepts = content["concepts"]
    assert isinstance(concepts, dict)
    for name, marks in concepts.items():
        scores = marks["conditions"]
        image = [_short(scores.get(each, {}).get("image")) for each in ("base", "single", "fused")]
        text = [_short(scores.get(each, {}).get("text")) for each in ("base", "single", "fused")]
        rows.append((name, *image, _short(marks["upper"]), *text))
    return heading, rows


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
