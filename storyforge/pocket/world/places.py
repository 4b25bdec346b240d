"""How the scenes of the picture-book world are drawn: on a unit square, y down."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storyforge.pocket.world import brush as paint
from storyforge.pocket.world.brush import INK, Brush, mix

SKIES = {
    "day": ("#8ccff5", "#e2f4fd"),
    "night": ("#1b2152", "#4a4a8c"),
    "sunset": ("#f58f6c", "#fde0a8"),
}
TIMES = tuple(SKIES)
WEATHERS = ("clear", "rain", "snowfall", "fog", "leaves", "fireflies")
ODD_SKIES = {
    "violet": ("#3b2a6b", "#b3669f"),
    "pink": ("#f29bc0", "#fde3d2"),
    "green": ("#2f8f84", "#c9efb0"),
    "gold": ("#f0b43c", "#fdf0b5"),
}
SKY_KINDS = ("plain", *ODD_SKIES, "big moon", "rainbow", "stars")
"""What may be odd about a sky; stars are large ones."""

HORIZON = 0.66
"""Height of the horizon in fractions of the picture; subjects stand below it."""


@dataclass(frozen=True, slots=True)
class Tint:
    """Colours of odd woods and meadows."""

    leaves: tuple[str, str]
    trunk: str
    ground: str


TINTS = {
    "violet": Tint(("#6b3fa0", "#8a5cc4"), "#4f3a72", "#b59adb"),
    "teal": Tint(("#1f8f92", "#4cb8ae"), "#5d4a6a", "#8fd6c8"),
    "pink": Tint(("#ee8fb8", "#f7b3cd"), "#8a5a6a", "#e58fb0"),
    "golden": Tint(("#e9a52e", "#f4c65a"), "#7a5438", "#ead187"),
}


class Stage:
    """One scene being painted: brush, hour, weather and the generator for its small props."""

    def __init__(
        self,
        b: Brush,
        time: str,
        weather: str,
        generator: np.random.Generator,
        *,
        sky: str = "plain",
        tint: str | None = None,
    ) -> None:
        """Paint with `b`; `sky` is one of `SKY_KINDS`, `tint` of `TINTS`.

        What stands where is the same at every hour, in all weathers, skies and tints: what these
        have that others have not is drawn by generators of their own.
        """
        self.b, self.time, self.weather, self.generator = b, time, weather, generator
        self.above, self.leaves = generator.spawn(2)
        self.sky_kind, self.tint = sky, TINTS.get(tint or "")

    def tone(self, dye: str) -> str:
        """The colour `dye` in the light of this hour."""
        if self.time == "night":
            return mix(dye, "#232a5c", 0.52)
        return mix(dye, "#f58a5a", 0.16) if self.time == "sunset" else dye

    def sky(self, *, lights: bool = True) -> None:
        """Gradient, sun or moon, clouds or stars."""
        top, bottom = self.sky_colours()
        self.b.gradient((0, 0, 1, 0.8), top, bottom)
        side = float(self.generator.choice([0.14, 0.86]))
        cloud = float(self.generator.uniform(0.25, 0.75)), float(self.generator.uniform(0.08, 0.18))
        lights = lights and self.sky_kind != "big moon"
        if self.time == "night" and lights:
            for x, y in self.above.uniform((0.02, 0.02), (0.98, 0.5), (22, 2)):
                self.b.oval(x, y, 0.0045, 0.0045, "#fff9da", line=False)
            self.b.oval(side, 0.14, 0.07, 0.07, "#fdf3c4", line=False)
            self.b.oval(side + 0.035, 0.12, 0.06, 0.06, top, line=False)
        elif self.weather == "clear" and lights:
            sun = "#ffe07a" if self.time == "day" else "#fff0b8"
            y = 0.14 if self.time == "day" else 0.42
            self.b.oval(side, y, 0.095, 0.095, "#ffffff", line=False, alpha=0.45)
            self.b.oval(side, y, 0.07, 0.07, sun, line=False)
        if self.time != "night":
            self._clouds(cloud)
        self._wonder()

    def sky_colours(self) -> tuple[str, str]:
        """Above and at the horizon."""
        top, bottom = SKIES[self.time]
        if self.sky_kind in ODD_SKIES:
            top, bottom = ODD_SKIES[self.sky_kind]
            if self.time == "night":
                top, bottom = mix(top, "#151a45", 0.45), mix(bottom, "#232a5c", 0.3)
        if self.weather in ("rain", "snowfall", "fog"):
            top, bottom = mix(top, "#7d8796", 0.55), mix(bottom, "#aab3bd", 0.5)
        return top, bottom

    def _clouds(self, first: tuple[float, float]) -> None:
        second = float(self.above.uniform(0.25, 0.75)), float(self.above.uniform(0.08, 0.18))
        for x, y in (first,) if self.weather == "clear" else (first, second):
            for dx, r in ((-0.06, 0.03), (0, 0.045), (0.06, 0.032)):
                self.b.oval(x + dx, y, r * 1.4, r, "#ffffff", line=False, alpha=0.9)

    def _wonder(self) -> None:
        """What is odd in the sky, other than its colour."""
        if self.sky_kind == "big moon":
            x = float(self.above.choice([0.3, 0.5, 0.7]))
            self.b.oval(x, 0.25, 0.25, 0.25, "#fff1c9", line=False, alpha=0.25)
            self.b.oval(x, 0.25, 0.185, 0.185, "#fff4d6", line=False)
            for dx, dy, r in ((-0.07, -0.06, 0.032), (0.06, 0.04, 0.042), (-0.03, 0.08, 0.024)):
                self.b.oval(x + dx, 0.25 + dy, r, r, "#f1dfb0", line=False)
        elif self.sky_kind == "rainbow":
            bands = ("#e2574c", "#f59a3c", "#f8d24a", "#5dbb63", "#4a86dc", "#9a6be0")
            for index, dye in enumerate(bands):
                arc = paint.arc(0.5, 0.72, 0.52 - 0.026 * index)
                self.b.trace(arc, dye, 0.028)
        elif self.sky_kind == "stars":
            for x, y in self.above.uniform((0.05, 0.04), (0.95, 0.45), (11, 2)):
                r = float(self.above.uniform(0.016, 0.034))
                self.b.path(paint.star(x, y, r, 0.45 * r), "#ffe27a", line=False)

    def ground(self, dye: str, *, y: float = HORIZON, wave: float = 0.03) -> None:
        """A band of ground with a soft upper edge."""
        dye = self.tone(self.tint.ground if self.tint else dye)
        self.b.blob(
            [
                (-0.3, y + 0.05),
                (0.15, y - wave),
                (0.6, y + wave),
                (1.3, y - wave),
                (1.4, 1.5),
                (-0.4, 1.5),
            ],
            dye,
            line=False,
        )
        self.b.blob(
            [
                (-0.3, y + 0.25),
                (0.35, y + 0.15),
                (0.9, y + 0.2),
                (1.4, y + 0.13),
                (1.5, 1.6),
                (-0.4, 1.6),
            ],
            mix(dye, INK, 0.08),
            line=False,
        )

    def pine(self, x: float, y: float, tall: float, dye: str) -> None:
        """A fir tree standing at (x, y)."""
        trunk = self.tint.trunk if self.tint else "#7a5438"
        dye = self.leaf(dye)
        self.b.box(x - 0.02, y - 0.06, 0.04, 0.08, self.tone(trunk), line=False)
        for i in range(3):
            w, base = tall * (0.3 - 0.06 * i), y - 0.05 - tall * 0.26 * i
            self.b.polygon(
                [(x - w, base), (x, base - tall * 0.46), (x + w, base)],
                mix(self.tone(dye), "#ffffff", 0.05 * i),
                line=False,
            )

    def leaf(self, dye: str) -> str:
        """The colour of leaves: `dye`, or one of the tint's."""
        return self.tint.leaves[int(1000 * float(self.leaves.random())) % 2] if self.tint else dye

    def round_tree(self, x: float, y: float, tall: float, dye: str) -> None:
        """A tree like a ball on a stick, standing at (x, y)."""
        trunk = self.tint.trunk if self.tint else "#7a5438"
        leaves = self.tone(self.leaf(dye))
        self.b.box(x - 0.024, y - tall * 0.55, 0.048, tall * 0.57, self.tone(trunk), line=False)
        self.b.oval(x, y - tall * 0.66, tall * 0.25, tall * 0.28, leaves, line=False)
        light = mix(leaves, "#ffffff", 0.22)
        self.b.oval(x - 0.05 * tall, y - tall * 0.74, tall * 0.08, tall * 0.07, light, line=False)


def _meadow(s: Stage) -> None:
    s.sky()
    s.b.blob(
        [(-0.2, 0.7), (0.2, 0.5), (0.6, 0.66), (1.0, 0.52), (1.4, 0.7), (1.4, 1.2), (-0.2, 1.2)],
        s.tone(mix(s.tint.ground, "#ffffff", 0.3) if s.tint else "#a6d977"),
        line=False,
    )
    s.ground("#83c655")
    for x, y in s.generator.uniform((0.02, 0.74), (0.98, 0.97), (9, 2)):
        s.b.oval(
            x,
            y,
            0.011,
            0.011,
            s.tone(str(s.generator.choice(["#ffffff", "#ffd84d", "#f48cb6"]))),
            line=False,
        )


def _forest(s: Stage) -> None:
    s.sky(lights=s.time == "night")
    if s.sky_kind == "plain":
        mist = ("#bfe3c0", "#9fd3a8")
        if s.tint:
            mist = (mix(s.tint.ground, "#ffffff", 0.55), mix(s.tint.ground, "#ffffff", 0.3))
        s.b.gradient((0, 0.25, 1, 0.8), s.tone(mist[0]), s.tone(mist[1]))
    for x in np.linspace(0.02, 0.98, 7):
        s.pine(
            x + s.generator.uniform(-0.04, 0.04), 0.66, s.generator.uniform(0.5, 0.62), "#5d9f77"
        )
    s.ground("#6fae5a")
    for x in (0.0, 0.16, 0.86, 1.0):
        s.pine(
            x + s.generator.uniform(-0.03, 0.03), 0.76, s.generator.uniform(0.62, 0.75), "#33755a"
        )


def _beach(s: Stage) -> None:
    s.sky()
    s.b.gradient((0, 0.48, 1, 0.75), s.tone("#3a9fd0"), s.tone("#7fd0e6"))
    for x, y in s.generator.uniform((0.05, 0.52), (0.9, 0.66), (6, 2)):
        s.b.stroke([(x, y), (x + 0.06, y)], s.tone("#e8f7fc"), 0.008, line=False)
    s.ground("#f6dd9c", y=0.7)


def _mountains(s: Stage) -> None:
    s.sky()
    for x, y, w in ((0.2, 0.3, 0.32), (0.78, 0.26, 0.36), (0.5, 0.38, 0.3)):
        x += float(s.generator.uniform(-0.04, 0.04))
        s.b.polygon([(x - w, 0.75), (x, y), (x + w, 0.75)], s.tone("#8e94b8"), line=False)
        s.b.polygon(
            [
                (x - w * 0.27, y + 0.125),
                (x, y),
                (x + w * 0.27, y + 0.125),
                (x + 0.03, y + 0.1),
                (x - 0.03, y + 0.13),
            ],
            s.tone("#fdfdff"),
            line=False,
        )
    s.ground("#7fae6a")


def _town(s: Stage) -> None:
    s.sky()
    walls = ["#f2b8a0", "#f6d68f", "#a9cfe8", "#c6b4e3", "#b9dba6", "#ef9f8f"]
    x = -0.05
    while x < 1.0:
        w, h = float(s.generator.uniform(0.17, 0.23)), float(s.generator.uniform(0.26, 0.42))
        wall = s.tone(str(s.generator.choice(walls)))
        s.b.box(x, 0.7 - h, w, h, wall, line=False)
        s.b.polygon(
            [(x - 0.01, 0.7 - h), (x + w / 2, 0.6 - h), (x + w + 0.01, 0.7 - h)],
            s.tone("#b4624f"),
            line=False,
        )
        for wx in (x + w * 0.2, x + w * 0.6):
            s.b.box(
                wx,
                0.75 - h,
                w * 0.22,
                0.08,
                "#ffe59a" if s.time == "night" else s.tone("#fdf6dd"),
                line=False,
            )
        x += w
    s.b.box(-0.1, 0.68, 1.2, 0.4, s.tone("#c3c0c4"), line=False)
    for x in (0.05, 0.4, 0.75):
        s.b.box(x, 0.84, 0.17, 0.022, s.tone("#f5f2ea"), line=False)


def _snow(s: Stage) -> None:
    s.sky()
    for x in (0.1, 0.27, 0.8, 0.93):
        s.pine(
            x + s.generator.uniform(-0.04, 0.04), 0.69, s.generator.uniform(0.3, 0.42), "#6f9f98"
        )
    s.ground("#f7fafd")


def _desert(s: Stage) -> None:
    s.sky()
    s.b.blob(
        [(-0.2, 0.75), (0.1, 0.5), (0.45, 0.62), (0.85, 0.48), (1.3, 0.7), (1.3, 1.2), (-0.2, 1.2)],
        s.tone("#eeb86a"),
        line=False,
    )
    s.ground("#f3cd83")
    for x in (0.1, 0.9):
        x += float(s.generator.uniform(-0.05, 0.05))
        green = s.tone("#58a065")
        s.b.stroke([(x, 0.72), (x, 0.44)], green, 0.05, line=False)
        s.b.stroke([(x, 0.6), (x + 0.08, 0.6), (x + 0.08, 0.5)], green, 0.035, line=False)
        s.b.stroke([(x, 0.64), (x - 0.08, 0.64), (x - 0.08, 0.55)], green, 0.035, line=False)


def _pond(s: Stage) -> None:
    s.sky()
    s.ground("#8fca63", y=0.56)
    s.b.oval(0.5, 0.68, 0.44, 0.1, s.tone("#63b7de"), line=False)
    for x in (0.3, 0.68):
        s.b.oval(
            x + s.generator.uniform(-0.06, 0.06), 0.68, 0.06, 0.02, s.tone("#4fa35a"), line=False
        )
    for x in (0.05, 0.09, 0.92, 0.96):
        s.b.stroke([(x, 0.72), (x, 0.5)], s.tone("#4b8f4e"), 0.012, line=False)
        s.b.oval(x, 0.5, 0.016, 0.04, s.tone("#8a5a3a"), line=False)


def _grove(s: Stage) -> None:
    s.sky()
    s.b.blob(
        [(-0.2, 0.72), (0.25, 0.58), (0.6, 0.64), (1.0, 0.56), (1.4, 0.7), (1.4, 1.2), (-0.2, 1.2)],
        s.tone(mix(s.tint.ground, "#ffffff", 0.2) if s.tint else "#b7dd8a"),
        line=False,
    )
    for x in (0.13, 0.3, 0.7, 0.88):
        s.round_tree(
            x + s.generator.uniform(-0.04, 0.04), 0.68, s.generator.uniform(0.34, 0.44), "#6fb56a"
        )
    s.ground("#8fcb66")
    for x in (0.02, 0.98):
        s.round_tree(
            x + s.generator.uniform(-0.03, 0.03), 0.77, s.generator.uniform(0.58, 0.7), "#4a9a5c"
        )


CORALS = ("#f2795f", "#c23a5b", "#f08a2c", "#f48cb6", "#9a6be0")


def _seabed(s: Stage) -> None:
    top, bottom = [("#0f6fa8", "#5fc3dd"), ("#1b4f9c", "#7fb5ea")][int(s.generator.integers(2))]
    s.b.gradient((0, 0, 1, 1), s.tone(top), s.tone(bottom))
    s.ground("#f3d98b", y=0.76, wave=0.02)
    for x, tall in ((0.07, 0.4), (0.22, 0.24), (0.8, 0.3), (0.94, 0.44)):
        x += float(s.generator.uniform(-0.03, 0.03))
        dye = s.tone(str(s.generator.choice(CORALS)))
        for sway in (-0.5, 0.0, 0.5):
            tip = (x + sway * tall * 0.5, 0.8 - tall)
            s.b.stroke(
                [(x, 0.82), (x + sway * tall * 0.2, 0.8 - tall / 2), tip], dye, 0.04, line=False
            )
    for x, y in s.generator.uniform((0.05, 0.05), (0.95, 0.6), (9, 2)):
        s.b.oval(x, y, 0.016, 0.016, "#e4fbff", line=False, alpha=0.7)


def _bedroom(s: Stage) -> None:
    wall = s.tone(str(s.generator.choice(["#e6d5f0", "#fbdcc0", "#cfe5f2", "#f8d3dc"])))
    s.b.box(-0.1, -0.1, 1.2, 1.2, wall, line=False)
    for x in np.linspace(0.05, 0.95, 7):
        s.b.box(x, -0.1, 0.018, 0.85, mix(wall, INK, 0.06), line=False)
    s.b.box(-0.1, 0.7, 1.2, 0.4, s.tone("#c98f5d"), line=False)
    s.b.box(-0.1, 0.69, 1.2, 0.022, s.tone("#fdf3e4"), line=False)
    side = float(s.generator.choice([0.12, 0.66]))
    s.b.box(side, 0.12, 0.22, 0.24, SKIES[s.time][0], radius=0.01)
    s.b.stroke([(side + 0.11, 0.12), (side + 0.11, 0.36)], s.tone("#8a5a3a"), 0.014, line=False)
    s.b.stroke([(side, 0.24), (side + 0.22, 0.24)], s.tone("#8a5a3a"), 0.014, line=False)
    if s.time == "night":
        s.b.oval(side + 0.05, 0.18, 0.022, 0.022, "#fdf3c4", line=False)
    s.b.oval(
        0.5,
        0.87,
        0.36,
        0.075,
        s.tone(str(s.generator.choice(["#dd6a6a", "#6f95cf", "#7fb77a"]))),
        line=False,
    )


def _library(s: Stage) -> None:
    s.b.box(-0.1, -0.1, 1.2, 1.2, s.tone("#8f6240"), line=False)
    books = ["#dc3c3c", "#3b72d9", "#43a35a", "#f8cf3a", "#8a4fc0", "#f08a2c", "#f7f4ee"]
    for y in (0.04, 0.25, 0.46):
        s.b.box(0.03, y, 0.94, 0.17, s.tone("#5d3d29"), line=False)
        x = 0.05
        while x < 0.92:
            w, h = float(s.generator.uniform(0.03, 0.055)), float(s.generator.uniform(0.11, 0.155))
            s.b.box(x, y + 0.17 - h, w, h, s.tone(str(s.generator.choice(books))), line=False)
            x += w + float(s.generator.choice([0.004, 0.004, 0.05]))
    s.b.box(-0.1, 0.68, 1.2, 0.5, s.tone("#b5794b"), line=False)
    s.b.oval(0.5, 0.87, 0.36, 0.075, s.tone("#a8434b"), line=False)


PLACES: dict[str, tuple[Callable[[Stage], None], bool]] = {
    "meadow": (_meadow, True),
    "forest": (_forest, True),
    "beach": (_beach, True),
    "mountains": (_mountains, True),
    "town": (_town, True),
    "snow": (_snow, True),
    "desert": (_desert, True),
    "pond": (_pond, True),
    "bedroom": (_bedroom, False),
    "library": (_library, False),
    "grove": (_grove, True),
    "seabed": (_seabed, False),
}
"""Painter of each scene, and whether it is under the sky."""

ARRANGEMENTS = 8
"""In how many ways small props stand about in pictures that are imagined, in each place."""

TINTED = ("forest", "grove", "meadow")
"""Scenes that may have a tint."""


def fall(b: Brush, weather: str) -> None:
    """Rain or snowflakes over everything, falling alike everywhere."""
    falling = np.random.default_rng(0)
    if weather == "rain":
        for x, y in falling.uniform(0, 1, (26, 2)):
            b.stroke([(x, y), (x - 0.015, y + 0.055)], "#cfe6f7", 0.006, line=False)
    elif weather == "snowfall":
        for x, y in falling.uniform(0, 1, (34, 2)):
            b.oval(x, y, 0.01, 0.01, "#ffffff", line=False)
    elif weather == "fog":
        b.box(0, 0, 1, 1, "#f4f6fa", line=False, alpha=0.14)
        for x, y in falling.uniform((0, 0.74), (1, 1), (7, 2)):
            b.oval(x, y, 0.4, 0.04, "#f4f6fa", line=False, alpha=0.35)
    elif weather == "leaves":
        for x, y, turn in falling.uniform((0, 0, 0), (1, 1, 180), (24, 3)):
            dye = ("#e2873c", "#d9534a", "#f0c04a")[int(turn) % 3]
            with b.at(x, y, turn=turn):
                b.oval(0, 0, 0.018, 0.008, dye, line=False)
    elif weather == "fireflies":
        for x, y in falling.uniform((0.02, 0.25), (0.98, 0.95), (16, 2)):
            b.oval(x, y, 0.016, 0.016, "#fff3a0", line=False, alpha=0.35)
            b.oval(x, y, 0.007, 0.007, "#fffbd6", line=False)


def draw_place(
    b: Brush,
    name: str,
    time: str,
    weather: str,
    generator: np.random.Generator,
    *,
    sky: str = "plain",
    tint: str | None = None,
) -> None:
    """Paint the scene `name`, but for what falls before it."""
    PLACES[name][0](Stage(b, time, weather, generator, sky=sky, tint=tint))
