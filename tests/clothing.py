"""A story of a fox in two outfits, by a pond: tests of clothes and of named files begin with it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

STORY = """\
storyforge: 1
title: The Raincoat
characters: {pip: concepts/pip, pip-in-armour: concepts/pip-in-armour}
scenes: {pond: concepts/pond}
outfits:
  pip:
    raincoat: in a yellow raincoat
    armour: {prompt: in shining armour, concept: pip-in-armour}
views:
  pond: {reeds: seen from the reeds}
pages:
  - panels:
      - {id: dry, scene: pond, time: at night, regions: {one: {concept: pip, at: left}}, alt: A.}
  - panels:
      - id: rain
        scene: pond
        weather: in the rain
        view: reeds
        regions: {one: {concept: pip, at: left, outfit: raincoat, state: wet}}
        alt: B.
  - panels:
      - {id: after, scene: pond, regions: {one: {concept: pip, at: left, prompt: sits}}, alt: C.}
  - panels:
      - {id: off, regions: {one: {concept: pip, at: left, outfit: usual, state: ""}}, alt: D.}
  - panels:
      - {id: knight, regions: {one: {concept: pip, at: left, outfit: armour}}, alt: E.}
"""


def written(folder: Path) -> Path:
    """The story in a folder, with its concepts of one picture each."""
    for name, kind in (("pip", "character"), ("pip-in-armour", "character"), ("pond", "scene")):
        concept = folder / "concepts" / name
        concept.mkdir(parents=True)
        (concept / "concept.yaml").write_text(f"kind: {kind}\nclass: {name.split('-')[0]}\n")
        Image.new("RGB", (8, 8)).save(concept / "1.png")
    path = folder / "story.yaml"
    path.write_text(STORY)
    return path
