"""When to stop: which step is the best, how it is found on the way, and that it is what is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support import CONFIG, Killed, killer, toy, train_task, trainable
from torch import Tensor
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.engine.judge import judge_of
from storyforge.errors import EnvironmentProblem
from storyforge.executor import silent
from storyforge.metrics.prompts import prompts_for
from storyforge.model.base import BaseModel
from storyforge.model.card import Card
from storyforge.plan.plan import base_of, draw_up
from storyforge.story import story as stories
from storyforge.train import edlora
from storyforge.train.config import TrainConfig
from storyforge.train.edlora import learn
from storyforge.train.logs import Logs
from storyforge.train.stopping import Alignment, Check, best, score, stalled
from storyforge.train.validation import _SCENE, _SUBJECT, Validation

START = Check(0, image=0.5, text=0.8, chance=0.3)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads add up in another order each time: equal to the bit holds on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def check(step: int, image: float, kept: float = 1.0) -> Check:
    """A check that kept such a share of the prompts."""
    return Check(step, image, 0.3 + kept * 0.5, 0.3)


def test_a_score_is_what_is_gained_times_what_is_kept() -> None:
    assert score(check(1, 0.8), START) == pytest.approx(0.3)
    assert score(check(1, 0.8, kept=0.5), START) == pytest.approx(0.15)
    assert score(START, START) == 0
    assert score(check(1, 0.4), START) == 0, "less alike than the base's own"


def test_more_of_the_prompts_than_the_base_shows_is_no_merit() -> None:
    assert score(check(1, 0.8, kept=1.4), START) == score(check(1, 0.8), START)


def test_pictures_that_ignore_their_prompts_score_nothing_however_alike_they_are() -> None:
    assert score(Check(9, image=1.0, text=0.6, chance=0.6), START) == 0


def test_where_the_base_shows_nothing_of_the_prompts_identity_decides() -> None:
    blind = Check(0, 0.5, 0.3, 0.3)
    assert score(check(1, 0.9, kept=0.0), blind) == pytest.approx(0.4)


def test_the_best_step_comes_before_the_prompts_are_lost() -> None:
    checks = [START, check(10, 0.7), check(20, 0.85, 0.9), check(30, 0.9, 0.5)]
    assert best(checks).step == 20
    assert best(checks[:1]) == START


def test_of_equal_steps_the_latest_is_the_best() -> None:
    assert best([START, check(10, 0.7), check(20, 0.7)]).step == 20


def test_a_run_stalls_after_so_many_checks_without_a_better_one() -> None:
    checks = [START, check(1, 0.8), check(2, 0.7), check(3, 0.7)]
    assert not stalled(checks[:1], 1)
    assert not stalled(checks[:2], 1)
    assert stalled(checks[:3], 1)
    assert not stalled(checks[:3], 2)
    assert stalled(checks, 2)
    assert not stalled(checks, None)


@dataclass
class Fickle:
    """A judge that likes one step best, whatever it is shown."""

    marks: Sequence[float]
    shown: list[list[bytes]] = field(default_factory=list)
    told: list[Sequence[str]] = field(default_factory=list)

    def __call__(self, pictures: Sequence[Image.Image], texts: Sequence[str]) -> Alignment:
        self.shown.append([picture.tobytes() for picture in pictures])
        self.told.append(texts)
        return Alignment(self.marks[len(self.told) - 1], 0.8, 0.3)


JUDGED = replace(CONFIG, steps=4, keep="best", check_every=1, unet_lr=0.05)


SHORT: Any = {"steps": 1, "prompts": _SUBJECT[:2]}
"""Two pictures a check, in one step."""


@pytest.fixture(scope="module")
def small(base: BaseModel) -> Iterator[BaseModel]:
    """The base drawing pictures of the fewest cells in one step."""
    side, own = 2 ** (len(base.unet.config.block_out_channels) - 1), base.unet.config.sample_size
    base.unet.register_to_config(sample_size=side)
    yield base
    base.unet.register_to_config(sample_size=own)


def watched(
    base: BaseModel, judge: Fickle, config: TrainConfig, folder: Path, logs: Logs | None = None
) -> tuple[Validation, list[float], list[Tensor]]:
    """A run on two small pictures, a checkpoint after every step, and what it kept."""
    task = train_task(base, folder)
    made = trainable(base, config)
    watch = Validation(base, judge, task, config, silent, logs, **SHORT)
    seen = toy(base, "a <pip>", "a fox")
    losses = learn(base, made, seen, config, folder, silent, watch=watch, save_every=1)
    return watch, losses, [weight.detach().clone() for weight in made.learnt()]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_best_step_is_what_is_kept(small: BaseModel, tmp_path: Path) -> None:
    judge = Fickle([0.1, 0.3, 0.9, 0.4, 0.2])
    watch, losses, weights = watched(small, judge, JUDGED, tmp_path)
    assert len(losses) == 4
    assert watch.told() == {
        "chosen_step": 2,
        "stopped_at": 4,
        "image_alignment": 0.9,
        "text_alignment": 0.8,
    }
    made = trainable(small)
    seen = toy(small, "a <pip>", "a fox")
    with pytest.raises(Killed):
        learn(small, made, seen, JUDGED, tmp_path / "other", killer(2))
    assert same(weights, made.learnt())
    assert len({tuple(pictures) for pictures in judge.shown}) == 5, "every step draws otherwise"


def test_watching_changes_nothing_of_what_is_learnt(small: BaseModel, tmp_path: Path) -> None:
    only_watched = replace(JUDGED, keep=None)
    _, losses, weights = watched(small, Fickle([0.1, 0.3, 0.9, 0.4, 0.2]), only_watched, tmp_path)
    made = trainable(small)
    plain = learn(small, made, toy(small, "a <pip>", "a fox"), JUDGED, tmp_path / "x", silent)
    assert losses == plain
    assert same(weights, made.learnt())


def test_a_run_ends_early_when_nothing_gets_better(small: BaseModel, tmp_path: Path) -> None:
    config = replace(JUDGED, keep=None, stop_early=2)
    watch, losses, _ = watched(small, Fickle([0.1, 0.5, 0.4, 0.4]), config, tmp_path)
    assert len(losses) == 3
    assert watch.told()["chosen_step"] == 1
    assert watch.told()["stopped_at"] == 3


@pytest.mark.parametrize("ema", [None, 0.5])
def test_a_judged_run_that_was_killed_goes_on_bit_for_bit(
    small: BaseModel, ema: float | None, tmp_path: Path
) -> None:
    config, marks = replace(JUDGED, ema=ema), [0.1, 0.3, 0.9, 0.4, 0.2]
    (other := tmp_path / "other").mkdir()
    whole = watched(small, Fickle(marks), config, other)
    task, seen = train_task(small, tmp_path), toy(small, "a <pip>", "a fox")
    watch = Validation(small, Fickle(marks), task, config, silent, **SHORT)
    with pytest.raises(Killed):
        learn(small, trainable(small), seen, config, tmp_path, killer(3), watch=watch, save_every=1)
    again = watched(small, Fickle(marks[4:]), config, tmp_path)
    assert again[0].seen.checks == whole[0].seen.checks
    assert again[1] == whole[1]
    assert same(again[2], whole[2])


def test_a_run_that_had_stopped_early_does_not_go_on(small: BaseModel, tmp_path: Path) -> None:
    config = replace(JUDGED, stop_early=1)
    first = watched(small, Fickle([0.1, 0.5, 0.4]), config, tmp_path)
    again = watched(small, Fickle([]), config, tmp_path)
    assert again[0].told() == first[0].told()
    assert same(again[2], first[2])


def test_the_prompts_of_checks_are_none_that_are_evaluated() -> None:
    for kind, asked in (("character", _SUBJECT), ("scene", _SCENE)):
        assert len(set(asked)) >= 4
        evaluated = [
            prompt.replace("a {}", "{}")
            for pocket in (True, False)
            for group in prompts_for(kind, pocket=pocket).values()
            for prompt in group
        ]
        assert not set(asked) & set(evaluated)


def test_the_class_stands_for_the_concept_in_what_is_judged(
    small: BaseModel, tmp_path: Path
) -> None:
    judge = Fickle([0.1])
    task = replace(train_task(small, tmp_path), class_phrase="owl")
    Validation(small, judge, task, JUDGED, silent, **SHORT).begin()
    assert all("an owl" in text for text in judge.told[0])


def test_the_curve_is_written_from_step_0_on(small: BaseModel, tmp_path: Path) -> None:
    logs = Logs(tmp_path / "logs")
    watched(small, Fickle([0.1, 0.3, 0.9, 0.4, 0.2]), JUDGED, tmp_path, logs)
    lines = (logs.folder / "alignment.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert [line["step"] for line in told] == [0, 1, 2, 3, 4]
    assert [line["image"] for line in told] == [0.1, 0.3, 0.9, 0.4, 0.2]
    assert told[2]["score"] == max(line["score"] for line in told) == pytest.approx(0.8)
    with Image.open(logs.folder / "alignment.png") as curve:
        assert len(curve.getcolors(1 << 20) or []) > 5


STORY = "storyforge: 1\ntitle: A\ncharacters: {pip: ./pip}\npages: [{text: Once.}]\n"


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A story of one concept, whose pictures are noise."""
    (tmp_path / "pip").mkdir()
    for name in ("a", "b"):
        Image.effect_noise((64, 64), 80).save(tmp_path / "pip" / f"{name}.png")
    (tmp_path / "story.yaml").write_text(STORY)
    return tmp_path / "story.yaml"


def says(story: Path, train: str) -> None:
    text = f"storyforge: 1\nkind: character\nclass: fox\ntrain: {{{train}}}\n"
    (story.parent / "pip" / "concept.yaml").write_text(text)


def key(story: Path) -> str:
    read = stories.read(story)
    return draw_up(read, base=base_of(read)).train[0].key


def test_a_concept_is_named_by_the_clip_that_judges_it(
    story: Path, clip: Path, tmp_path: Path
) -> None:
    says(story, "")
    unjudged = key(story)
    says(story, "rank: 4")
    assert key(story) == unjudged
    copied = shutil.copytree(clip, tmp_path / "clip")
    says(story, "keep: best, clip: ../clip")
    before = key(story)
    assert before != unjudged
    (copied / "config.json").write_text("{}")
    assert key(story) != before, "the path is the same, and the CLIP is another one"


def test_a_judge_tells_pictures_of_the_concept_from_others(story: Path, clip: Path) -> None:
    says(story, f"keep: best, clip: {clip}")
    read = stories.read(story)
    (task,) = draw_up(read, base=base_of(read)).train
    judge = judge_of(task)
    assert judge is not None
    own = [Image.open(task.folder / name) for name in task.images]
    plain = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    texts = ["a fox in the snow", "a fox by night"]
    assert judge(own, texts).image > judge(plain, texts).image
    swapped = judge(own, texts[::-1])
    assert swapped.text == pytest.approx(judge(own, texts).chance)
    assert swapped.chance == pytest.approx(judge(own, texts).text)
    says(story, "")
    read = stories.read(story)
    assert judge_of(draw_up(read, base=base_of(read)).train[0]) is None


def test_training_without_a_clip_is_one_clear_error(
    story: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("storyforge.metrics.clip.POCKET_CLIP", tmp_path / "none")
    says(story, "keep: best")
    done = CliRunner().invoke(app, ["train", str(story), "--jobs", "1"])
    assert done.exit_code == 3, done.output
    assert "`pip` is to be judged" in done.stderr
    assert "train: {clip: ...}" in " ".join(done.stderr.split())


def test_a_base_without_a_clip_of_its_own_asks_for_one(base: BaseModel, tmp_path: Path) -> None:
    task = replace(train_task(base, tmp_path, stop_early=1), base="owner/name", clip=None)
    with pytest.raises(EnvironmentProblem, match="`owner/name` has no CLIP of its own"):
        judge_of(task)


def test_a_concepts_file_says_which_step_it_is(small: BaseModel, tmp_path: Path) -> None:
    (scratch := tmp_path / "store" / "key").mkdir(parents=True)
    task = train_task(small, tmp_path, steps=3, keep="best", check_every=1, unet_lr=0.05)
    judge, out = Fickle([0.1, 0.3, 0.9, 0.2]), tmp_path / "pip.safetensors"
    edlora.train_concept(small, task, out, scratch, silent, judge=judge)
    config = Card.read(out).recipe
    assert (config["chosen_step"], config["stopped_at"], config["keep"]) == (2, 3, "best")
    last = replace(task, settings=task.settings.model_copy(update={"keep": None}))
    (scratch / "state.safetensors").unlink(missing_ok=True)
    edlora.train_concept(
        small, last, tmp_path / "last.safetensors", scratch, silent, judge=Fickle(judge.marks)
    )
    one, other = load_file(out), load_file(tmp_path / "last.safetensors")
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert Card.read(tmp_path / "last.safetensors").recipe["chosen_step"] == 3
