"""What `check` passes, every later verb accepts: no mistake waits until something is drawn."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path
from time import process_time

import pytest

from storyforge.book.page import bind, undrawn
from storyforge.errors import Severity, StoryForgeError
from storyforge.modelref import ModelRef
from storyforge.plan.plan import draw_up
from storyforge.project.project import Project

ROOT = Path(__file__).parents[1]
SAMPLES = ("fox-and-lantern", "good-night", "the-sneeze")
CHANGES = 500
SHARES = 10
"""Parts in which the changes are tried, so that several processors share them."""

BITS = (
    "control: [{draw: pose}], ",
    "control: [{draw: sketch}], ",
    "control: [{adapter: pocket/nothing, draw: sketch}], ",
    "control: [{adapter: pocket/keypose, draw: pose, region: left}], ",
    "layout: two-side-by-side, ",
    "layout: whole-scene, ",
    "size: [128, 64], ",
    "take: 3, ",
    "quiet: [[0, 0, 1, 0.3]], ",
    "refine: {scale: 2}, ",
)
KINDS = (
    "auto",
    "full-bleed",
    "spread",
    "art-over-text",
    "text-beside-art",
    "grid",
    "strip",
    "blank",
)
WORDS = ("ж", "的", "א", "a" * 60, "word " * 200, "“No!”", "", "♥", "\U0001f98a")
TRIMS = ("square-8.5", "a5", "kdp-6x9", "a4-landscape", "ingram-8x10")
TOP = (
    "base: someone/else\n",
    "size: [96, 160]\n",
    "compose: training-free\n",
    "sampling: {regions: exact}\n",
    "negative: <nobody>\n",
    "style: <pip> and ink\n",
    "fuse: {weights: {pip: 2}}\n",
)


def shortened(text: str, chance: random.Random) -> str:
    """The story with three of its pages: setting pages is what takes time."""
    head, *pages = re.split(r"(?m)^(?=  - )", text)
    chosen = sorted(chance.sample(range(len(pages)), 3))
    return head + "".join(pages[number] for number in chosen)


def changed(text: str, chance: random.Random) -> str:
    """The story with one to three of its lines changed, left out, said twice or exchanged."""
    for _ in range(chance.randint(1, 3)):
        lines = text.split("\n")
        number = chance.randrange(len(lines))
        match chance.randrange(9):
            case 0:
                del lines[number]
            case 1:
                lines.insert(number, lines[number])
            case 2:
                other = chance.randrange(len(lines))
                lines[number], lines[other] = lines[other], lines[number]
            case 3:
                lines[number] = lines[number].replace("id: ", f"{chance.choice(BITS)}id: ", 1)
            case 4:
                lines[number] = re.sub(r"(?<=text: ).+", f'"{chance.choice(WORDS)}"', lines[number])
            case 5:
                lines[number] = re.sub(
                    r"kind: [\w-]+", f"kind: {chance.choice(KINDS)}", lines[number]
                )
            case 6:
                lines[number] = re.sub(r"trim: \S+", f"trim: {chance.choice(TRIMS)}", lines[number])
            case 7:
                lines.insert(1, chance.choice(TOP).rstrip())
            case 8:
                lines[number] = re.sub(
                    r"\b\d+\b", str(chance.randrange(20)), lines[number], count=1
                )
        text = "\n".join(lines)
    return text


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    for name in ("stories", "concepts", "layouts"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.rmtree(folder / "stories" / "locales")
    return folder / "stories"


def refusals(path: Path) -> list[str]:
    """What later verbs say against a story that `check` passes."""
    project, said = Project(path), []
    try:
        draw_up(project.story, base=ModelRef(project.story.base_parts.model, "its hash"))
    except StoryForgeError as exc:
        said.append(f"plan: {exc.message}")
    for language in project.story.languages():
        try:
            bind(project.story, undrawn(project.story), language)
        except StoryForgeError as exc:
            said.append(f"book in {language}: {exc.message}")
    return said


@pytest.mark.parametrize("share", range(SHARES))
def test_what_check_passes_is_planned_and_bound(samples: Path, share: int) -> None:
    wrong, passed = [], 0
    for number in range(share, CHANGES, SHARES):
        chance = random.Random(number)
        name = SAMPLES[number % len(SAMPLES)]
        text = (samples / f"{name}.yaml").read_text(encoding="utf-8")
        path = samples / f"{name}-{number}.yaml"
        path.write_text(changed(shortened(text, chance), chance), encoding="utf-8")
        found = Project(path).check()
        if not any(each.severity is Severity.ERROR for each in found):
            passed += 1
            wrong += [f"{number}: {each}" for each in refusals(path)]
        path.unlink()
    assert not wrong
    assert passed >= 5


def told(folder: Path, text: str) -> list[tuple[int, int, str]]:
    path = folder / "story.yaml"
    path.write_text(text, encoding="utf-8")
    found = Project(path).check()
    return [(f.line, f.column, f.code) for f in found if f.severity is Severity.ERROR]


PANEL = "storyforge: 1\ntitle: A\n{}pages:\n- text: One.\n  panels: [{{id: a, alt: A., {}}}]\n"


@pytest.mark.parametrize(
    ("top", "panel", "place"),
    [
        ("", "control: [{draw: pose}]", (5, 46, "SF326")),
        ("", "control: [{draw: sketch}]", (5, 46, "SF326")),
        ("base: owner/name\n", "control: [{draw: sketch}]", (6, 39, "SF327")),
        ("", "control: [{adapter: pocket/nothing, draw: sketch}]", (5, 49, "SF303")),
        ("", "control: [{adapter: pocket/keypose, picture: story.yaml}]", None),
    ],
)
def test_a_control_that_cannot_be_is_found_where_it_is_written(
    tmp_path: Path, top: str, panel: str, place: tuple[int, int, str] | None
) -> None:
    assert told(tmp_path, PANEL.format(top, panel)) == ([] if place is None else [place])


def test_a_second_story_in_a_folder_does_not_inherit_the_first_ones_translation(
    tmp_path: Path,
) -> None:
    from storyforge.story.scaffold import scaffold

    first = scaffold(tmp_path / "book")
    second = first.with_name("second.yaml")
    second.write_text("storyforge: 1\ntitle: B\npages: [{text: Two.}]\n")
    assert Project(second).check() == ()
    assert Project(second).story.languages() == ("en",)
    assert "fr" in Project(first).story.languages()


def test_checking_thirty_pages_takes_less_than_a_second(tmp_path: Path) -> None:
    pages = "".join(
        f"- text: Page {number} says a few words, and some more of them.\n"
        f"  panels: [{{id: p{number}, alt: A., prompt: a fox, say: [{{text: Hello there.}}]}}]\n"
        for number in range(30)
    )
    path = tmp_path / "story.yaml"
    path.write_text(f"storyforge: 1\ntitle: A\npages:\n{pages}")
    Project(path).check()
    took = []
    for _ in range(3):
        began = process_time()
        Project(path).check()
        took.append(process_time() - began)
    assert min(took) < 1
