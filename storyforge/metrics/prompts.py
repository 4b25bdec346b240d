"""What concepts are asked to do when they are judged: four kinds of prompts, five of each.

The kinds are Mix-of-Show's (§4.1): elsewhere, in another style, with others, with another property.
`{}` is the concept. The embedded model's world has one style, so that it is asked for other hours
and weathers instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from storyforge.settings import Kind

Prompts = Mapping[str, tuple[str, ...]]
"""Kind of prompt -> prompts"""

_SUBJECT_POCKET: Final[Prompts] = {
    "recontextualise": (
        "a {} in the snow",
        "a {} on a beach",
        "a {} in a library",
        "a {} in a town",
        "a {} in the mountains",
    ),
    "restyle": (
        "a {} in a meadow at night",
        "a {} in a forest at sunset",
        "a {} in a meadow, in the rain",
        "a {} in a town, in falling snow",
        "a {} in a desert at sunset",
    ),
    "interact": (
        "a {} on the left and a bear on the right, in a meadow",
        "a {} on the left and a red ball on the right, on a beach",
        "a {} on the right and a penguin on the left, in the snow",
        "a {} on the left and a girl in a purple dress on the right, in a town",
        "a {} on the right and a red mushroom on the left, in a forest",
    ),
    "property": (
        "a {} sitting",
        "a {} jumping",
        "a {} with a crown",
        "a {} waving",
        "a {} with a red scarf",
    ),
}

_SCENE_POCKET: Final[Prompts] = {
    "recontextualise": (
        "in {}",
        "a bear in {}",
        "a penguin in {}",
        "a red ball in {}",
        "a girl in {}",
    ),
    "restyle": (
        "in {} at night",
        "in {} at sunset",
        "in {} by day",
        "in {} in the rain",
        "in {} in falling snow",
    ),
    "interact": (
        "a fox and an owl, in {}",
        "a cat and a dog, in {}",
        "a boy and a girl, in {}",
        "a pig and a blue house, in {}",
        "a frog and a yellow star, in {}",
    ),
    "property": (
        "a bear sitting, in {}",
        "a fox jumping, in {}",
        "a rabbit waving, in {}",
        "a panda running, in {}",
        "a boy holding a red balloon, in {}",
    ),
}

_SUBJECT: Final[Prompts] = {
    "recontextualise": (
        "a {} in the jungle",
        "a {} in the snow",
        "a {} on the beach",
        "a {} in front of a castle",
        "a {} on a street at night",
    ),
    "restyle": (
        "a watercolour painting of a {}",
        "a pencil sketch of a {}",
        "a {} in the style of a woodcut",
        "an oil painting of a {}",
        "a {} in the style of a comic book",
    ),
    "interact": (
        "a {} beside a dog",
        "a {} with a red balloon",
        "a {} on top of a wooden table",
        "a {} beside a bicycle",
        "a {} reading a book",
    ),
    "property": (
        "a {} wearing a red hat",
        "a {} wearing sunglasses",
        "a wet {}",
        "a {} made of glass",
        "a tiny {}",
    ),
}

_SCENE: Final[Prompts] = {
    "recontextualise": (
        "{} in winter",
        "{} by night",
        "{} in autumn",
        "{} at dawn",
        "{} seen from above",
    ),
    "restyle": (
        "a watercolour painting of {}",
        "a pencil sketch of {}",
        "an oil painting of {}",
        "{} in the style of a woodcut",
        "{} in the style of a comic book",
    ),
    "interact": (
        "a dog in {}",
        "a child in {}",
        "a red bicycle in {}",
        "two cats in {}",
        "a table in {}",
    ),
    "property": (
        "{} in the rain",
        "{} in fog",
        "{} under snow",
        "{} in bright sunshine",
        "{} with many flowers",
    ),
}


def prompts_for(kind: Kind, *, pocket: bool) -> Prompts:
    """The prompts for a character or object, or for a scene, of the embedded base or any other."""
    if kind == "scene":
        return _SCENE_POCKET if pocket else _SCENE
    return _SUBJECT_POCKET if pocket else _SUBJECT
