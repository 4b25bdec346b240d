"""Words for pictures: captions that say everything, most things, or little.

`describe` chooses among them, `tell` is the same full caption every time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storyforge.pocket.world.looks import CROWNS, MARKS, PATTERNS, PEOPLE, SPECIES, Look
from storyforge.pocket.world.picture import Picture, Subject, Thing

SAID: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "place": {
        "meadow": ("in a meadow", "in the meadow", "on a green meadow", "on the grass"),
        "forest": ("in a forest", "in the forest", "in the woods", "among trees"),
        "beach": ("on a beach", "at the beach", "by the sea"),
        "mountains": ("in the mountains", "in front of mountains"),
        "town": ("in a town", "in the town", "on a street", "in the city"),
        "snow": ("in the snow", "in a snowy field", "in winter"),
        "desert": ("in a desert", "in the desert"),
        "pond": ("at a pond", "by the pond", "by a lake"),
        "bedroom": ("in a bedroom", "in a room", "at home"),
        "library": ("in a library", "in the library", "in front of bookshelves"),
        "grove": ("in a grove", "among round trees", "in a grove of round trees"),
        "seabed": ("under the sea", "at the bottom of the sea", "underwater"),
    },
    "time": {
        "day": ("by day", "in the sunshine", "on a bright day"),
        "night": ("at night", "by night", "in the night", "under the moon"),
        "sunset": ("at sunset", "in the evening", "at dusk"),
    },
    "weather": {
        "rain": ("in the rain", "while it is raining"),
        "snowfall": ("while it is snowing", "in falling snow"),
        "fog": ("in the fog", "on a foggy day"),
        "leaves": ("in falling leaves", "while leaves are falling"),
        "fireflies": ("among fireflies", "with fireflies"),
    },
    "side": {
        "left": ("on the left", "on the left side", "to the left"),
        "middle": ("in the middle", "in the centre", "in the center"),
        "right": ("on the right", "on the right side", "to the right"),
    },
    "pose": {
        "standing": ("standing",),
        "waving": ("waving", "waving hello"),
        "sitting": ("sitting",),
        "jumping": ("jumping", "jumping for joy"),
        "running": ("running",),
        "holding": ("holding",),
    },
    "garment": {
        "coat": ("coat", "jacket"),
        "shirt": ("shirt", "sweater", "jumper"),
        "dress": ("dress",),
    },
    "sky": {
        "violet": ("under a violet sky",),
        "pink": ("under a pink sky",),
        "green": ("under a green sky",),
        "gold": ("under a golden sky", "under a gold sky"),
        "big moon": ("under a big moon", "with a big moon", "under a giant moon"),
        "rainbow": ("under a rainbow", "with a rainbow"),
        "stars": ("under big stars", "with big stars in the sky"),
    },
    "tinted": {
        "meadow": ("in a {} meadow", "on a {} meadow"),
        "forest": ("in a {} forest", "in {} woods", "among {} trees"),
        "grove": ("in a {} grove", "among {} round trees"),
    },
    "pattern": {
        "stripes": ("with {} stripes",),
        "spots": ("with {} dots", "with {} spots", "with {} polka dots"),
        "checks": ("with {} checks", "with {} squares"),
        "moon": ("with a {} moon on it",),
        "star": ("with a {} star on it",),
        "hearts": ("with {} hearts",),
    },
    "feature": {
        "fur stripes": ("{} stripes in the fur", "{} fur stripes"),
        "fur spots": ("{} spots in the fur", "{} fur spots"),
        "patch": ("a {} patch", "a {} patch around the eye"),
        "horn": ("a {} horn",),
        "antlers": ("{} antlers",),
        "crest": ("a {} crest",),
        "antennae": ("{} antennae", "{} feelers"),
        "wings": ("{} wings",),
    },
    "build": {
        "tall": ("tall", "tall and thin"),
        "small": ("small", "little", "tiny"),
        "round": ("round", "chubby"),
    },
    "view": {
        "close-up": ("a close-up of ", "close-up of ", "head and shoulders of "),
        "face": ("the face of ", "a close-up of the face of "),
    },
}
OPENINGS: Final = (
    "",
    "",
    "",
    "",
    "a picture of ",
    "a drawing of ",
    "picture book illustration of ",
    "a storybook picture of ",
    "illustration of ",
)
CLOSINGS: Final = ("", "", "", ", picture book illustration", ", soft light")


ROOM: Final = 57
"""Words and commas that a caption has room for: an encoder reads 77 pieces, some words are two."""

FULL, SHORT = 0.7, 0.1
"""Shares of the captions that say everything, and that say hardly anything."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How words are chosen: at random, or always the first, and how much is said at all."""

    generator: np.random.Generator | None
    full: bool = True

    def pick(self, words: Sequence[str]) -> str:
        """One of the ways to say it."""
        return words[int(self.generator.integers(len(words)))] if self.generator else words[0]

    def words(self, kind: str, name: str) -> str:
        """One of the ways to say `name`."""
        return self.pick(SAID[kind][name])

    def says(self, often: float) -> bool:
        """Whether something is said that a loose caption says so often."""
        return self.full or self.chance(often)

    def chance(self, share: float) -> bool:
        """True in this share of the cases; the likelier if nothing is left to chance."""
        return bool(self.generator.random() < share) if self.generator else share > 0.5


def describe(picture: Picture, generator: np.random.Generator) -> str:
    """A caption: a full sentence or a list of tags; 70 % say everything, 10 % hardly anything."""
    kind = generator.random()
    if kind < 1 - SHORT:
        return _fitting(picture, Voice(generator, full=bool(kind < FULL)))
    return _shortly(picture, Voice(generator, full=False))


def tell(picture: Picture) -> str:
    """The caption that says everything, the same every time."""
    return _fitting(picture, Voice(None))


def _fitting(picture: Picture, voice: Voice) -> str:
    """All that the voice says and that there is room for; of crowds small things are left out."""
    crowd = len(picture.subjects) > 1
    placed = crowd or voice.says(0.65)
    setting = _setting_words(voice, picture)
    detail = [3] * len(picture.subjects)
    while True:
        who = [
            _subject_words(voice, subject, place=placed, detail=level)
            for subject, level in zip(picture.subjects, detail, strict=True)
        ]
        said = _sentence(voice, who, setting, openings=min(detail) > 2)
        if len(said.replace(",", " ,").replace("-", " - ").split()) <= ROOM or not any(detail):
            return said
        detail[detail.index(max(detail))] -= 1


def _shortly(picture: Picture, voice: Voice) -> str:
    """Who or what is there, or where it is, and no more."""
    if voice.chance(0.2):
        return voice.words("place", picture.place)
    who = []
    for subject in picture.subjects[:2]:
        what = subject.what
        noun = f"{what.colour} {what.name}" if isinstance(what, Thing) else what.species
        who.append(_article(noun))
    return " and ".join(who)


def _sentence(voice: Voice, who: list[str], setting: list[str], *, openings: bool) -> str:
    crowd = len(who) > 1
    opening, closing = ("", "")
    if openings and not who[0].startswith(VIEW_WORDS):
        opening, closing = voice.pick(OPENINGS), voice.pick(CLOSINGS)
    if voice.chance(0.25):
        return opening + ", ".join(who + setting) + closing
    body = (", and " if voice.chance(0.5) else " and ").join(who)
    tail = " ".join(setting)
    if tail and voice.chance(0.15):
        return f"{opening}{tail}, {body}{closing}"
    return opening + (f"{body}{',' if crowd else ''} {tail}" if tail else body) + closing


def _setting_words(voice: Voice, picture: Picture) -> list[str]:
    said = []
    if voice.says(0.88):
        if picture.tint and voice.says(0.9):
            said.append(voice.words("tinted", picture.place).format(picture.tint))
        else:
            said.append(voice.words("place", picture.place))
    if voice.says(0.3 if picture.time == "day" else 0.85):
        said.append(voice.words("time", picture.time))
    if picture.weather != "clear" and voice.says(0.85):
        said.append(voice.words("weather", picture.weather))
    if picture.sky != "plain" and voice.says(0.85):
        said.append(voice.words("sky", picture.sky))
    if voice.generator and voice.chance(0.3):
        voice.generator.shuffle(said)
    return said


def _article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _dyed(phrase: str, dye: str) -> str:
    """`a {} horn` with the colour's name, or without where it has none."""
    if dye.startswith("#"):
        return phrase.replace("{} ", "")
    said = phrase.format(spoken(dye))
    return said.replace("a orange", "an orange")


def spoken(dye: str) -> str:
    """The name of a colour as it is said."""
    return "sky blue" if dye == "sky" else dye


def _subject_words(voice: Voice, subject: Subject, *, place: bool, detail: int) -> str:
    what, view = subject.what, ""
    if isinstance(what, Thing):
        words = thing_words(voice, what, detail=detail)
    else:
        words = _look_words(voice, what, subject, detail=detail)
    if subject.view != "whole" and voice.says(0.8):
        view = voice.words("view", subject.view)
    return view + (f"{words} {voice.words('side', subject.side)}" if place else words)


def thing_words(voice: Voice, thing: Thing, *, detail: int = 3) -> str:
    """Words for an object, such as `a glowing blue lantern with a gold star on it`."""
    noun = f"{thing.colour} {thing.name}" if voice.says(0.9) else thing.name
    if thing.glow and detail > 0 and voice.says(0.7):
        noun = f"glowing {noun}"
    words = _article(noun)
    if thing.pattern and detail > 0 and voice.says(0.7):
        words += " " + _dyed(voice.words("pattern", thing.pattern), thing.pattern_colour)
    return words


def look_words(generator: np.random.Generator, look: Look) -> str:
    """Words for a character, such as `a blue cat in a red coat with a crown, waving`."""
    whole = Subject(look, 0.5, 0.9, 0.6)
    return _look_words(Voice(generator, full=generator.random() < 0.5), look, whole, detail=3)


def _look_words(voice: Voice, look: Look, subject: Subject, *, detail: int) -> str:
    words = _article(_who(voice, look, detail))
    if subject.garment and voice.says(0.85):
        dress = f"{look.garment_colour} {voice.words('garment', subject.garment)}"
        words += voice.pick((" in ", " wearing ")) + _article(dress)
        pattern = look.one_of(PATTERNS)
        if pattern != "none" and detail > 0 and voice.says(0.65):
            words += " " + _dyed(voice.words("pattern", pattern), dict(look.extras)[pattern])
    worn = _with(voice, look, subject, detail)
    if worn:
        words += " with " + " and ".join(worn)
    return words + _doing(voice, look, subject, detail)


def _who(voice: Voice, look: Look, detail: int) -> str:
    noun = look.species
    if look.species in PEOPLE:
        if detail > 1 and voice.says(0.5):
            noun = f"{noun} with {look.hair} hair"
        if detail > 2 and voice.says(0.35):
            noun = f"{look.fur}-skinned {noun}"
    elif not look.fur.startswith("#") and (
        look.fur != SPECIES[look.species].fur or (detail > 1 and voice.says(0.2))
    ):
        noun = f"{spoken(look.fur)} {noun}"
    if dict(look.extras).get("glow") and detail > 0 and voice.says(0.7):
        noun = f"glowing {noun}"
    if look.build != "usual" and detail > 1 and voice.says(0.6):
        noun = f"{voice.words('build', look.build)} {noun}"
    return noun


def _with(voice: Voice, look: Look, subject: Subject, detail: int) -> list[str]:
    """What has grown and what is worn, accessories last."""
    dyes, said = dict(look.extras), []
    for name in (*CROWNS, *MARKS, "wings"):
        seen = subject.view != "face" or name != "wings"
        if name in dyes and detail > 0 and seen and voice.says(0.65):
            said.append(_dyed(voice.words("feature", name), dyes[name]))
    if not look.garment and subject.view != "face":
        bare = [name for name in PATTERNS if name in dyes and detail > 0 and voice.says(0.65)]
        said += [_dyed(voice.words("pattern", n), dyes[n]).removeprefix("with ") for n in bare]
    if look.accessory and voice.says(0.85) and detail > 0:
        said.append(_accessory_words(voice, look))
    elif not look.accessory and voice.full and detail > 2 and voice.chance(0.6):
        said.append("no hat")
    return said


def _doing(voice: Voice, look: Look, subject: Subject, detail: int) -> str:
    if subject.pose is None:
        return ""
    if subject.pose == "holding" and look.holding:
        return f" holding {_article(f'{look.holding_colour} {look.holding}')}"
    if detail > 0 and voice.says(0.75):
        return voice.pick((" ", ", ")) + voice.words("pose", subject.pose)
    return ""


def _accessory_words(voice: Voice, look: Look) -> str:
    if look.accessory == "glasses":
        return "glasses"
    if look.accessory == "crown":
        return voice.pick(("a crown", "a golden crown"))
    return _article(
        f"{look.accessory_colour} {look.accessory}" if voice.says(0.8) else str(look.accessory)
    )


VIEW_WORDS: Final = ("a close-up", "close-up", "head and shoulders", "the face")
