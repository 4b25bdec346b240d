"""What is told about a concept's pictures before it is learnt from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from support import bomb
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.errors import Severity, StoryForgeError
from storyforge.project.inspect import draw_sheet, examine_folder, picture_side
from storyforge.train.report import examine_pictures

CONCEPTS = Path(__file__).parents[1] / "concepts"
SIDE = 96


def picture(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Blocks of random colours: sharp edges, and no two alike."""
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures of `pip` that nothing can be said against."""
    found = tmp_path / "pip"
    found.mkdir()
    for index in range(4):
        picture(index).save(found / f"{index}.png")
        (found / f"{index}.txt").write_text("a <pip>\n")
    return found


def half_mask(path: Path) -> None:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, : SIDE // 2] = 255
    Image.fromarray(mask).save(path)


def codes(folder: Path) -> list[tuple[str, str]]:
    found = examine_pictures(folder, name="pip", side=SIDE).findings
    return [(Path(finding.file).name, finding.code) for finding in found]


def test_good_pictures_are_not_complained_of(folder: Path) -> None:
    half_mask(folder / "0-mask.png")
    report = examine_pictures(folder, name="pip", side=SIDE)
    assert report.findings == ()
    assert [seen.file for seen in report.seen] == ["0.png", "1.png", "2.png", "3.png"]
    assert report.seen[0].masked == pytest.approx(0.5, abs=0.01)
    assert report.seen[1].masked is None


@pytest.mark.parametrize("name", ["pip", "juna", "lantern", "moonwood"])
def test_the_sample_concepts_are_not_complained_of(name: str) -> None:
    assert examine_folder(CONCEPTS / name, "pocket").findings == ()


def unreadable(folder: Path) -> None:
    (folder / "3.png").write_text("dear diary")


def too_many_pixels(folder: Path) -> None:
    bomb(folder / "3.png")


def twin(folder: Path) -> None:
    again = picture(1, (3 * SIDE, 3 * SIDE)).filter(ImageFilter.GaussianBlur(1))
    again.save(folder / "3.jpg", quality=70)
    (folder / "3.png").unlink()


def blurred(folder: Path) -> None:
    picture(3).filter(ImageFilter.GaussianBlur(8)).save(folder / "3.png")


def small(folder: Path) -> None:
    picture(3, (SIDE - 1, SIDE)).save(folder / "3.png")


def unnamed(folder: Path) -> None:
    (folder / "3.txt").write_text("a <pip>\nin the snow\n")


def empty_mask(folder: Path) -> None:
    Image.new("L", (SIDE, SIDE), 0).save(folder / "3-mask.png")


def full_mask(folder: Path) -> None:
    Image.new("L", (SIDE, SIDE), 255).save(folder / "3-mask.png")


def broken_mask(folder: Path) -> None:
    (folder / "3-mask.png").write_text("x")


def other_mask(folder: Path) -> None:
    Image.linear_gradient("L").resize((SIDE, SIDE // 2)).save(folder / "3-mask.png")


def strange_letters(folder: Path) -> None:
    (folder / "3.txt").write_bytes("größer".encode("utf-16"))


def broken_metadata(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "3.png"}\n{"text": "a"}\n')


def lost_caption(folder: Path) -> None:
    (folder / "lost.txt").write_text("a <pip>\n")


def lost_mask(folder: Path) -> None:
    half_mask(folder / "lost-mask.png")


def lost_line(folder: Path) -> None:
    (folder / "metadata.jsonl").write_text('{"file_name": "lost.png", "text": "a <pip>"}\n')


def wide(folder: Path) -> None:
    picture(3, (2 * SIDE, SIDE)).save(folder / "3.png")


def foreign(folder: Path) -> None:
    picture(8).save(folder / "8.gif")


ERROR, WARNING = Severity.ERROR, Severity.WARNING


@pytest.mark.parametrize(
    ("spoil", "file", "line", "code", "severity"),
    [
        (unreadable, "3.png", 1, "SF600", ERROR),
        (too_many_pixels, "3.png", 1, "SF601", ERROR),
        (twin, "3.jpg", 1, "SF651", WARNING),
        (blurred, "3.png", 1, "SF652", WARNING),
        (small, "3.png", 1, "SF653", WARNING),
        (unnamed, "3.txt", 2, "SF654", WARNING),
        (empty_mask, "3-mask.png", 1, "SF603", ERROR),
        (full_mask, "3-mask.png", 1, "SF655", WARNING),
        (broken_mask, "3-mask.png", 1, "SF604", ERROR),
        (other_mask, "3-mask.png", 1, "SF656", WARNING),
        (strange_letters, "3.txt", 1, "SF605", ERROR),
        (broken_metadata, "metadata.jsonl", 2, "SF606", ERROR),
        (lost_caption, "lost.txt", 1, "SF657", WARNING),
        (lost_mask, "lost-mask.png", 1, "SF657", WARNING),
        (lost_line, "metadata.jsonl", 1, "SF657", WARNING),
        (wide, "3.png", 1, "SF658", WARNING),
        (foreign, "8.gif", 1, "SF659", WARNING),
    ],
)
def test_every_kind_of_bad_data_is_one_finding_with_a_remedy(
    folder: Path,
    spoil: Callable[[Path], None],
    file: str,
    line: int,
    code: str,
    severity: Severity,
) -> None:
    spoil(folder)
    findings = examine_pictures(folder, name="pip", side=SIDE).findings
    told = [f for f in findings if f.code not in {"SF650", "SF657"} or f.code == code]
    (found,) = told
    assert (Path(found.file).name, found.line, found.code) == (file, line, code)
    assert found.severity is severity
    assert code == "SF657" or found.hint


def test_few_pictures_are_a_warning_and_none_a_mistake(folder: Path) -> None:
    for index in (2, 3):
        (folder / f"{index}.png").unlink()
        (folder / f"{index}.txt").unlink()
    (few,) = examine_pictures(folder, name="pip", side=SIDE).findings
    assert (few.code, few.severity) == ("SF650", WARNING)
    for file in folder.iterdir():
        file.unlink()
    (none,) = examine_pictures(folder, name="pip", side=SIDE).findings
    assert (none.code, none.severity) == ("SF602", ERROR)


def test_a_picture_that_keeps_its_shape_loses_nothing(folder: Path) -> None:
    wide(folder)
    assert examine_pictures(folder, name="pip", side=SIDE, shaped=True).findings == ()


def test_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoryForgeError, match="cannot look into"):
        examine_folder(tmp_path / "nowhere", "pocket")


def test_a_base_that_is_not_here_has_the_usual_side() -> None:
    assert picture_side("pocket") == 256
    assert picture_side("owner/name") == 512


def test_the_sheet_shows_every_picture_dim_outside_its_mask(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), "red").save(folder / "0.png")
    half_mask(folder / "0-mask.png")
    report = examine_pictures(folder, name="pip", side=SIDE)
    with Image.open(draw_sheet(report, tmp_path / "sheet.png")) as sheet:
        left, right = sheet.getpixel((40, 100)), sheet.getpixel((150, 100))
    assert left == (255, 0, 0)
    assert isinstance(right, tuple)
    assert right[1] > 150


def test_concept_check_prints_a_table_and_fails_for_errors_only(folder: Path) -> None:
    runner = CliRunner()
    unnamed(folder)
    told = runner.invoke(app, ["concept", "check", str(folder)])
    assert told.exit_code == 0
    assert "SF654" in told.stdout
    assert f"{folder / '3.txt'}:2:1 SF654 warning" in told.stderr
    assert runner.invoke(app, ["concept", "check", str(folder), "--strict"]).exit_code == 1
    empty_mask(folder)
    sheet = folder.parent / "sheet.png"
    asked = ["concept", "check", str(folder), "--json", "--sheet", str(sheet)]
    failed = runner.invoke(app, asked)
    content = json.loads(failed.stdout)
    assert failed.exit_code == 1
    assert content["errors"] == 1
    assert [each["file"] for each in content["pictures"]] == [f"{n}.png" for n in range(4)]
    assert sheet.is_file()
