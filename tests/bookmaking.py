"""Two bound books for tests of the formats: the sample story, and one that means harm.

The second is read from right to left.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from storyforge.book.leaf import Art, Book
from storyforge.book.page import bind
from storyforge.story.layout import shipped
from storyforge.story.story import Story, read

LONG_ALT = "<p>]]> " * 1_430
"""Ten thousand letters."""

HOSTILE = f"""\
storyforge: 1
language: he
title: '<script>alert("x")</script> & ]]> #panic("t")'
author: 'A. <b>Author</b> \u202eedirrevo'
characters: {{owl: owl}}
book: {{trim: a5, dedication: '$ x^2 $ *bold* @nobody /* */ {{{{ 7 * 7 }}}} {{% raw %}}'}}
pages:
  - text: '<script src="http://example.org/x.js"></script> <!-- ]]> &amp; &nbsp; \u202eback'
    panels:
      - id: one
        regions: {{one: {{concept: owl, at: centre}}}}
        alt: '{LONG_ALT}'
        say:
          - {{who: owl, text: '<b onclick="x()">]]> #panic()'}}
          - {{who: owl, text: "'; }}</style>", kind: thought}}
  - text: 'The end, \u2067or is it?'
    panels: [{{id: two, decorative: true}}, {{id: three, alt: '" onerror="alert(1)'}}]
"""


def written(folder: Path, text: str) -> Story:
    """The story in `text`, with the concepts pip, owl and lantern beside it."""
    for name, kind in (("pip", "character"), ("owl", "character"), ("lantern", "object")):
        concept = folder / "concepts" / name
        concept.mkdir(parents=True, exist_ok=True)
        (concept / "concept.yaml").write_text(
            f"kind: {kind}\nclass: {name}\nlicence: CC-BY-4.0\nauthor: B. Painter\n"
        )
        Image.new("RGB", (8, 8)).save(concept / "1.png")
    path = folder / "story.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path)


def sample(folder: Path) -> Book:
    """The sample story, bound with placeholders that are written to `folder`."""
    story = read(shipped("stories") / "fox-and-lantern.yaml")
    return bind(story, placeholders(story, folder))


def hostile_story(folder: Path) -> Story:
    """A story whose every text tries to be markup, written to `folder`."""
    (folder / "owl").mkdir()
    (folder / "owl" / "concept.yaml").write_text("kind: character\nclass: owl\n")
    Image.new("RGB", (8, 8)).save(folder / "owl" / "1.png")
    path = folder / "story.yaml"
    path.write_text(HOSTILE, encoding="utf-8")
    return read(path)


def hostile(folder: Path) -> Book:
    """The hostile story, bound with placeholders."""
    story = hostile_story(folder)
    return bind(story, placeholders(story, folder))


def placeholders(story: Story, folder: Path) -> dict[str, Art]:
    """A small drawing for every panel."""
    art = {}
    for index, (_, panel) in enumerate(story.panels()):
        across, down = panel.size or (1, 1)
        size = (96 * across // down, 96)
        drawing = Image.new("RGB", size, (40 + 20 * index % 200, 120, 200 - 18 * index % 200))
        ImageDraw.Draw(drawing).ellipse((24, 40, 72, 92), fill=(240, 140, 40))
        path = folder / f"{panel.id}.png"
        drawing.save(path)
        art[panel.id] = Art(panel.id, path, *drawing.size)
    return art
