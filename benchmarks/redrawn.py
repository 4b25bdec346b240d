"""A judge that draws again: it finds what, drawn by the illustrator, is most like a picture.

It begins with what the learnt judge (`benchmarks/judge.py`) says, and changes one thing after the
other, a place, a species, a bow, as long as the drawing comes nearer to the picture. Nothing is
learnt for it, and it knows no prompt and no latents: pixels alone. What it names is right as far as
it shows; on drawings it is measured like the other (`python -m benchmarks.redrawn`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import judge
from storyforge.pocket import world
from storyforge.pocket.world.looks import (
    ACCESSORIES,
    BUILDS,
    COLOURS,
    CROWNS,
    DYES,
    FEATURES,
    FURS,
    GARMENTS,
    HAIRS,
    MARKS,
    PATTERNS,
    PEOPLE,
    POSES,
    SKINS,
    SPECIES,
    Look,
)
from storyforge.pocket.world.picture import HOLDABLE, Picture, Subject, Thing
from storyforge.pocket.world.places import (
    ARRANGEMENTS,
    PLACES,
    SKY_KINDS,
    TIMES,
    TINTED,
    TINTS,
    WEATHERS,
)
from storyforge.pocket.world.proportions import BUILD_SHAPES
from storyforge.pocket.world.things import SURFACES, THINGS

SIZE: Final = 128
"""Pixels a side in which pictures are compared."""
MOST: Final = 0.3
"""How far apart two pixels may be at most, of 1: what is not found yet is not to count for all."""
MARGIN: Final = 2e-4
"""How much nearer, over all pixels on average, a drawing comes by what is there."""
ROUNDS: Final = 3
"""How often at most everything is tried anew."""
FAR: Final = ((0.9, 0.4), (0.9, 0.5), (0.9, 0.62), (0.92, 0.78))
CLOSE: Final = (
    *((1.13, 0.8), (1.27, 0.8), (1.2, 0.9), (1.25, 1.1), (1.3, 1.35), (1.4, 1.6)),
    *((1.6, 1.5), (1.75, 1.8), (2.0, 2.3)),
)
"""Where somebody may stand, and how large: ground and size."""
SIDES: Final = {"left": 0.22, "middle": 0.5, "right": 0.78}
STEPS: Final = (0.06, 0.025, 0.01)
"""How far things are moved, in fractions of the picture."""
TRIED: Final = 8
"""Places where somebody may stand that are looked at more closely."""
UNTOLD: Final = 0.02
"""A side of which so little is not drawn yet, on average, has nobody."""
POOR: Final = 0.035
"""Who is so unlike the picture, on average over what is around, is somebody else, or elsewhere."""
ENDS: Final = ("black", "white")
SKIN_ENDS: Final = ("dark", "light")
"""Two colours between which that of what is drawn is solved for."""

Pixels = NDArray[np.float32]


class Layer(NamedTuple):
    """Somebody with a shadow, before nothing.

    rows, columns  of the picture that are drawn on
    colours        (3, h, w) times opacity
    clear          (h, w) 1 less opacity
    """

    rows: slice
    columns: slice
    colours: Pixels
    clear: Pixels


class Easel:
    """A picture, and drawings of it that come nearer and nearer."""

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        """Of any size."""
        small = Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BOX)
        self.wanted = _planes(np.asarray(small))
        self.layers: dict[Subject, Layer] = {}
        self.scenes: dict[Picture, Pixels] = {}

    def apart(self, picture: Picture) -> float:
        """How far it is from a drawing, 0 to `MOST`."""
        red, green, blue = np.abs(self.drawn(picture) - self.wanted)
        return float(np.minimum(red + green + blue, 3 * MOST).mean()) / 3

    def drawn(self, picture: Picture) -> Pixels:
        """(3, h, w) in [0, 1], with nothing that falls before anybody, but fog."""
        if picture.weather == "fog" and picture.subjects:
            return _planes(world.draw(picture, SIZE)[0])
        made = self._scene(picture).copy()
        for subject in picture.subjects:
            rows, columns, colours, clear = self._layer(subject)
            there = made[:, rows, columns]
            there *= clear
            there += colours
        return made

    def _scene(self, picture: Picture) -> Pixels:
        key = replace(picture, subjects=())
        if key not in self.scenes:
            self.scenes[key] = _planes(world.draw(key, SIZE)[0])
        return self.scenes[key]

    def _layer(self, subject: Subject) -> Layer:
        if subject not in self.layers:
            if len(self.layers) > KEPT:
                self.layers.clear()
            self.layers[subject] = _layer_of(subject)
        return self.layers[subject]

    def best(self, now: Picture, others: Iterable[Picture], margin: float = 0.0) -> Picture:
        """The nearest of them; what is now, unless another is nearer by so much."""
        least = self.apart(now) - margin
        for other in others:
            far = self.apart(other)
            if far < least:
                now, least = other, far
        return now


class Choice(NamedTuple):
    """How somebody may look.

    what     but for a colour
    dyed     the field that has it, or the feature of `Look.extras`
    colours  among which it is chosen; none where there is no question of it
    """

    what: Look | Thing
    dyed: str = ""
    colours: Mapping[str, str] = MappingProxyType({})

    def of(self, colour: str) -> Look | Thing:
        """In a colour, by its name."""
        if isinstance(self.what, Look) and self.dyed in FEATURES:
            return replace(self.what, extras=(*self.what.extras, (self.dyed, colour)))
        fields: dict[str, Any] = {self.dyed: colour} if self.dyed else {}
        return replace(self.what, **fields)


class Question(NamedTuple):
    """What somebody may look like.

    without  the same without what is asked for
    margin   how much nearer it must come by what is there
    """

    choices: Sequence[Choice]
    without: Look | Thing | None = None
    margin: float = 0.0


Asking = Callable[[Any], Question]
"""Somebody, as it looks now, to a question about that."""

KEPT: Final = 512
"""Layers that are remembered."""
_AT: Final = (np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5) / SIZE


def _planes(picture: NDArray[np.uint8]) -> Pixels:
    """(h, w, c) to (c, h, w) in [0, 1]."""
    made: Pixels = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / np.float32(255)
    return made


def _layer_of(subject: Subject) -> Layer:
    """Somebody with a shadow, before nothing."""
    *colours, opacity = _planes(world.layer(subject, SIZE))
    _, (wide, high), ink, much = world.shadow()
    y, x = _AT
    across = (x - subject.x) / (wide * subject.size / 2)
    down = (y - subject.ground) / (high * subject.size / 2)
    shade = much * (across**2 + down**2 < 1) * (1 - opacity)
    clear = 1 - opacity - shade
    rows, columns = (np.flatnonzero((clear < 1).any(axis)) for axis in (1, 0))
    if not len(rows):
        rows = columns = np.zeros(1, int)
    here = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    made = [
        opacity * plane + shade * (dye + 1) / 2 for plane, dye in zip(colours, ink, strict=True)
    ]
    return Layer(*here, np.stack(made)[:, *here].astype(np.float32), clear[here].astype(np.float32))


def redrawn(picture: NDArray[np.uint8], guess: Picture) -> Picture:
    """What, drawn, is most like a picture (h, w, 3); `guess` is where to begin."""
    easel = Easel(picture)
    made = _scenery(easel, _found_again(easel, replace(guess, subjects=())))
    found = [_placed(easel, made, each) for each in guess.subjects]
    made = _in_order(replace(made, subjects=tuple(found)))
    for _ in range(ROUNDS):
        before = easel.apart(made)
        made = _scenery(easel, _found_again(easel, made))
        for index in range(len(made.subjects)):
            made = _looked(easel, made, index)
        made = _gone(easel, _anew(easel, _come(easel, made)))
        if easel.apart(made) > before - MARGIN:
            break
    return made


def _found_again(easel: Easel, made: Picture) -> Picture:
    """With the place that is nearest, in the best of its arrangements."""
    every = [
        replace(made, place=place, time=time, tint=tint, weather="clear", sky="plain")
        for place, time in product(PLACES, TIMES)
        for tint in _tints(place)
    ]
    best = sorted(every, key=easel.apart)[:4]
    arranged = [replace(each, seed=seed) for each in best for seed in range(ARRANGEMENTS)]
    return easel.best(made, arranged, MARGIN)


def _tints(place: str) -> tuple[str | None, ...]:
    return (None, *TINTS) if place in TINTED else (None,)


def _scenery(easel: Easel, made: Picture) -> Picture:
    """With the hour, weather and sky that are nearest."""
    outdoors = PLACES[made.place][1]
    for others in (
        (replace(made, time=time, tint=tint) for time in TIMES for tint in _tints(made.place)),
        (replace(made, weather=weather) for weather in (WEATHERS if outdoors else ("clear",))),
        (replace(made, sky=sky) for sky in (SKY_KINDS if outdoors else ("plain",))),
        (replace(made, seed=seed) for seed in range(ARRANGEMENTS)),
    ):
        made = easel.best(made, others)
    return made


def _placed(easel: Easel, scene: Picture, guess: Subject) -> Subject:
    """Somebody where that one is most likely, in a scene with nobody else."""
    starts = [
        replace(guess, x=guess.x + across, ground=ground, size=size * _largest(guess))
        for across in (-0.08, 0.0, 0.08)
        for ground, size in (FAR + CLOSE if isinstance(guess.what, Look) else FAR)
    ]
    trials = [replace(scene, subjects=(each,)) for each in starts]
    nearest = sorted(trials, key=easel.apart)[:TRIED]
    coloured = sorted((_coloured(easel, each, 0) for each in nearest), key=easel.apart)[:3]
    moved = [_coloured(easel, _moved(easel, each, 0), 0) for each in coloured]
    return min(moved, key=easel.apart).subjects[0]


def _coloured(easel: Easel, made: Picture, index: int, questions: int = 3) -> Picture:
    """With one subject in its largest colours, by the first questions."""
    for question in _askings(made, index)[:questions]:
        made = _asked(easel, made, index, question)
    return made


def _largest(subject: Subject) -> float:
    """How much larger things of a kind are than creatures."""
    return 1.0 if isinstance(subject.what, Look) else 1.35 * THINGS[subject.what.name][1]


def _with(made: Picture, index: int, subject: Subject) -> Picture:
    subjects = [*made.subjects]
    subjects[index] = subject
    return replace(made, subjects=tuple(subjects))


def _moved(easel: Easel, made: Picture, index: int, steps: Sequence[float] = STEPS) -> Picture:
    """With one subject where it is nearest."""
    for step in steps:
        for _ in range(6):
            now = made.subjects[index]
            others = [
                replace(now, x=now.x + right * step, ground=now.ground + down * step)
                for right, down in ((-1, 0), (1, 0), (0, -1), (0, 1))
            ]
            for times in (1 - step, 1 + step):
                # Feet, or the head, stay where they are.
                others.append(replace(now, size=now.size * times))
                lower = now.ground + now.size * (times - 1) * 0.9
                others.append(replace(now, size=now.size * times, ground=lower))
            nearer = easel.best(made, (_with(made, index, each) for each in others))
            if nearer is made:
                break
            made = nearer
    return made


def _looked(easel: Easel, made: Picture, index: int) -> Picture:
    """With one subject as it looks."""
    made = _kind(easel, made, index)
    made = _built(easel, _moved(easel, made, index, STEPS[1:]), index)
    for question in _askings(made, index):
        made = _asked(easel, made, index, question)
    return _moved(easel, made, index, STEPS[1:])


def _asked(easel: Easel, made: Picture, index: int, asking: Asking) -> Picture:
    """With one subject as a question about it is answered best."""
    now = made.subjects[index]
    question = asking(now.what)
    choices = [_dyed(easel, made, index, each) for each in question.choices]
    nearer = easel.best(made, choices, question.margin)
    if question.without is None:
        return nearer
    bare = _with(made, index, replace(now, what=question.without))
    return easel.best(nearer, [bare], -question.margin)


def _dyed(easel: Easel, made: Picture, index: int, choice: Choice) -> Picture:
    """With a subject as it would be by a choice, in the colour that is nearest."""
    now, colours = made.subjects[index], choice.colours
    if not colours:
        return _with(made, index, replace(now, what=choice.what))
    ends = ENDS if ENDS[0] in colours else SKIN_ENDS
    drawn = [easel.drawn(_with(made, index, replace(now, what=choice.of(end)))) for end in ends]
    dark, light = (_rgb(colours[end])[:, None, None] for end in ends)
    share = ((drawn[1] - drawn[0]) / (light - dark)).mean(0)
    lack = easel.wanted - (drawn[0] - share * dark)
    colour = (share * lack).sum((1, 2)) / max(1e-6, float((share**2).sum()))

    def away(name: str) -> float:
        return float(np.square(_rgb(colours[name]) - colour).sum())

    return _with(made, index, replace(now, what=choice.of(min(colours, key=away))))


def _rgb(colour: str) -> Pixels:
    made: Pixels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
    return made / np.float32(255)


def _kind(easel: Easel, made: Picture, index: int) -> Picture:
    """With one subject of the nearest kind, each where it would be then."""
    now = made.subjects[index]
    others: list[Picture] = []
    for kind in (*SPECIES, *THINGS):
        what = _as(now.what, kind)
        if what != now.what:
            size = now.size * _largest(replace(now, what=what)) / _largest(now)
            trial = _with(made, index, replace(now, what=what, size=size))
            others.append(trial)
    ranked = sorted(others, key=easel.apart)[:3]
    return easel.best(made, (_moved(easel, each, index, STEPS[:1]) for each in ranked))


def _built(easel: Easel, made: Picture, index: int) -> Picture:
    """With one subject of the nearest build, its feet or its head where they are."""
    now = made.subjects[index]
    if not isinstance(now.what, Look):
        return made
    others, before = [], BUILD_SHAPES[now.what.build]
    for build in BUILDS:
        what, shape = replace(now.what, build=build), BUILD_SHAPES[build]
        size = now.size * before.head / shape.head
        ground = now.ground + size * shape.neck - now.size * before.neck
        others += [replace(now, what=what), replace(now, what=what, size=size, ground=ground)]
    trials = sorted((_with(made, index, each) for each in others), key=easel.apart)[:3]
    return easel.best(made, (_moved(easel, each, index, STEPS[1:]) for each in trials))


def _as(what: Look | Thing, kind: str) -> Look | Thing:
    """The same as another kind."""
    if kind in THINGS:
        if isinstance(what, Thing):
            pattern = what.pattern if kind in SURFACES else None
            return replace(what, name=kind, pattern=pattern)
        return Thing(kind, what.garment_colour)
    if isinstance(what, Thing):
        return Look(kind, SPECIES[kind].fur, "shirt", what.colour)
    if (kind in PEOPLE) != (what.species in PEOPLE):
        return replace(what, species=kind, fur=SPECIES[kind].fur)
    return replace(what, species=kind)


def _colours(thing: Thing) -> Question:
    return Question([Choice(thing, "colour", COLOURS)])


def _emblems(thing: Thing) -> Question:
    names = PATTERNS if thing.name in SURFACES else ()
    choices = [Choice(replace(thing, pattern=name), "pattern_colour", DYES) for name in names]
    return Question(choices, replace(thing, pattern=None), MARGIN)


def _shine(thing: Thing) -> Question:
    return Question([Choice(replace(thing, glow=not thing.glow))])


def _furs(look: Look) -> Question:
    return Question([Choice(look, "fur", SKINS if look.species in PEOPLE else FURS)])


def _hairs(look: Look) -> Question:
    names = HAIRS if look.species in PEOPLE else ()
    return Question([Choice(replace(look, hair=name)) for name in names])


def _garments(look: Look) -> Question:
    choices = [Choice(replace(look, garment=name), "garment_colour", COLOURS) for name in GARMENTS]
    return Question(choices, replace(look, garment=None))


def _poses(look: Look) -> Question:
    held = look.holding or HOLDABLE[0]
    every = [
        replace(look, pose=pose, mirror=mirror, holding=held if pose == "holding" else None)
        for pose, mirror in product(POSES, (False, True))
    ]
    return Question([Choice(each) for each in every])


def _held(look: Look) -> Question:
    names = HOLDABLE if look.pose == "holding" else ()
    return Question(
        [Choice(replace(look, holding=name), "holding_colour", COLOURS) for name in names]
    )


def _accessories(look: Look) -> Question:
    choices = [
        Choice(replace(look, accessory=name), "accessory_colour", COLOURS) for name in ACCESSORIES
    ]
    return Question(choices, replace(look, accessory=None), MARGIN)


def _features(names: Sequence[str], look: Look) -> Question:
    """One of some features, or none."""
    bare = replace(look, extras=tuple(each for each in look.extras if each[0] not in names))
    return Question([Choice(bare, name, DYES) for name in names], bare, MARGIN)


OF_THINGS: Final[Sequence[Asking]] = (_colours, _emblems, _shine)
OF_LOOKS: Final[Sequence[Asking]] = (
    *(_furs, _hairs, _garments, _poses, _held, _accessories),
    *(partial(_features, names) for names in (CROWNS, PATTERNS, MARKS, ("wings",), ("glow",))),
)
"""What is asked, what is largest first."""


def _askings(made: Picture, index: int) -> Sequence[Asking]:
    """The questions about one subject."""
    return OF_LOOKS if isinstance(made.subjects[index].what, Look) else OF_THINGS


def _come(easel: Easel, made: Picture) -> Picture:
    """With somebody on sides where nobody is, if that is nearer."""
    for side, x in SIDES.items():
        if _untold(easel, made, x) > UNTOLD and all(each.side != side for each in made.subjects):
            made = easel.best(made, [_somebody(easel, made, x, FAR)], 5 * MARGIN)
    return _in_order(made)


def _anew(easel: Easel, made: Picture) -> Picture:
    """With others instead of those that are still unlike the picture."""
    for each in made.subjects:
        if _untold(easel, made, each.x) > POOR:
            left = tuple(other for other in made.subjects if other is not each)
            without = replace(made, subjects=left)
            made = easel.best(made, [_somebody(easel, without, each.x, FAR + CLOSE)])
    return _in_order(made)


def _in_order(made: Picture) -> Picture:
    return replace(made, subjects=tuple(sorted(made.subjects, key=lambda each: each.x)))


def _untold(easel: Easel, made: Picture, x: float) -> float:
    """How much of what is around there is not drawn yet."""
    first, last = (round(SIZE * min(1, max(0, x + way / 6))) for way in (-1, 1))
    return float(np.abs(easel.drawn(made) - easel.wanted)[..., first:last].mean())


def _somebody(
    easel: Easel, made: Picture, x: float, starts: Sequence[tuple[float, float]]
) -> Picture:
    """With one more around there, whoever is nearest."""
    index = len(made.subjects)
    trials = []
    for kind in (*SPECIES, *THINGS):
        for ground, size in starts:
            each = Subject(_as(Thing("ball", "red"), kind), x, ground, size)
            each = replace(each, size=size * _largest(each))
            trials.append(_coloured(easel, _also(made, each), index, questions=1))
    nearest = sorted(trials, key=easel.apart)[:TRIED]
    best = min((_coloured(easel, each, index) for each in nearest), key=easel.apart)
    return _looked(easel, _moved(easel, best, index), index)


def _also(made: Picture, subject: Subject) -> Picture:
    return replace(made, subjects=(*made.subjects, subject))


def _gone(easel: Easel, made: Picture) -> Picture:
    """Without those that make it no nearer."""
    for each in made.subjects:
        without = replace(made, subjects=tuple(s for s in made.subjects if s is not each))
        made = easel.best(made, [without], -5 * MARGIN)
    return made


def guesses(who: judge.Judge, pictures: Sequence[NDArray[np.uint8]]) -> list[Picture]:
    """What the learnt judge says is to be seen in each."""
    said = judge.answers(who, judge.pixels(pictures))
    return [
        _guess({name: int(values[i]) for name, values in said.items()})
        for i in range(len(pictures))
    ]


def _guess(said: dict[str, int]) -> Picture:
    whole = {name: values[said[name]] for name, values in judge.WHOLE.items()}
    subjects = []
    for side, x in SIDES.items():
        of = {name: values[said[f"{side}.{name}"]] for name, values in judge.EACH.items()}
        if of["kind"] != "none":
            subjects.append(Subject(_what(of), x, 0.9, 0.6))
    tint = None if whole["tint"] == "none" else whole["tint"]
    return Picture(
        whole["place"], whole["time"], whole["weather"], tuple(subjects), 0, whole["sky"], tint
    )


def _what(of: dict[str, str]) -> Look | Thing:
    kind, colour = of["kind"], of["colour"]
    if kind in THINGS:
        return Thing(kind, colour, glow=of["glow"] == "glow")
    furs = SKINS if kind in PEOPLE else FURS
    fur = of["fur"] if of["fur"] in furs else SPECIES[kind].fur
    garment = None if of["garment"] == "none" else of["garment"]
    holding = "ball" if of["pose"] == "holding" else None
    return Look(kind, fur, garment, colour, pose=of["pose"], holding=holding, build=of["build"])


def found(who: judge.Judge, pictures: Sequence[NDArray[np.uint8]], jobs: int = 1) -> list[Picture]:
    """What is to be seen in each of some pictures (h, w, 3)."""
    begun = guesses(who, pictures)
    if jobs == 1:
        return [redrawn(*each) for each in zip(pictures, begun, strict=True)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        return list(pool.map(redrawn, pictures, begun))


Judge = Callable[[Sequence[NDArray[np.uint8]]], judge.Answers]
"""Pictures (h, w, 3) to answers."""


def judge_of(who: judge.Judge, jobs: int = 1) -> Judge:
    """What names what is in pictures, as `judge.answers` does."""
    return lambda pictures: judge.truth(found(who, pictures, jobs))


def examine(judging: Judge, count: int, first: int = judge.HELD_OUT) -> dict[str, float]:
    """Accuracy on `count` drawings of seeds from `first` on."""
    shown = [judge.one_a_side(np.random.default_rng(first + i)) for i in range(count)]
    drawn = [world.draw(picture, 4 * SIZE)[0] for picture in shown]
    return judge.accuracy(judging(drawn), judge.truth(shown))


def main() -> None:
    """Print how much of held-out drawings is named rightly."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redrawn", description=__doc__)
    parser.add_argument("--pictures", type=int, default=200, help="held-out drawings")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    args = parser.parse_args()
    torch.set_num_threads(1)
    right = examine(judge_of(judge.open_judge(), args.jobs), args.pictures)
    print(json.dumps({"pictures": args.pictures, "judge_on_drawings": right}))


if __name__ == "__main__":
    main()
