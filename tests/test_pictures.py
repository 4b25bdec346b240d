"""What each file in a concept's folder is, by one rule wherever it is asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storyforge.metrics.clip import open_clip
from storyforge.metrics.references import references_of
from storyforge.modelref import ModelRef
from storyforge.pictures import cut_out, files_read, picture_names, sources
from storyforge.plan.plan import train_task
from storyforge.settings import TrainSettings
from storyforge.story.concept import ConceptSpec
from storyforge.tasks import TrainTask

RED, BLUE, BOX = (200, 20, 20), (20, 20, 200), (10, 20, 30, 50)


def subject() -> Image.Image:
    """A red subject on blue, in `BOX`."""
    made = Image.new("RGB", (60, 60), BLUE)
    made.paste(RED, BOX)
    return made


def mask() -> Image.Image:
    made = Image.new("L", (60, 60))
    made.paste(255, BOX)
    return made


def by_name(folder: Path) -> None:
    subject().save(folder / "p1.png")
    mask().save(folder / "p1-mask.png")


def by_metadata(folder: Path) -> None:
    subject().save(folder / "p1.png")
    mask().save(folder / "m1.png")
    line = {"file_name": "p1.png", "mask": "m1.png"}
    (folder / "metadata.jsonl").write_text(json.dumps(line))


def by_alpha(folder: Path) -> None:
    made = subject()
    made.putalpha(mask())
    made.save(folder / "p1.png")


WAYS = pytest.mark.parametrize("make", [by_name, by_metadata, by_alpha])


def task(folder: Path) -> TrainTask:
    spec = ConceptSpec(kind="character", class_="fox", name="pip", folder=folder)
    return train_task("pip", spec, ModelRef("pocket", "hash"), {})


@WAYS
def test_a_mask_is_no_picture_of_the_concept(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    assert picture_names(tmp_path) == task(tmp_path).images == ("p1.png",)


@WAYS
def test_a_reference_is_cut_to_its_mask_whatever_form_that_has(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    make(tmp_path)
    (source,) = sources(tmp_path, picture_names(tmp_path))
    made = np.asarray(cut_out(tmp_path, source))
    assert made.shape == (30, 20, 3)
    assert (made == RED).all()


def test_a_judge_sees_the_same_whatever_form_the_mask_has(clip: Path, tmp_path: Path) -> None:
    seen = []
    for make in (by_name, by_metadata, by_alpha):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder)
        seen.append(references_of(open_clip(str(clip)), task(folder)))
    assert seen[0].shape[0] == 1
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], seen[2])


def test_a_mask_of_another_size_is_laid_over_the_whole_picture(tmp_path: Path) -> None:
    subject().save(tmp_path / "p1.png")
    mask().resize((120, 120), Image.Resampling.NEAREST).save(tmp_path / "p1-mask.png")
    (source,) = sources(tmp_path, picture_names(tmp_path))
    assert cut_out(tmp_path, source).size == (20, 30)


def test_a_mask_that_is_changed_is_learnt_from_anew(tmp_path: Path) -> None:
    by_metadata(tmp_path)
    before = task(tmp_path).key
    Image.new("L", (60, 60), 255).save(tmp_path / "m1.png")
    assert task(tmp_path).key != before


def test_metadata_that_cannot_be_read_name_no_mask(tmp_path: Path) -> None:
    by_metadata(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("{")
    assert picture_names(tmp_path) == ("m1.png", "p1.png")


def test_what_is_hidden_is_not_read(tmp_path: Path) -> None:
    by_name(tmp_path)
    (tmp_path / ".thumbs").mkdir()
    subject().save(tmp_path / ".thumbs" / "p1.png")
    (tmp_path / "notes.md").write_text("not looked at")
    assert [path.name for path in files_read(tmp_path)] == ["p1-mask.png", "p1.png"]


def test_what_is_said_of_training_does_not_decide_what_a_picture_is(tmp_path: Path) -> None:
    by_metadata(tmp_path)
    spec = ConceptSpec(
        kind="character",
        class_="fox",
        name="pip",
        folder=tmp_path,
        train=TrainSettings(composed=0.5),
    )
    assert train_task("pip", spec, ModelRef("pocket", "hash"), {}).images == ("p1.png",)
