"""The prompts that the model reads, put together from the words of a panel.

A concept stands in a prompt as its name in angle brackets, `<pip>`; what the model sees in its
place is `model.tokens`' work. No word is taken from the author and none is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

from storyforge.geometry.box import Box
from storyforge.geometry.pose import Pose
from storyforge.pictures import with_article
from storyforge.story.concept import ConceptSpec
from storyforge.story.continuity import (
    drawn_as,
    hour_of,
    outfit_of,
    scene_of,
    view_of,
    worn_in,
)
from storyforge.story.lint.cast import PLACEHOLDER
from storyforge.story.story import Panel, Story
from storyforge.story.wording import says

_MIDDLE: Final = (0.4, 0.6)
"""Where a region's centre counts as the middle, in fractions of the picture's width."""

_WIDE: Final = 0.8
"""A region of this width, as a fraction of the picture's, is on no side."""

_POSES: Final[dict[str, Pose]] = {pose: pose for pose in get_args(Pose)}

_WORD: Final = re.compile(r"[^\W\d_]+")

_CLAUSE: Final = re.compile(r",(?![^()\[\]]*[)\]])")
"""A comma outside of brackets, which weigh words."""


def panel_prompt(story: Story, panel: Panel) -> str:
    """What the whole picture shows: everyone by their class and side, the scene, the words."""
    boxes, found = story.region_boxes(panel), _found(story, panel)
    shown = [
        words if says(words, side := side_of(boxes[name])) else f"{words} {side}"
        for name in panel.regions
        if name not in found and (words := _class_words(story, panel, name))
    ]
    shown += [_named(words) for words in found.values() if not says(panel.prompt, words)]
    setting = _setting(story, panel, panel.prompt, alone=not shown)
    return _joined([_list(shown), *setting, story.style])


def found_words(story: Story, panel: Panel, name: str) -> str:
    """By which words of the panel's prompt a region's place is found: its concept's, or its own."""
    own, drawn = panel.regions[name].concept, drawn_as(story, panel, name)
    if own and f"<{own}>" in panel.prompt:
        return f"<{own}>"
    return f"<{drawn}>" if drawn else panel.regions[name].prompt.strip(" ,")


def _found(story: Story, panel: Panel) -> dict[str, str]:
    """Those words, by the regions whose place is to be found."""
    shapes = story.region_shapes(panel)
    return {name: found_words(story, panel, name) for name in shapes if shapes[name].auto}


def _named(words: str) -> str:
    return f"a {words}" if PLACEHOLDER.fullmatch(words) else words


def _alone(story: Story, panel: Panel, name: str) -> str:
    """The panel's words as a region reads them whose place is found: others by their class."""
    words = panel.prompt
    own = found_words(story, panel, name)
    for other in dict.fromkeys(PLACEHOLDER.findall(words)):
        spec = story.concepts.get(other)
        if f"<{other}>" != own and isinstance(spec, ConceptSpec) and spec.kind != "scene":
            called = re.compile(rf"(?:\b(?:a|an|the) )?<{re.escape(other)}>")
            words = called.sub(with_article(spec.class_).replace("\\", r"\\"), words)
    return words


def region_prompt(story: Story, panel: Panel, name: str, *, company: bool = False) -> str:
    """What one region shows: its concept, its words and side, then the panel's setting.

    company  whether it says as well who is in the other regions, by their class: a model that
             reads of one alone draws it as large as one who is alone, and the regions cut it
    """
    side = side_of(story.region_boxes(panel)[name])
    said = "" if says(panel.regions[name].prompt, side) else side
    return _region_words(story, panel, name, said, _beside(story, panel, name) if company else {})


def _beside(story: Story, panel: Panel, name: str) -> dict[str, str]:
    """Everyone in the other regions, by region: the everyday word, what they do, and the side.

    Of words of an author's own all before the first comma, or the prompts of all would be as long
    as those of one together. Nobody of whom, or for whom, a place is still to be found. A concept
    of unknown class names itself.
    """
    shapes, boxes, found = story.region_shapes(panel), story.region_boxes(panel), {}
    if shapes[name].auto:
        return {}
    for other in panel.regions:
        words = _CLAUSE.split(_class_words(story, panel, other))[0].strip()
        if other != name and not shapes[other].auto and words:
            pose = pose_of(story, panel, other) if panel.regions[other].concept else None
            more = [pose or "", side_of(boxes[other])]
            said = [_named(words), *(word for word in more if word and not says(words, word))]
            found[other] = " ".join(said)
    return found


def _region_words(
    story: Story, panel: Panel, name: str, side: str, beside: Mapping[str, str]
) -> str:
    """The prompt of a region, on this side, beside others."""
    region, shown = panel.regions[name], drawn_as(story, panel, name)
    found = story.region_shapes(panel)[name].auto
    words_of_all = _alone(story, panel, name) if found else panel.prompt
    concept = f"<{shown}>" if shown else ""
    said_of = region.prompt + (words_of_all if found else "")
    head = f"a {concept}" if concept and concept not in said_of else ""
    said = [head, _posed(_looking(story, panel, name), pose_of(story, panel, name)), side]
    words = " ".join(word for word in said if word)
    boxes, everyone = story.region_boxes(panel), {**beside, name: words}
    in_order = sorted(everyone, key=lambda each: boxes[each].centre()[0])
    words = " and ".join(everyone[each] for each in in_order if everyone[each])
    setting = _setting(story, panel, words_of_all, alone=False)
    return _joined([words, *setting, story.style])


def _looking(story: Story, panel: Panel, name: str) -> str:
    """A region's words, behind those of what its character wears and is like by then."""
    outfit, worn = outfit_of(story, panel, name), worn_in(story, panel).get(name)
    said = [outfit.prompt if outfit else "", (worn and worn.state) or ""]
    return ", ".join(word for word in (*said, panel.regions[name].prompt) if word.strip())


def head_prompt(story: Story, panel: Panel, name: str) -> str:
    """What is seen where the head of a region fills the picture: its region, on no side."""
    return f"close-up of {_region_words(story, panel, name, '', {})}"


def pose_of(story: Story, panel: Panel, name: str) -> Pose | None:
    """What the body in a region does: its `pose`, a pose's word in its prompt, or the layout's.

    None where nobody has said it.
    """
    region = panel.regions[name]
    written = [word for word in _WORD.findall(region.prompt.lower()) if word in _POSES]
    spoken = _POSES[written[0]] if written else None
    return region.pose or spoken or story.region_shapes(panel)[name].pose


def negative_prompt(story: Story, panel: Panel, name: str | None = None) -> str:
    """What is not to be seen in a region, or in the whole picture if `name` is None.

    A region's own words replace the panel's, and the panel's replace the story's.
    """
    if name is not None and (negative := panel.regions[name].negative) is not None:
        return negative
    return story.negative if panel.negative is None else panel.negative


def side_of(box: Box) -> str:
    """Where the box stands, in words; empty for a box as wide as the picture."""
    if box.width >= _WIDE:
        return ""
    x, _ = box.centre()
    if x < _MIDDLE[0]:
        return "on the left"
    return "on the right" if x > _MIDDLE[1] else "in the middle"


def named_in(texts: Iterable[str]) -> tuple[str, ...]:
    """The concepts that stand in texts in angle brackets, each once, in order."""
    return tuple(dict.fromkeys(name for text in texts for name in PLACEHOLDER.findall(text)))


def _posed(prompt: str, pose: Pose | None) -> str:
    """A region's words with its pose's word among them, once."""
    prompt = prompt.strip(" ,")
    if pose is None or pose in _WORD.findall(prompt.lower()):
        return prompt
    return f"{prompt}, {pose}" if prompt else pose


def _class_words(story: Story, panel: Panel, name: str) -> str:
    """The everyday words for what a region shows; a concept of unknown class names itself."""
    region = panel.regions[name]
    if region.concept is None:
        return region.prompt.strip()
    spec, outfit = story.concepts[region.concept], outfit_of(story, panel, name)
    if isinstance(spec, Path):
        return f"<{drawn_as(story, panel, name)}>"
    worn = f" {outfit.prompt}" if outfit and outfit.prompt else ""
    return f"{with_article(spec.class_)}{worn}"


def _setting(story: Story, panel: Panel, words: str, *, alone: bool) -> list[str]:
    """The scene, after `in` unless it stands alone, its hour and weather, and the panel's words."""
    shown, view, hour = scene_of(story, panel), view_of(story, panel), hour_of(story, panel)
    scene = f"<{shown}>" if shown else ""
    if scene and scene in panel.prompt:
        scene = ""
    said = [view.prompt if view else "", hour.time or "", hour.weather or ""]
    return [scene if alone or not scene else f"in {scene}", *said, words]


def _list(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part.strip(" ,") for part in parts if part.strip(" ,"))
