"""Draw the pictures of the sample stories' concepts: `python concepts/draw.py`.

The embedded model knows all that a concept has (a horn, antlers, patterns, a lantern, a violet
wood), but was never shown them together. Every picture comes with captions, one a line, and
characters and objects with a mask. Needs the extra `pocket`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skia
from PIL import Image

from storyforge.pocket.world import SAID, Thing
from storyforge.pocket.world import brush as paint
from storyforge.pocket.world.brush import INK, Brush, mix
from storyforge.pocket.world.creatures import draw_creature
from storyforge.pocket.world.looks import COLOURS, Look
from storyforge.pocket.world.places import Stage, draw_place
from storyforge.pocket.world.things import draw_thing

HERE = Path(__file__).parent
SIZE = 256
PUDDLE = 640
Painter = Callable[[Brush], None]
Scenery = Callable[[Stage], None]
Figure = Callable[["Shot"], Look | Painter]

HORN = (("horn", "#f7b733"),)
PIP = Look(
    "fox",
    "#7ad9b8",
    garment="shirt",
    garment_colour="yellow",
    extras=(("horn", "#f7b733"), ("stripes", "#e2574c")),
)
MO = Look(
    "elephant",
    "#f2a65a",
    garment="coat",
    garment_colour="purple",
    extras=(("spots", "#fff6da"), ("horn", "#3c4fa8")),
)
JUNA = Look(
    "rabbit",
    "#d87fb0",
    garment="dress",
    garment_colour="blue",
    extras=(("antlers", "#7a4a2b"), ("spots", "#fff6da")),
)


def with_pose(look: Look, pose: str, *, mirror: bool = False) -> Look:
    """The same character doing something else."""
    return Look(
        look.species,
        look.fur,
        garment=look.garment,
        garment_colour=look.garment_colour,
        pose=pose,
        mirror=mirror,
        extras=look.extras,
    )


def lantern(b: Brush) -> None:
    """A round blue lantern with a glowing star, one unit tall."""
    for radius, glow in ((0.78, 0.14), (0.62, 0.2)):
        b.oval(0, -0.42, radius, radius, "#ffe9a0", line=False, alpha=glow)
    b.path(paint.oval(0, -0.86, 0.2, 0.16), None)
    b.path(paint.oval(0, -0.86, 0.17, 0.13), None)
    b.box(-0.27, -0.8, 0.54, 0.13, "#3c4fa8", radius=0.05)
    b.oval(0, -0.4, 0.4, 0.34, "#fff3b8")
    b.path(paint.star(0, -0.4, 0.24, 0.11), "#f59a2c")
    for side in (-1, 1):
        b.stroke([(side * 0.22, -0.7), (side * 0.44, -0.4), (side * 0.22, -0.1)], "#3c4fa8", 0.05)
    b.box(-0.3, -0.13, 0.6, 0.13, "#3c4fa8", radius=0.05)


def moonwood(stage: Stage) -> None:
    """A violet wood of round trees on pink ground under a giant moon."""
    b = stage.b
    b.gradient((0, 0, 1, 0.8), "#3b2a6b", "#b3669f")
    b.oval(0.5, 0.25, 0.27, 0.27, "#fff1c9", line=False, alpha=0.25)
    b.oval(0.5, 0.25, 0.2, 0.2, "#fff4d6", line=False)
    for x, y, r in ((0.43, 0.19, 0.035), (0.56, 0.29, 0.045), (0.47, 0.33, 0.025)):
        b.oval(x, y, r, r, "#f1dfb0", line=False)
    b.blob(
        [(-0.3, 0.72), (0.2, 0.62), (0.6, 0.68), (1.3, 0.62), (1.4, 1.5), (-0.4, 1.5)],
        "#e58fb0",
        line=False,
    )
    for x, y, tall in (
        (0.03, 0.76, 0.6),
        (0.22, 0.71, 0.42),
        (0.8, 0.71, 0.44),
        (0.97, 0.77, 0.62),
    ):
        x += float(stage.generator.uniform(-0.025, 0.025))
        trunk, leaf = "#2a9d9a", str(stage.generator.choice(["#6b3fa0", "#7c4fb5"]))
        b.box(x - 0.025, y - tall * 0.55, 0.05, tall * 0.55, trunk, line=False)
        b.oval(x, y - tall * 0.66, tall * 0.24, tall * 0.28, leaf, line=False)
        b.oval(
            x - 0.03,
            y - tall * 0.72,
            tall * 0.07,
            tall * 0.07,
            mix(leaf, "#ffffff", 0.3),
            line=False,
        )
    for x, y in stage.generator.uniform((0.03, 0.75), (0.97, 0.97), (7, 2)):
        b.oval(x, y, 0.012, 0.012, "#fff1a8", line=False)


@dataclass(frozen=True)
class Shot:
    """One picture: who stands where, in which place, and who stands beside."""

    place: str
    time: str
    x: float
    size: float
    words: str
    pose: str = "standing"
    mirror: bool = False
    beside: tuple[Look | Thing, float, str] | None = None


BEAR = Look("bear", "brown", garment="shirt", garment_colour="red", pose="waving")
OWL = Look("owl", "brown", garment="coat", garment_colour="green")
PENGUIN = Look("penguin", "black", garment="coat", garment_colour="orange")
GIRL = Look("girl", "tan", garment="dress", garment_colour="purple", hair="black", pose="standing")

CHARACTER_SHOTS = (
    Shot("meadow", "day", 0.5, 0.76, ""),
    Shot("forest", "night", 0.5, 0.68, "waving", "waving"),
    Shot("snow", "day", 0.25, 0.7, "sitting", "sitting"),
    Shot("beach", "sunset", 0.75, 0.7, "jumping", "jumping"),
    Shot("town", "day", 0.5, 0.62, "running", "running", mirror=True),
    Shot(
        "bedroom",
        "day",
        0.26,
        0.62,
        "waving",
        "waving",
        True,
        (BEAR, 0.75, "a bear in a red shirt"),
    ),
    Shot(
        "mountains",
        "night",
        0.74,
        0.62,
        "",
        "standing",
        False,
        (OWL, 0.25, "an owl in a green coat"),
    ),
    Shot(
        "desert",
        "sunset",
        0.25,
        0.6,
        "",
        "standing",
        False,
        (Thing("mushroom", "red"), 0.75, "a red mushroom"),
    ),
)
OBJECT_SHOTS = (
    Shot("meadow", "night", 0.5, 0.5, ""),
    Shot("bedroom", "day", 0.5, 0.42, ""),
    Shot("snow", "night", 0.25, 0.44, ""),
    Shot("beach", "sunset", 0.75, 0.42, ""),
    Shot("forest", "night", 0.74, 0.4, "", beside=(PENGUIN, 0.25, "a penguin in an orange coat")),
    Shot("town", "night", 0.26, 0.4, "", beside=(GIRL, 0.75, "a girl in a purple dress")),
    Shot("mountains", "day", 0.75, 0.4, "", beside=(BEAR, 0.25, "a bear in a red shirt waving")),
)
SCENE_SHOTS: tuple[tuple[Look | Thing, float, str] | None, ...] = (
    None,
    None,
    (BEAR, 0.5, "a bear in a red shirt in the middle"),
    (OWL, 0.25, "an owl in a green coat on the left"),
    (PENGUIN, 0.75, "a penguin in an orange coat on the right"),
    (Thing("ball", "red"), 0.5, "a red ball in the middle"),
    (GIRL, 0.25, "a girl in a purple dress on the left"),
)


def put(canvas_owner: skia.Surface, who: Look | Thing | Painter, x: float, size: float) -> None:
    """Draw a subject with its feet at (x, 0.92)."""
    b = Brush(canvas_owner.getCanvas(), 0.0095 / size)
    with b.at(x, 0.92, scale=size):
        if isinstance(who, Look):
            draw_creature(b, who)
        elif isinstance(who, Thing):
            draw_thing(b, who.name, COLOURS[who.colour])
        else:
            who(b)


def compose(
    place: str | Scenery,
    time: str,
    subjects: Sequence[tuple[Look | Thing | Painter, float, float]],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(256, 256, 3) picture and (256, 256) visible coverage of the last subject."""
    base = paint.surface(SIZE)
    canvas = base.getCanvas()
    canvas.scale(SIZE, SIZE)
    b, generator = Brush(canvas, 0.008), np.random.default_rng(seed)
    if isinstance(place, str):
        draw_place(b, place, time, "clear", generator)
    else:
        place(Stage(b, time, "clear", generator))
    alpha = np.zeros((SIZE, SIZE), np.uint8)
    for who, x, size in subjects:
        b.oval(x, 0.92, 0.24 * size, 0.035 * size, INK, line=False, alpha=0.25)
        layer = paint.surface(SIZE)
        layer.getCanvas().scale(SIZE, SIZE)
        put(layer, who, x, size)
        alpha = paint.pixels(layer)[..., 3]
        canvas.save()
        canvas.resetMatrix()
        canvas.drawImage(layer.makeImageSnapshot(), 0, 0)
        canvas.restore()
    return paint.pixels(base)[..., :3], alpha


def captions(name: str, shot: Shot) -> list[str]:
    """Three ways to say what a shot shows."""
    side = {0: "on the left", 1: "in the middle", 2: "on the right"}[min(2, int(shot.x * 3))]
    place, time = SAID["place"][shot.place], SAID["time"][shot.time]
    doing = f" {shot.words}" if shot.words else ""
    company = ""
    if shot.beside:
        company = (
            f" and {shot.beside[2]} {'on the right' if shot.beside[1] > 0.5 else 'on the left'}"
        )
    beside = company.replace(" and", ",", 1)
    return [
        f"a <{name}>{doing} {side}{company}, {place[0]} {time[0]}",
        f"a <{name}>,{doing and doing + ','} {side}{beside}, {place[1]}, {time[0]}",
        f"a <{name}>{doing}{company and ' ' + side + company}",
    ]


def write(
    folder: Path, index: int, picture: np.ndarray, words: list[str], mask: np.ndarray | None
) -> None:
    """`NN.png`, `NN.txt` and `NN-mask.png` in the concept's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / f"{index:02}.png", optimize=True)
    (folder / f"{index:02}.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    if mask is not None:
        Image.fromarray(mask).save(folder / f"{index:02}-mask.png", optimize=True)


def figure(folder: Path, who: Figure, shots: Sequence[Shot], beside: float | None = None) -> None:
    """Draw a character or an object in every shot; `beside` is how tall its company is."""
    for index, shot in enumerate(shots, 1):
        others = []
        if shot.beside:
            size = 0.4 if isinstance(shot.beside[0], Thing) else beside or shot.size
            others = [(shot.beside[0], shot.beside[1], size)]
        picture, mask = compose(
            shot.place, shot.time, [*others, (who(shot), shot.x, shot.size)], index
        )
        write(folder, index, picture, captions(folder.name, shot), mask)


def character(folder: Path, look: Look) -> None:
    """Draw a character in every shot."""
    figure(folder, lambda s: with_pose(look, s.pose, mirror=s.mirror), CHARACTER_SHOTS)


def scene(folder: Path, place: Scenery) -> None:
    """Draw a place, empty and with guests."""
    for index, guest in enumerate(SCENE_SHOTS, 1):
        subjects = (
            [(guest[0], guest[1], 0.3 if isinstance(guest[0], Thing) else 0.6)] if guest else []
        )
        picture, _ = compose(place, "night", subjects, 40 + index)
        name = folder.name
        words = (
            [f"{guest[2]}, in <{name}>"] if guest else [f"in <{name}>", f"a picture of <{name}>"]
        )
        write(folder, index, picture, words, None)


def puddle(file: Path) -> None:
    """The picture that `stories/the-raincoat.yaml` brings: Pip jumps over a puddle in his coat."""
    made = paint.surface(PUDDLE)
    canvas = made.getCanvas()
    canvas.scale(PUDDLE, PUDDLE)
    b = Brush(canvas, 0.006)
    draw_place(b, "meadow", "day", "rain", np.random.default_rng(4))
    b.oval(0.5, 0.86, 0.44, 0.1, "#7fb2d9")
    b.oval(0.44, 0.85, 0.3, 0.05, "#a9cfe9", line=False)
    drops = ((0.2, 0.78, 0.016), (0.27, 0.73, 0.012), (0.8, 0.77, 0.018), (0.72, 0.72, 0.011))
    for x, y, r in (*drops, (0.86, 0.7, 0.01), (0.14, 0.7, 0.01)):
        b.oval(x, y, 0.8 * r, 1.3 * r, "#a9cfe9")
    b.oval(0.5, 0.86, 0.16, 0.02, INK, line=False, alpha=0.2)
    coat = Look(
        PIP.species, PIP.fur, garment="coat", garment_colour="yellow", pose="jumping", extras=HORN
    )
    size = 0.6
    close = Brush(canvas, 0.0095 / size)
    with close.at(0.5, 0.82, scale=size):
        draw_creature(close, coat)
    drawn = Image.fromarray(paint.pixels(made)[..., :3])
    drawn.quantize(96, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    """Draw all five, and the raincoat's puddle."""
    puddle(HERE.parent / "stories" / "art" / "puddle.png")
    for name, look in (("pip", PIP), ("juna", JUNA), ("mo", MO)):
        character(HERE / name, look)
    figure(HERE / "lantern", lambda s: lantern, OBJECT_SHOTS, beside=0.62)
    scene(HERE / "moonwood", moonwood)


if __name__ == "__main__":
    main()
