"""What `check` passes, every later verb accepts: no mistake waits until something is drawn."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from time import process_time

import pytest
from _pytest.mark.structures import ParameterSet
from headed import base_folder
from mutating import Mutator, Tree, tree_of
from PIL import Image
from support import hub_of

from storyforge.book.page import bind, undrawn
from storyforge.book.preview.pages import proof_of
from storyforge.book.wrap import check_spine
from storyforge.errors import Severity, StoryForgeError
from storyforge.model.base import BaseModel
from storyforge.model.components import clip_tokenizer
from storyforge.model.prompt_weights import pieces_of
from storyforge.model.tokens import PLACEHOLDER, weighed_ids, word_ids
from storyforge.modelref import ModelRef
from storyforge.pictures import open_picture
from storyforge.plan import prompt_length
from storyforge.plan.plan import draw_up
from storyforge.pocket.pretrain.parts import weights_folder
from storyforge.project.project import Project
from storyforge.sample.control import condition_of
from storyforge.sample.regions import region_weights_of
from storyforge.story.layout import shipped
from storyforge.tasks import PanelTask

ROOT = Path(__file__).parents[1]
SAMPLES = ("fox-and-lantern", "good-night", "the-sneeze")
CHANGES = 500
BESIDE = 100
SHARES = 10
"""Parts in which the changes are tried, so that several processors share them."""


def shares(usual: int) -> list[ParameterSet]:
    """Every share as a parameter; those after the first few are run by `pytest -m slow`."""
    return [
        pytest.param(share, marks=[pytest.mark.slow] * (share >= usual)) for share in range(SHARES)
    ]


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
    for name, grey in {"black": 0, "white": 255}.items():
        Image.new("L", (64, 64), grey).save(folder / "stories" / f"{name}.png")
    (folder / "stories" / "text.png").write_text("no picture")
    return folder / "stories"


def refusals(path: Path, base: BaseModel) -> list[str]:
    """What later verbs say against a story that `check` passes."""
    story, said = Project(path).story, []

    def tried(what: str, step: Callable[[], object]) -> None:
        try:
            step()
        except StoryForgeError as exc:
            said.append(f"{what}: {exc.message}")

    tasks: list[PanelTask] = []
    named = ModelRef(story.base_parts.model, "its hash")
    tried("plan", lambda: tasks.extend(draw_up(story, base=named).panels))
    for task in tasks:
        tried(f"render {task.panel}", partial(begin, task, base))
    for language in story.languages():
        tried(f"book in {language}", partial(bind, story, undrawn(story), language))
        tried(f"preview in {language}", partial(proof_of, story, language, {}))
    if "cover" in story.book.formats:
        tried("cover", partial(check_spine, story))
    return said


def begin(task: PanelTask, base: BaseModel) -> None:
    """All that drawing a panel does before the first denoising step, but for reading the texts."""
    side = base.side if task.decode is None else task.decode
    cells = side * base.vae_scale // base.side
    size = task.size or (base.side, base.side)
    latent = size[1] // cells, size[0] // cells
    if (latent[0] * cells, latent[1] * cells) != (size[1], size[0]):
        raise StoryForgeError(f"{size} does not fit")
    names = {name: name for name in PLACEHOLDER.findall(f"{task.prompt} {task.negative}")}
    for read in (task, *task.regions):
        names |= {name: name for name in PLACEHOLDER.findall(f"{read.prompt} {read.negative}")}
    own = word_ids(base, list(names))
    for prompt in (
        *(text for read in (task, *task.regions) for text in (read.prompt, read.negative)),
        *(head.prompt for head in task.heads),
    ):
        weighed_ids(base.encoders[0], pieces_of(prompt), own)
    region_weights_of(base, task.regions, latent)
    for control in task.controls:
        condition_of(control, size, 3)
    if task.refine and task.refine.picture:
        open_picture(task.refine.picture)


def hold(
    stories: Callable[[int], AbstractContextManager[Path]], numbers: range, base: BaseModel
) -> int:
    """Let later verbs try every story that `check` passes; how many it passed."""
    wrong, passed = [], 0
    for number in numbers:
        with stories(number) as path:
            if all(each.severity is not Severity.ERROR for each in Project(path).check()):
                passed += 1
                wrong += [f"{number}: {each}" for each in refusals(path, base)]
    assert not wrong
    return passed


@contextmanager
def laid(path: Path, text: str) -> Iterator[Path]:
    """A story in its file, for a while."""
    path.write_text(text, encoding="utf-8")
    try:
        yield path
    finally:
        path.unlink()


@pytest.mark.parametrize("share", shares(SHARES))
def test_what_check_passes_is_planned_bound_and_drawn(
    samples: Path, share: int, base: BaseModel
) -> None:
    def story(number: int) -> AbstractContextManager[Path]:
        chance = random.Random(number)
        name = SAMPLES[number % len(SAMPLES)]
        text = (samples / f"{name}.yaml").read_text(encoding="utf-8")
        return laid(samples / f"{name}-{number}.yaml", changed(shortened(text, chance), chance))

    assert hold(story, range(share, CHANGES, SHARES), base) >= 5


@pytest.mark.parametrize("share", shares(2))
def test_so_is_what_the_schema_would_let_an_author_write(
    samples: Path, share: int, base: BaseModel
) -> None:
    def story(number: int) -> AbstractContextManager[Path]:
        return laid(samples / f"written-{number}.yaml", as_json(written(samples, number)))

    assert hold(story, range(share, CHANGES, SHARES), base) >= 5


@pytest.mark.parametrize("share", shares(SHARES))
def test_so_is_a_story_whose_concept_or_layout_an_author_changes(
    samples: Path, share: int, base: BaseModel
) -> None:
    @contextmanager
    def story(number: int) -> Iterator[Path]:
        chance = random.Random(number)
        tree = shortened_tree(samples, number, chance)
        with (
            laid(samples / f"beside-{number}.yaml", as_json(tree)) as path,
            changed_beside(samples, tree, chance),
        ):
            yield path

    assert hold(story, range(share, BESIDE, SHARES), base) >= 2


def as_json(tree: Tree) -> str:
    """JSON is YAML, too."""
    return json.dumps(tree, ensure_ascii=False)


@contextmanager
def changed_beside(samples: Path, tree: Tree, chance: random.Random) -> Iterator[None]:
    """A concept or a layout of the story with one or two settings changed, for a while."""
    names = [panel.get("layout") for page in tree["pages"] for panel in page.get("panels", ())]
    kind, name = chance.choice([("concept", "pip"), *(("layout", each) for each in names if each)])
    if kind == "concept":
        path = source = samples.parent / "concepts" / name / "concept.yaml"
    else:
        path, source = samples / "layouts" / f"{name}.yaml", shipped("layouts") / f"{name}.yaml"
    before, changed_tree = source.read_bytes(), tree_of(source)
    mutator = Mutator.of(kind, chance)
    for _ in range(chance.randint(1, 2)):
        mutator.change(changed_tree)
    path.parent.mkdir(exist_ok=True)
    path.write_text(as_json(changed_tree), encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(before) if kind == "concept" else path.unlink()


def shortened_tree(samples: Path, number: int, chance: random.Random) -> Tree:
    """Three pages of a sample; its cover shows the first picture that is left."""
    tree = tree_of(samples / f"{SAMPLES[number % len(SAMPLES)]}.yaml")
    pages = tree["pages"]
    tree["pages"] = [pages[at] for at in sorted(chance.sample(range(len(pages)), 3))]
    ids = [panel["id"] for page in tree["pages"] for panel in page.get("panels", ())]
    tree["book"]["cover"] = {"panel": ids[0]} if ids else {}
    return tree


def written(samples: Path, number: int) -> Tree:
    """A sample of three pages with one or two settings changed as its schema says."""
    chance = random.Random(number)
    tree = shortened_tree(samples, number, chance)
    ids = [panel["id"] for page in tree["pages"] for panel in page.get("panels", ())]
    mutator = Mutator.of("story", chance, ids)
    for _ in range(chance.randint(1, 2)):
        mutator.change(tree)
    return tree


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
        ("", "control: [{adapter: pocket/keypose, picture: story.yaml}]", (5, 74, "SF328")),
    ],
)
def test_a_control_that_cannot_be_is_found_where_it_is_written(
    tmp_path: Path, top: str, panel: str, place: tuple[int, int, str]
) -> None:
    assert told(tmp_path, PANEL.format(top, panel)) == [place]


@pytest.mark.parametrize(
    ("words", "read"),
    [("fox, " * 37, True), ("fox, " * 39, False), ("(fox:1.2) " * 75, True), ("(a) " * 76, False)],
)
def test_a_prompt_that_the_model_would_refuse_is_found_by_check(
    tmp_path: Path, words: str, read: bool
) -> None:
    text = PANEL.format("", f"prompt: '{words}'")
    assert told(tmp_path, text) == ([] if read else [(5, 37, "SF334")])


def test_a_base_of_the_hub_is_looked_into_where_its_cache_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PANEL.format("base: owner/tiny\n", f"prompt: '{'fox, ' * 39}'")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert told(tmp_path, text) == []
    hub_of(base_folder(tmp_path / "base"), tmp_path / "hub")
    assert told(tmp_path, text) == [(6, 37, "SF334")]


def test_prompts_are_counted_as_the_model_reads_them(base: BaseModel) -> None:
    counters = {
        prompt_length._counter(weights_folder() / "tokenizer"): base.tokenizer,
        prompt_length._counter(Path("nowhere")): clip_tokenizer(),
    }
    for counted, tokenizer in counters.items():
        for text in (*WORDS, " a  fox's\tden ", "12,345 Ünïcode", "ﬁ ½ ﷽", "<pip>"):
            assert counted(text) == len(tokenizer(text, add_special_tokens=False).input_ids)


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
