"""The sample stories still look as they did, and what must not pass for it does not.

The goldens are renewed by `python tests/golden.py update`, which alone writes them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import golden
import pytest

from storyforge.contact_sheet import MARGIN
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import silent
from storyforge.metrics.image_diff import ImageDifference, compare, read_pixels
from storyforge.model.base import BaseModel, open_base
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.lora import Delta, merged
from storyforge.modelref import POCKET
from storyforge.plan.plan import Plan, base_of, draw_up
from storyforge.sample.sampler import SamplingContext, pictures
from storyforge.store import Store
from storyforge.story import story as stories
from storyforge.tasks import PanelTask

STORY = Path(__file__).parents[1] / "stories" / "fox-and-lantern.yaml"
GOLDENS = golden.folder_of(STORY)
SAMPLES = sorted(STORY.parent.glob("*.yaml"))

needs_goldens = pytest.mark.skipif(
    not GOLDENS.is_dir(),
    reason="no goldens of the sample; tests/golden.py makes them",
)


def small_plan(path: Path) -> Plan:
    """What the goldens of a story are drawn by."""
    story, record = stories.read(path), golden.read_record(golden.folder_of(path))
    assert record is not None
    return golden.reduced(draw_up(story, base=base_of(story)), record)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One for all samples: what concepts look like to the layers is watched once."""
    return Store(tmp_path_factory.mktemp("store"))


samples = pytest.mark.parametrize("path", SAMPLES, ids=[path.stem for path in SAMPLES])


@needs_goldens
@samples
def test_every_panel_of_a_sample_is_as_it_was(path: Path, store: Store) -> None:
    folder = golden.folder_of(path)
    drawn = golden.draw_goldens(small_plan(path), folder / "concepts", store, silent)
    review = golden.Review(folder, tuple(golden.compared(folder, drawn)), None)
    panels = [panel.id for _, panel in stories.read(path).panels() if not panel.picture]
    assert [verdict.panel for verdict in review.verdicts] == panels
    assert review.passed, review.verdicts


@needs_goldens
@samples
def test_the_fixtures_are_of_the_base_that_ships(path: Path) -> None:
    folder, planned = golden.folder_of(path), small_plan(path)
    record = golden.read_record(folder)
    base_hash = base_of(planned.story).hash
    fixtures = sorted((folder / "concepts").glob("*.safetensors"))
    assert record is not None
    assert planned.fuse is not None
    assert [file.stem for file in fixtures] == sorted(name for name, _ in planned.fuse.concepts)
    assert {record.base_hash, *(Concept.load(file).base_hash for file in fixtures)} == {base_hash}


@needs_goldens
def test_a_concept_is_the_same_in_the_goldens_of_every_sample() -> None:
    """Else the samples could not share a store."""
    seen: dict[str, set[bytes]] = {}
    for path in SAMPLES:
        for file in (golden.folder_of(path) / "concepts").glob("*.safetensors"):
            seen.setdefault(file.name, set()).add(file.read_bytes())
    assert [name for name, files in seen.items() if len(files) > 1] == []


# The sample: a panel of two, and one where all four concepts meet.

TWO, ALL = "meeting", "between"


@dataclass(frozen=True)
class Sample:
    """The first story's panels at the goldens' size, and all that they are drawn from."""

    planned: Plan
    base: BaseModel
    fused: FusedModel
    concepts: dict[str, Concept]

    def task(self, panel: str) -> PanelTask:
        return next(task for task in self.planned.panels if task.panel == panel)

    def image_alignment(self, task: PanelTask, model: FusedModel | None = None) -> ImageDifference:
        """How like its golden the panel is when `task` is drawn with `model`."""
        model = model or self.fused
        with merged(self.base, model.deltas):
            (drawn,) = pictures(SamplingContext(self.base, model, self.concepts), [task])
        return compare(read_pixels(GOLDENS / "panels" / f"{task.panel}.png"), drawn.pixels)

    def without_deltas_of(self, dropped: str) -> FusedModel:
        """The fused model less one concept's part: its rows of `down` and columns of `up`."""
        deltas = {}
        for linear, delta in self.fused.deltas.items():
            owners = [
                name
                for name, concept in self.concepts.items()
                for _ in range(concept.deltas[linear].rank)
            ]
            kept = [index for index, owner in enumerate(owners) if owner != dropped]
            assert len(owners) == delta.rank
            deltas[linear] = Delta(delta.up[:, kept], delta.down[kept], delta.scale)
        return replace(self.fused, deltas=deltas)


@pytest.fixture(scope="module")
def sample(store: Store) -> Sample:
    planned = small_plan(STORY)
    assert planned.fuse is not None
    golden.draw_goldens(replace(planned, panels=()), GOLDENS / "concepts", store, silent)
    fused = FusedModel.load(store.path("fused", planned.fuse.key))
    names = [name for name, _ in planned.fuse.concepts]
    files = {name: Concept.load(GOLDENS / "concepts" / f"{name}.safetensors") for name in names}
    base = open_base(planned.fuse.base, planned.fuse.base_hash)
    return Sample(planned, base, fused, files)


@needs_goldens
@pytest.mark.parametrize("panel", [TWO, ALL])
def test_a_panel_drawn_by_hand_is_the_golden(sample: Sample, panel: str) -> None:
    assert sample.image_alignment(sample.task(panel)).similar


@needs_goldens
def test_exchanged_regions_do_not_pass(sample: Sample) -> None:
    task = sample.task(TWO)
    left, right = task.regions
    swapped = (replace(left, box=right.box), replace(right, box=left.box))
    assert not sample.image_alignment(replace(task, regions=swapped)).similar


@needs_goldens
@pytest.mark.parametrize("panel", [TWO, ALL])
def test_the_next_seed_does_not_pass(sample: Sample, panel: str) -> None:
    task = sample.task(panel)
    assert not sample.image_alignment(replace(task, seed=task.seed + 1)).similar


@needs_goldens
@pytest.mark.parametrize("panel", [TWO, ALL])
def test_the_base_without_the_fused_deltas_does_not_pass(sample: Sample, panel: str) -> None:
    assert not sample.image_alignment(sample.task(panel), replace(sample.fused, deltas={})).similar


@needs_goldens
@pytest.mark.parametrize("concept", ["pip", "juna", "lantern", "moonwood"])
def test_a_dropped_concept_does_not_pass(sample: Sample, concept: str) -> None:
    assert not sample.image_alignment(sample.task(ALL), sample.without_deltas_of(concept)).similar


# The verbs, on a story of two small pictures and two steps.

SMALL = {"golden": 1, "base_hash": "", "size": [64, 64], "steps": 2, "reason": "", "versions": {}}


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A story that may be changed, whose goldens are to be written."""
    return small_story(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, golden.Review]:
    """A story whose goldens are just written, and what came of that."""
    path = small_story(tmp_path_factory.mktemp("written"))
    return path, golden.update(path, "first")


@pytest.fixture
def kept(written: tuple[Path, golden.Review], tmp_path: Path) -> Path:
    """A story that may be changed, whose goldens are just written."""
    path, _ = written
    shutil.copytree(path.parents[1], tmp_path, symlinks=True, dirs_exist_ok=True)
    return tmp_path / path.relative_to(path.parents[1])


def small_story(project: Path) -> Path:
    """A story without concepts, on a base whose files may be changed; goldens are to be small."""
    base = project / "base"
    for file in POCKET.rglob("*"):
        if file.is_file():
            link = base / file.relative_to(POCKET)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    path = project / "stories" / "small.yaml"
    path.parent.mkdir()
    path.write_text(
        "storyforge: 1\ntitle: Small\nbase: ../base\npages:\n- panels:\n"
        "  - {id: day, prompt: a fox in the snow, decorative: true}\n"
        "  - {id: night, prompt: an owl in a wood, decorative: true}\n"
    )
    folder = golden.folder_of(path)
    folder.mkdir(parents=True)
    (folder / "golden.json").write_text(json.dumps(SMALL))
    return path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def change_base(story: Path) -> None:
    """Another base that draws the same: a note beside its weights."""
    (story.parents[1] / "base" / "note.txt").write_text("changed")


@contextmanager
def untouched(*paths: Path) -> Iterator[None]:
    """Check that files are the same files afterwards."""
    before = [(path.stat().st_ino, path.read_bytes()) for path in paths]
    yield
    assert [(path.stat().st_ino, path.read_bytes()) for path in paths] == before


def verdicts(review: golden.Review) -> dict[str, str]:
    return {each.panel: each.said for each in review.verdicts}


def test_goldens_just_written_are_drawn_again_to_the_byte(
    written: tuple[Path, golden.Review], kept: Path
) -> None:
    _, said = written
    assert verdicts(said) == {"day": "new", "night": "new"}
    assert said.sheet is None
    assert verdicts(golden.check(kept)) == {"day": "equal", "night": "equal"}


def test_a_changed_panel_fails_and_is_shown(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(kept, "a fox in the snow", "a boy on a beach")
    sheet = golden.folder_of(kept) / "changes.png"
    assert golden.main(["check", str(kept)]) == 1
    told = capsys.readouterr().out
    assert "different" in told
    assert str(sheet) in told
    assert read_pixels(sheet).shape[1] >= MARGIN + 3 * (64 + MARGIN)


def test_an_update_touches_only_what_changed(kept: Path) -> None:
    folder = golden.folder_of(kept)
    was = (folder / "panels" / "day.png").read_bytes()
    edit(kept, "a fox in the snow", "a boy on a beach")
    with untouched(folder / "panels" / "night.png"):
        done = golden.update(kept, "a boy suits the day")
    assert verdicts(done) == {"day": "different", "night": "equal"}
    assert done.sheet is not None
    assert done.sheet.is_file()
    assert (folder / "panels" / "day.png").read_bytes() != was
    record = golden.read_record(folder)
    assert record is not None
    assert (record.reason, record.size, record.steps) == ("a boy suits the day", (64, 64), 2)


def test_panels_that_come_and_go_are_found_and_mended(kept: Path) -> None:
    edit(kept, "id: day", "id: dawn")
    done = golden.check(kept)
    assert not done.passed
    assert verdicts(done) == {"dawn": "new", "night": "equal", "day": "gone"}
    golden.update(kept, "renamed")
    panels = golden.folder_of(kept) / "panels"
    assert sorted(path.name for path in panels.iterdir()) == ["dawn.png", "night.png"]


def test_goldens_of_another_base_say_how_to_renew_them(kept: Path) -> None:
    change_base(kept)
    with pytest.raises(EnvironmentProblem, match="drawn with another base") as told:
        golden.check(kept)
    assert f"golden.py update {kept} --reason" in str(told.value.hint)


def test_a_story_without_goldens_says_how_to_make_them(
    story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (golden.folder_of(story) / "golden.json").unlink()
    with pytest.raises(SystemExit) as ended:
        golden.main(["check", str(story)])
    assert ended.value.code == EnvironmentProblem.exit_code
    assert "golden.py update" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"golden": 2}'])
def test_a_damaged_record_is_named(story: Path, text: str) -> None:
    (golden.folder_of(story) / "golden.json").write_text(text)
    with pytest.raises(EnvironmentProblem, match=r"golden\.json"):
        golden.check(story)


def test_goldens_are_not_renewed_without_a_reason(story: Path) -> None:
    with pytest.raises(StoryForgeError, match="reason"):
        golden.update(story, " ")
    assert not (golden.folder_of(story) / "panels").exists()


def test_a_fixture_is_learnt_once_for_each_base(story: Path) -> None:
    concept = story.parents[1] / "concepts" / "pip"
    concept.mkdir(parents=True)
    (concept / "01.png").symlink_to(STORY.parents[1] / "concepts" / "pip" / "01.png")
    (concept / "concept.yaml").write_text(
        "{kind: character, class: fox, train: {steps: 1, batch_size: 1, prior_share: 0}}"
    )
    edit(story, "pages:", "characters: {pip: ../concepts/pip}\nfuse: {steps: 1}\npages:")
    edit(story, "a fox in", "<pip> in")
    golden.update(story, "first")
    assert golden.check(story).passed
    fixture = golden.folder_of(story) / "concepts" / "pip.safetensors"
    edit(story, "the snow", "the rain")
    with untouched(fixture):
        golden.update(story, "rain")
    change_base(story)
    golden.update(story, "another base")
    assert Concept.load(fixture).base_hash == base_of(stories.read(story)).hash
    edit(story, "<pip> in", "a fox in")
    golden.update(story, "pip left")
    assert not fixture.exists()
