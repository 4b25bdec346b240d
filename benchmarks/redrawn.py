"""A judge that draws again: it finds what, drawn by the illustrator, is most like a picture.

It begins with what was asked for, or else with what the learnt judge (`benchmarks/judge.py`) says,
and changes one thing after the other, a place, a species, a bow, as long as the drawing comes
nearer to the picture. Nothing is learnt for it, and what it names hangs on pixels alone. So it is
measured how well it names what is in drawings when it was told much that is not there
(`python -m benchmarks.redrawn`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import judge
from benchmarks.easel import SIZE, Easel, rgb
from benchmarks.misleading import misled
from benchmarks.questions import MARGIN, Asking, Choice, askings, poses
from storyforge.pocket import world
from storyforge.pocket.world import looks, places
from storyforge.pocket.world.looks import Look
from storyforge.pocket.world.picture import Picture, Subject, Thing
from storyforge.pocket.world.proportions import BUILD_SHAPES
from storyforge.pocket.world.things import SURFACES, THINGS

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
LIFTED: Final = (-0.27, -0.13, 0.0, 0.13, 0.27)
"""How much lower a head is, in sizes, in one pose than in another: who jumps is in the air."""
TRIED: Final = 8
"""Places where somebody may stand that are looked at more closely."""
UNTOLD: Final = 0.02
"""A side of which so little is not drawn yet, on average, has nobody."""
COMES: Final = 20 * MARGIN
"""How much nearer it comes by somebody who is there. Books on shelves stand as they like, and a
star before some of them is a little nearer than none."""
POOR: Final = 0.06
"""Who is so unlike the picture, on average over what is around, is somebody else, or elsewhere."""
SAID: Final = 10
"""Pictures after which it is said how many are judged."""
ENDS: Final = ("black", "white")
SKIN_ENDS: Final = ("dark", "light")
"""Two colours between which that of what is drawn is solved for."""


def redrawn(picture: NDArray[np.uint8], guess: Picture) -> Picture:
    """What, drawn, is most like a picture (h, w, 3); `guess` is where to begin."""
    easel = Easel(picture)
    made = _scenery(easel, _found_again(easel, replace(guess, subjects=())))
    found = [_placed(easel, made, each) for each in guess.subjects]
    made = _in_order(replace(made, subjects=tuple(found)))
    for _ in range(ROUNDS):
        before, named = easel.apart(made), _named(made)
        made = _scenery(easel, _found_again(easel, made))
        for index in range(len(made.subjects)):
            made = _looked(easel, made, index)
        made = _gone(easel, _anew(easel, _come(easel, made)))
        if _named(made) == named or easel.apart(made) > before - MARGIN:
            break
    return made


def _named(made: Picture) -> Picture:
    """What is named, wherever that is."""
    subjects = tuple(replace(each, x=0.0, ground=0.0, size=1.0) for each in made.subjects)
    return replace(made, seed=0, subjects=subjects)


def _found_again(easel: Easel, made: Picture) -> Picture:
    """With the place that is nearest, in the best of its arrangements."""
    every = [
        _weathered(replace(made, place=place, time=time, tint=tint))
        for place, time in product(places.PLACES, places.TIMES)
        for tint in _tints(place)
    ]
    best = [_weathered(made), *sorted(every, key=easel.apart)[:4]]
    arranged = [replace(each, seed=seed) for each in best for seed in range(places.ARRANGEMENTS)]
    return easel.best(made, arranged, MARGIN)


def _weathered(made: Picture) -> Picture:
    """With weather and sky where there can be any."""
    return made if places.PLACES[made.place][1] else replace(made, weather="clear", sky="plain")


def _tints(place: str) -> tuple[str | None, ...]:
    return (None, *places.TINTS) if place in places.TINTED else (None,)


def _scenery(easel: Easel, made: Picture) -> Picture:
    """With the hour, weather and sky that are nearest."""
    outdoors = places.PLACES[made.place][1]
    for others in (
        (
            replace(made, time=time, tint=tint)
            for time in places.TIMES
            for tint in _tints(made.place)
        ),
        (
            replace(made, weather=weather)
            for weather in (places.WEATHERS if outdoors else ("clear",))
        ),
        (replace(made, sky=sky) for sky in (places.SKY_KINDS if outdoors else ("plain",))),
        (replace(made, seed=seed) for seed in range(places.ARRANGEMENTS)),
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
    for question in askings(made.subjects[index].what)[:questions]:
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
    made = _posed(easel, made, index)
    for question in askings(made.subjects[index].what):
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
    dark, light = (rgb(colours[end])[:, None, None] for end in ends)
    share = ((drawn[1] - drawn[0]) / (light - dark)).mean(0)
    lack = easel.wanted - (drawn[0] - share * dark)
    colour = (share * lack).sum((1, 2)) / max(1e-6, float((share**2).sum()))

    def away(name: str) -> float:
        return float(np.square(rgb(colours[name]) - colour).sum())

    return _with(made, index, replace(now, what=choice.of(min(colours, key=away))))


def _kind(easel: Easel, made: Picture, index: int) -> Picture:
    """With one subject of the nearest kind, each where it would be then and in its own colour."""
    now = made.subjects[index]
    others: list[Picture] = []
    for kind in (*looks.SPECIES, *THINGS):
        what = _as(now.what, kind)
        if what != now.what:
            size = now.size * _largest(replace(now, what=what)) / _largest(now)
            trial = _with(made, index, replace(now, what=what, size=size))
            others.append(_coloured(easel, trial, index, questions=1))
    ranked = sorted(others, key=easel.apart)[:3]
    return easel.best(made, (_moved(easel, each, index, STEPS[:1]) for each in ranked))


def _built(easel: Easel, made: Picture, index: int) -> Picture:
    """With one subject of the nearest build, its feet or its head where they are."""
    now = made.subjects[index]
    if not isinstance(now.what, Look):
        return made
    others, before = [], BUILD_SHAPES[now.what.build]
    for build in looks.BUILDS:
        what, shape = replace(now.what, build=build), BUILD_SHAPES[build]
        size = now.size * before.head / shape.head
        ground = now.ground + size * shape.neck - now.size * before.neck
        others += [replace(now, what=what), replace(now, what=what, size=size, ground=ground)]
    trials = sorted((_with(made, index, each) for each in others), key=easel.apart)[:3]
    return easel.best(made, (_moved(easel, each, index, STEPS[1:]) for each in trials))


def _posed(easel: Easel, made: Picture, index: int) -> Picture:
    """With one subject as it stands or sits, its head where it is."""
    now = made.subjects[index]
    if not isinstance(now.what, Look):
        return made
    others = [
        replace(now, what=what, ground=now.ground + down * now.size)
        for what, down in product(poses(now.what), LIFTED)
    ]
    trials = sorted((_with(made, index, each) for each in others), key=easel.apart)[:4]
    return easel.best(made, (_moved(easel, each, index, STEPS[1:]) for each in trials))


def _as(what: Look | Thing, kind: str) -> Look | Thing:
    """The same as another kind."""
    if kind in THINGS:
        if isinstance(what, Thing):
            pattern = what.pattern if kind in SURFACES else None
            return replace(what, name=kind, pattern=pattern)
        return Thing(kind, what.garment_colour)
    if isinstance(what, Thing):
        return Look(kind, looks.SPECIES[kind].fur, "shirt", what.colour)
    if (kind in looks.PEOPLE) != (what.species in looks.PEOPLE):
        return replace(what, species=kind, fur=looks.SPECIES[kind].fur)
    return replace(what, species=kind)


def _come(easel: Easel, made: Picture) -> Picture:
    """With somebody on sides where nobody is, if that is nearer."""
    for side, x in SIDES.items():
        if _untold(easel, made, x) > UNTOLD and all(each.side != side for each in made.subjects):
            made = easel.best(made, [_somebody(easel, made, x, FAR)], COMES)
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
    """With one more around there, whoever is nearest: as a plain creature is hardly like one that
    jumps in a dress, a creature and a thing are both looked at."""
    found = [_one_of(kinds, easel, made, x, starts) for kinds in (looks.SPECIES, THINGS)]
    return min(found, key=easel.apart)


def _one_of(
    kinds: Iterable[str],
    easel: Easel,
    made: Picture,
    x: float,
    starts: Sequence[tuple[float, float]],
) -> Picture:
    """With one more of these kinds."""
    index = len(made.subjects)
    trials = []
    for kind in kinds:
        for ground, size in starts:
            each = Subject(_as(Thing("ball", "red"), kind), x, ground, size)
            each = replace(each, size=size * _largest(each))
            trials.append(_coloured(easel, _also(made, each), index, questions=1))
    nearest = sorted(trials, key=easel.apart)[: TRIED // 2]
    best = min((_coloured(easel, each, index) for each in nearest), key=easel.apart)
    return _looked(easel, _moved(easel, best, index), index)


def _also(made: Picture, subject: Subject) -> Picture:
    return replace(made, subjects=(*made.subjects, subject))


def _gone(easel: Easel, made: Picture) -> Picture:
    """Without those that make it no nearer."""
    for each in made.subjects:
        without = replace(made, subjects=tuple(s for s in made.subjects if s is not each))
        made = easel.best(made, [without], -COMES)
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
    furs = looks.SKINS if kind in looks.PEOPLE else looks.FURS
    fur = of["fur"] if of["fur"] in furs else looks.SPECIES[kind].fur
    garment = None if of["garment"] == "none" else of["garment"]
    holding = "ball" if of["pose"] == "holding" else None
    return Look(kind, fur, garment, colour, pose=of["pose"], holding=holding, build=of["build"])


Judge = Callable[[Sequence[NDArray[np.uint8]], Sequence[Picture]], judge.Answers]
"""Pictures (h, w, 3), and where to begin, if that is not empty, to answers."""


def judge_of(who: judge.Judge, jobs: int = 1) -> Judge:
    """What names what is in pictures, as `judge.answers` does, in so many processes; it says on
    stderr how far it is. It begins with what was asked for, or with what `who` says."""
    # Kept, for a process takes seconds to begin.
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) if jobs > 1 else None

    def judging(
        pictures: Sequence[NDArray[np.uint8]], asked: Sequence[Picture] = ()
    ) -> judge.Answers:
        found: list[Picture] = []
        every = pictures, asked or guesses(who, pictures)
        for one in map(redrawn, *every) if pool is None else pool.map(redrawn, *every):
            found.append(one)
            if len(found) % SAID == 0:
                sys.stderr.write(f"judged {len(found)} of {len(pictures)}\n")
        return judge.truth(found)

    return judging


def examine(judging: Judge, count: int, first: int = judge.HELD_OUT) -> dict[str, float]:
    """Accuracy on `count` drawings of seeds from `first` on, where much of what the judge is told
    is otherwise."""
    rng = np.random.default_rng(first - 1)
    shown = [judge.one_a_side(np.random.default_rng(first + i)) for i in range(count)]
    drawn = [world.draw(picture, 4 * SIZE)[0] for picture in shown]
    told = [misled(picture, rng) for picture in shown]
    return judge.accuracy(judging(drawn, told), judge.truth(shown))


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
