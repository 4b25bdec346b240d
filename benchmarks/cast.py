"""Sixteen concepts that the embedded model does not know, for what is measured with many of them.

`python -m benchmarks.cast FOLDER` draws ten characters, three objects and three scenes, each with
captions, masks and a concept.yaml, the same ones every time; `order.txt` names them in the order in
which fusions of few take them. Each joins what the model was never shown together. `ember` and
`sorrel` are both foxes; `ember` and `rusk` wear the same colours.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from concepts import draw
from storyforge.pocket.world import brush as paint
from storyforge.pocket.world.brush import Brush, mix
from storyforge.pocket.world.looks import Look
from storyforge.pocket.world.places import Stage

CHARACTERS = {
    "ember": Look(
        "fox", "#c23a5b", garment="coat", garment_colour="blue", extras=(("crest", "#f7b733"),)
    ),
    "sorrel": Look(
        "fox",
        "#7ad9b8",
        garment="shirt",
        garment_colour="yellow",
        extras=(("horn", "#f7b733"), ("stripes", "#e2574c")),
    ),
    "rusk": Look(
        "bear", "#c23a5b", garment="coat", garment_colour="blue", extras=(("moon", "#fff6da"),)
    ),
    "bramble": Look(
        "rabbit",
        "#d87fb0",
        garment="dress",
        garment_colour="blue",
        extras=(("antlers", "#7a4a2b"), ("spots", "#fff6da")),
    ),
    "kip": Look(
        "elephant",
        "#f2a65a",
        garment="coat",
        garment_colour="purple",
        extras=(("spots", "#fff6da"), ("horn", "#3c4fa8")),
    ),
    "tansy": Look(
        "cat",
        "#a9d63c",
        garment="dress",
        garment_colour="purple",
        extras=(("antennae", "#3d3a48"),),
    ),
    "otto": Look(
        "dog", "#5fb7ea", garment="coat", garment_colour="red", extras=(("patch", "#fff6da"),)
    ),
    "wren": Look(
        "owl", "#9a6be0", garment="shirt", garment_colour="yellow", extras=(("crest", "#e2574c"),)
    ),
    "fennel": Look(
        "frog", "#f2795f", garment="coat", garment_colour="white", extras=(("spots", "#3c4fa8"),)
    ),
    "pixel": Look(
        "mouse",
        "#f0c93a",
        garment="shirt",
        garment_colour="green",
        extras=(("stripes", "#7a4a2b"), ("antennae", "#c23a5b")),
    ),
}


def beachball(b: Brush) -> None:
    """A ball of six stripes in two colours with a white star, one unit tall."""
    with b.inside(paint.oval(0, -0.5, 0.5, 0.5)):
        for stripe in range(6):
            colour = "#e2574c" if stripe % 2 else "#2a9d9a"
            b.box(-0.5 + stripe / 6, -1, 1 / 6 + 0.01, 1, colour, line=False)
    b.path(paint.oval(0, -0.5, 0.5, 0.5), None)
    b.path(paint.star(0, -0.5, 0.3, 0.13), "#fff6da")


def toadstool(b: Brush) -> None:
    """A tall mushroom with a blue cap, yellow rings and a striped stem."""
    with b.inside(paint.blob([(-0.14, 0), (-0.1, -0.5), (0.1, -0.5), (0.14, 0)])):
        for ring in range(5):
            colour = "#f48cb6" if ring % 2 else "#fff6da"
            b.box(-0.3, -0.12 * (ring + 1), 0.6, 0.13, colour, line=False)
    b.oval(0, -0.66, 0.42, 0.3, "#3b72d9")
    for x, y, r in ((-0.2, -0.66, 0.1), (0.06, -0.8, 0.09), (0.22, -0.58, 0.08)):
        b.oval(x, y, r, r, "#f8cf3a")
        b.oval(x, y, r * 0.5, r * 0.5, "#3b72d9", line=False)


def reef(stage: Stage) -> None:
    """A sea floor: green water, orange corals, yellow sand, bubbles."""
    b = stage.b
    b.gradient((0, 0, 1, 1), "#0f7f8c", "#5fd6b4")
    b.blob([(-0.3, 0.8), (0.3, 0.72), (0.7, 0.77), (1.3, 0.7), (1.4, 1.5), (-0.4, 1.5)], "#f3d98b")
    for x, tall, colour in (
        (0.07, 0.42, "#f2795f"),
        (0.22, 0.24, "#c23a5b"),
        (0.82, 0.34, "#f08a2c"),
        (0.95, 0.46, "#c23a5b"),
    ):
        x += float(stage.generator.uniform(-0.02, 0.02))
        for lean in (-0.5, 0.0, 0.5):
            top = (x + lean * tall * 0.5, 0.78 - tall)
            b.stroke([(x, 0.8), (x + lean * tall * 0.2, 0.78 - tall * 0.5), top], colour, 0.045)
            b.oval(*top, 0.03, 0.03, mix(colour, "#ffffff", 0.4), line=False)
    for x, y in stage.generator.uniform((0.05, 0.05), (0.95, 0.6), (9, 2)):
        b.oval(x, y, 0.018, 0.018, "#d8fff4", line=False, alpha=0.7)


def candy(stage: Stage) -> None:
    """Mint hills with lollipops under a cream sky."""
    b = stage.b
    b.gradient((0, 0, 1, 0.8), "#fff2c9", "#ffc6d9")
    hill = [
        (-0.3, 0.62),
        (0.2, 0.5),
        (0.55, 0.64),
        (0.9, 0.52),
        (1.3, 0.62),
        (1.4, 1.5),
        (-0.4, 1.5),
    ]
    b.blob(hill, "#b9ecd4", line=False)
    b.blob([(-0.3, 0.8), (0.4, 0.7), (1.3, 0.78), (1.4, 1.5), (-0.4, 1.5)], "#8fdcbc", line=False)
    for x, y, tall in ((0.06, 0.8, 0.55), (0.25, 0.7, 0.36), (0.78, 0.7, 0.38), (0.95, 0.8, 0.58)):
        x += float(stage.generator.uniform(-0.02, 0.02))
        b.box(x - 0.012, y - tall * 0.7, 0.024, tall * 0.7, "#fff6da", line=False)
        for radius, colour in ((0.2, "#e2574c"), (0.14, "#fff6da"), (0.08, "#e2574c")):
            b.oval(x, y - tall * 0.75, radius * tall * 1.1, radius * tall * 1.1, colour, line=False)


OBJECTS = {
    "glimmer": ("lantern", draw.lantern),
    "stripy": ("red ball", beachball),
    "toadstool": ("blue mushroom", toadstool),
}
SCENES = {
    "moonwood": ("grove", draw.moonwood),
    "reef": ("beach", reef),
    "candy": ("meadow", candy),
}

ORDER = (
    *("ember", "bramble", "kip", "moonwood", "glimmer", "sorrel", "tansy", "rusk"),
    *("otto", "stripy", "reef", "wren", "fennel", "toadstool", "candy", "pixel"),
)
"""The first N are what a fusion of N takes; among eight are a pair of one class and one of one
colour."""


@dataclass(frozen=True, slots=True)
class Member:
    """What concept.yaml says of one concept."""

    name: str
    kind: str
    class_phrase: str


def members() -> list[Member]:
    """All sixteen, in the order in which fusions take them."""
    solid = {name: Member(name, "character", look.species) for name, look in CHARACTERS.items()}
    things = {name: Member(name, "object", said) for name, (said, _) in OBJECTS.items()}
    places = {name: Member(name, "scene", said) for name, (said, _) in SCENES.items()}
    return [(solid | things | places)[name] for name in ORDER]


def _always(painter: draw.Painter) -> draw.Figure:
    return lambda shot: painter


def draw_all(folder: Path) -> None:
    """Draw every concept into `folder/NAME`."""
    for name, look in CHARACTERS.items():
        draw.character(folder / name, look)
    for name, (_, painter) in OBJECTS.items():
        draw.figure(folder / name, _always(painter), draw.OBJECT_SHOTS, 0.62)
    for name, (_, place) in SCENES.items():
        draw.scene(folder / name, place)
    for member in members():
        text = (
            f"storyforge: 1\nkind: {member.kind}\nclass: {member.class_phrase}\nlicence: CC0-1.0\n"
        )
        (folder / member.name / "concept.yaml").write_text(text, encoding="utf-8")
    (folder / "order.txt").write_text("\n".join(ORDER) + "\n", encoding="utf-8")


def main() -> None:
    """Draw the cast."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cast", description=__doc__)
    parser.add_argument("folder", type=Path)
    draw_all(parser.parse_args().folder)


if __name__ == "__main__":
    main()
