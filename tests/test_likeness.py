"""Two pictures compared: by closed form, by a second road, and by what must not pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from storyforge.contact_sheet import LINE, MARGIN
from storyforge.metrics.image_diff import (
    PictureChange,
    Pixels,
    compare,
    read_pixels,
    ssim,
    write_changes,
)


def drawn(eyes: int = 2, side: int = 192) -> Pixels:
    """A face with so many eyes."""
    picture = Image.new("RGB", (side, side), "#335577")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((40, 40, 150, 150), "#88ccaa")
    for index in range(eyes):
        pen.ellipse((70 + 40 * index, 80, 77 + 40 * index, 87), "black")
    return np.array(picture)


def noisy(picture: Pixels, strength: int, share: float) -> Pixels:
    """The picture with a `share` of its values moved by up to `strength`."""
    generator = np.random.default_rng(0)
    moved = generator.integers(-strength, strength + 1, picture.shape)
    moved *= generator.random(picture.shape) < share
    return (picture.astype(int) + moved).clip(0, 255).astype(np.uint8)


def grey(value: int) -> Pixels:
    return np.full((32, 32, 3), value, np.uint8)


def test_a_picture_equals_itself() -> None:
    found = compare(drawn(), drawn())
    assert found.equal
    assert found.similar
    assert (found.mean, found.ssim) == (0.0, pytest.approx(1.0))


def test_largest_and_mean_are_in_255ths() -> None:
    one, other = grey(10), grey(10)
    other[0, 0, 0] = 202
    found = compare(one, other)
    assert (found.largest, found.mean) == (192, 192 / one.size)


def test_two_greys_are_as_alike_as_the_closed_form_says() -> None:
    c1 = (0.01 * 255) ** 2
    expected = (2 * 50 * 200 + c1) / (50**2 + 200**2 + c1)
    assert ssim(grey(50), grey(200)) == pytest.approx(expected)


def test_ssim_agrees_with_windows_weighed_one_by_one() -> None:
    one = noisy(drawn()[40:60, 60:84], 40, 1.0)
    other = noisy(one, 25, 0.5)
    offsets = np.arange(11) - 5
    bell = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    bell /= bell.sum()
    c1, c2 = 2.55**2, 7.65**2
    values = []
    for y in range(one.shape[0] - 10):
        for x in range(one.shape[1] - 10):
            for channel in range(3):
                a = one[y : y + 11, x : x + 11, channel].astype(float)
                b = other[y : y + 11, x : x + 11, channel].astype(float)
                mean_a, mean_b = (bell * a).sum(), (bell * b).sum()
                var_a = (bell * (a - mean_a) ** 2).sum()
                var_b = (bell * (b - mean_b) ** 2).sum()
                shared = (bell * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + c1)
                    * (2 * shared + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )
    assert ssim(one, other) == pytest.approx(np.mean(values))


def test_it_does_not_matter_which_picture_comes_first() -> None:
    one, other = drawn(), noisy(drawn(), 30, 0.2)
    assert compare(one, other) == compare(other, one)


def test_the_last_bits_of_another_machine_pass() -> None:
    found = compare(drawn(), noisy(drawn(), 1, 0.05))
    assert not found.equal
    assert found.similar


def test_a_missing_eye_does_not_pass() -> None:
    assert not compare(drawn(eyes=2), drawn(eyes=1)).similar


def test_a_picture_shifted_by_a_pixel_does_not_pass() -> None:
    assert not compare(drawn(), np.roll(drawn(), 1, axis=1)).similar


def test_two_colours_of_one_brightness_do_not_pass() -> None:
    one, other = grey(0), grey(0)
    one[..., 0], other[..., 1] = 200, 200 * 299 // 587
    assert not compare(one, other).similar


def test_a_faint_haze_over_everything_does_not_pass() -> None:
    assert not compare(drawn(), drawn() + np.uint8(1)).similar


def test_pictures_of_two_sizes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different sizes"):
        compare(drawn(), drawn(side=160))


def test_a_picture_smaller_than_the_window_is_not_compared() -> None:
    with pytest.raises(ValueError, match="smaller than SSIM's window"):
        ssim(grey(0)[:10], grey(0)[:10])


def test_the_sheet_of_changes_shows_old_new_and_difference(tmp_path: Path) -> None:
    for name, picture in {"old": drawn(eyes=2), "new": drawn(eyes=1)}.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    sheet = tmp_path / "changes.png"
    change = PictureChange("pip", tmp_path / "old.png", tmp_path / "new.png")
    write_changes([change, change], sheet)
    seen = read_pixels(sheet)
    old, new, apart = (
        seen[MARGIN + LINE :][:192, MARGIN + place * (192 + MARGIN) :][:, :192]
        for place in range(3)
    )
    assert np.array_equal(old, drawn(eyes=2))
    assert np.array_equal(new, drawn(eyes=1))
    changed = np.abs(old.astype(int) - new).max(2) > 0
    assert np.array_equal(apart.max(2) > 0, changed)
    assert changed.any()


def test_pictures_of_two_sizes_stand_side_by_side_on_the_sheet(tmp_path: Path) -> None:
    Image.fromarray(drawn()).save(tmp_path / "old.png")
    Image.fromarray(drawn(side=160)).save(tmp_path / "new.png")
    write_changes(
        [PictureChange("pip", tmp_path / "old.png", tmp_path / "new.png")], tmp_path / "c.png"
    )
    seen = read_pixels(tmp_path / "c.png")[MARGIN + LINE :]
    assert np.array_equal(seen[:192, MARGIN:][:, :192], drawn())
    smaller = seen[16:][:160, MARGIN + 192 + MARGIN + 16 :][:, :160]
    assert np.array_equal(smaller, drawn(side=160))
