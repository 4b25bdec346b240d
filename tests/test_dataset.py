"""Pictures, masks and captions of a concept, as people keep them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import bomb

from storyforge.errors import StoryForgeError
from storyforge.pictures import caption_of
from storyforge.train.dataset import Example, bucket, buckets, read_examples

SIDE = 16
TOP_RED = np.zeros((32, 32, 3), np.uint8)
TOP_RED[:16] = (255, 0, 0)
TOP_RED[16:] = (0, 0, 255)


def read(folder: Path, *files: str, kind: str = "character") -> list[Example]:
    return read_examples(folder, files, name="pip", kind=kind, side=SIDE)


def keep(folder: Path, file: str = "a.png", pixels: np.ndarray = TOP_RED) -> Path:
    Image.fromarray(pixels).save(folder / file)
    return folder / file


@pytest.mark.parametrize(
    ("line", "caption"),
    [
        ("a [trigger] waving", "a <pip> waving"),
        ("a <pip> waving", "a <pip> waving"),
        ("pip waving", "<pip> waving"),
        ("Pip waving at pip", "<pip> waving at <pip>"),
        ("waving in the snow", "a <pip>, waving in the snow"),
        ("a pipe in the snow", "a <pip>, a pipe in the snow"),
    ],
)
def test_a_caption_names_the_concept_however_it_is_written(line: str, caption: str) -> None:
    assert caption_of(line, "pip", "character") == caption


def test_a_caption_without_the_name_of_a_scene_stands_in_it() -> None:
    assert caption_of("a fox", "wood", "scene") == "in <wood>, a fox"


def test_each_line_of_a_caption_file_is_a_caption(tmp_path: Path) -> None:
    keep(tmp_path)
    (tmp_path / "a.txt").write_text("\ufeffa [trigger]\n\n  Pip in the snow \n", encoding="utf-8")
    assert read(tmp_path, "a.png")[0].captions == ("a <pip>", "<pip> in the snow")


@pytest.mark.parametrize("kind", ["character", "object", "scene"])
def test_a_picture_without_a_caption_gets_those_of_its_kind(tmp_path: Path, kind: str) -> None:
    keep(tmp_path)
    captions = read(tmp_path, "a.png", kind=kind)[0].captions
    assert len(captions) > 1
    assert all("<pip>" in caption for caption in captions)


def test_a_blank_caption_file_is_none(tmp_path: Path) -> None:
    keep(tmp_path)
    (tmp_path / "a.txt").write_text("\n \n")
    assert len(read(tmp_path, "a.png")[0].captions) > 1


def test_pixels_are_fractions_channels_first(tmp_path: Path) -> None:
    keep(tmp_path)
    pixels = read(tmp_path, "a.png")[0].pixels
    assert pixels.shape == (3, SIDE, SIDE)
    assert torch.equal(pixels[:, 0, 0], torch.tensor([1.0, 0, 0]))
    assert torch.equal(pixels[:, -1, 0], torch.tensor([0.0, 0, 1]))


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(TOP_RED).save(tmp_path / "a.png", exif=exif)
    pixels = read(tmp_path, "a.png")[0].pixels
    assert pixels[2, 0, 0] == 1


def test_a_wide_picture_is_cut_to_its_middle(tmp_path: Path) -> None:
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255
    keep(tmp_path, pixels=wide)
    assert read(tmp_path, "a.png")[0].pixels[:, :, 2:-2].min() > 0.9


def test_without_a_mask_there_is_none(tmp_path: Path) -> None:
    keep(tmp_path)
    assert read(tmp_path, "a.png")[0].mask is None


def test_a_drawn_mask_is_read_and_is_no_picture(tmp_path: Path) -> None:
    keep(tmp_path)
    keep(tmp_path, "a-mask.png", np.uint8(255) * (TOP_RED[..., 0] > 0))
    (example,) = read(tmp_path, "a-mask.png", "a.png")
    assert example.mask is not None
    assert example.mask.shape == (SIDE, SIDE)
    assert example.mask[0].min() == 1
    assert example.mask[-1].max() == 0


def see_through() -> Image.Image:
    """Opaque above, transparent below."""
    alpha = np.uint8(255) * (TOP_RED[..., 0] > 0)
    return Image.fromarray(np.dstack([TOP_RED, alpha]))


def palette() -> Image.Image:
    """The same with a palette whose second colour is transparent."""
    picture = Image.fromarray(np.uint8(TOP_RED[..., 0] == 0), "P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.info["transparency"] = 1
    return picture


@pytest.mark.parametrize("make", [see_through, palette])
def test_transparency_is_a_mask_on_white_paper(make, tmp_path: Path) -> None:
    make().save(tmp_path / "a.png")
    (example,) = read(tmp_path, "a.png")
    assert example.mask is not None
    assert example.mask[0].min() == 1
    assert example.mask[-1].max() == 0
    assert torch.equal(example.pixels[:, -1, 0], torch.ones(3))
    assert torch.equal(example.pixels[:, 0, 0], torch.tensor([1.0, 0, 0]))


def test_an_empty_mask_is_refused_by_name(tmp_path: Path) -> None:
    keep(tmp_path)
    keep(tmp_path, "a-mask.png", np.zeros((32, 32), np.uint8))
    with pytest.raises(StoryForgeError, match=r"mask of .*a\.png.* is empty"):
        read(tmp_path, "a.png")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def scrambled(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:33] + b"\0\0\0\x04ID\x01T" + b"\xff" * 40)


def renamed_text(path: Path) -> None:
    path.write_text("dear diary")


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut_short, scrambled, renamed_text, gone])
@pytest.mark.parametrize("file", ["b.png", "b-mask.png"])
def test_a_broken_picture_is_one_clear_error(damage, file: str, tmp_path: Path) -> None:
    keep(tmp_path, "b.png")
    damage(keep(tmp_path, file))
    if damage is gone and "mask" in file:
        assert read(tmp_path, "b.png")[0].mask is None
        return
    with pytest.raises(StoryForgeError, match=rf"cannot read the picture `.*{file}`"):
        read(tmp_path, "b.png")


def test_a_caption_that_is_not_utf8_is_one_clear_error(tmp_path: Path) -> None:
    keep(tmp_path)
    (tmp_path / "a.txt").write_bytes("ein größerer Fuchs".encode("utf-16"))
    with pytest.raises(StoryForgeError, match=r"cannot read the caption `.*a\.txt`"):
        read(tmp_path, "a.png")


def test_a_folder_without_pictures_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoryForgeError, match="no pictures of `pip`"):
        read(tmp_path, "a-mask.png")


def said(folder: Path, *lines: object) -> None:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "metadata.jsonl").write_text(text + "\n", encoding="utf-8")


def test_captions_may_stand_in_a_metadata_file(tmp_path: Path) -> None:
    for file in ("a.png", "b.png", "c.png"):
        keep(tmp_path, file)
    (tmp_path / "b.txt").write_text("a <pip> by night\n")
    said(
        tmp_path,
        {"file_name": "a.png", "text": ["a [trigger]", "pip sits"]},
        {"file_name": "b.png", "text": "a <pip> by day"},
    )
    one, other, bare = read(tmp_path, "a.png", "b.png", "c.png")
    assert one.captions == ("a <pip>", "<pip> sits")
    assert other.captions == ("a <pip> by night",)
    assert len(bare.captions) > 1


def test_a_metadata_file_may_name_a_mask_which_is_no_picture(tmp_path: Path) -> None:
    keep(tmp_path)
    keep(tmp_path, "where.png", np.uint8(255) * (TOP_RED[..., 0] > 0))
    said(tmp_path, {"file_name": "a.png", "text": "a <pip>", "mask": "where.png"})
    (example,) = read(tmp_path, "a.png", "where.png")
    assert example.mask is not None
    assert example.mask[0].min() == 1
    assert example.mask[-1].max() == 0


@pytest.mark.parametrize(
    "line",
    ["{", "[]", {"text": "a"}, {"file_name": "a.png", "text": 3}, {"file_name": "a", "mask": 1}],
)
def test_a_broken_line_of_metadata_is_named(line: object, tmp_path: Path) -> None:
    keep(tmp_path)
    said(tmp_path, {"file_name": "a.png", "text": "a <pip>"}, line)
    with pytest.raises(StoryForgeError, match=r"line 2 of .*metadata\.jsonl"):
        read(tmp_path, "a.png")


def test_a_decompression_bomb_is_one_clear_error(tmp_path: Path) -> None:
    bomb(tmp_path / "a.png")
    with pytest.raises(StoryForgeError, match="more pixels than any photograph"):
        read(tmp_path, "a.png")


@pytest.mark.parametrize(("side", "cell"), [(512, 64), (256, 32), (128, 16)])
def test_buckets_are_whole_cells_of_about_the_area_of_the_square(side: int, cell: int) -> None:
    found = buckets(side, cell)
    assert (side, side) in found
    assert len(found) > 4
    for width, height in found:
        assert width % cell == height % cell == 0
        assert max(width, height) <= 2 * min(width, height)
        assert (height, width) in found
        assert 0.75 < width * height / side**2 < 1.35


def test_a_picture_in_a_bucket_keeps_its_shape(tmp_path: Path) -> None:
    assert bucket((800, 800), 512, 64) == (512, 512)
    assert bucket((1500, 1000), 512, 64) == (640, 384)
    assert bucket((1000, 9000), 512, 64) == (384, 704)
    wide = np.zeros((40, 60, 3), np.uint8)
    wide[:, :6] = 255
    keep(tmp_path, pixels=wide)
    (cut,) = read(tmp_path, "a.png")
    (whole,) = read_examples(tmp_path, ["a.png"], name="pip", kind="character", side=64, cell=8)
    assert cut.pixels.max() < 0.5
    assert whole.pixels[:, :, 0].min() > 0.9
    assert whole.pixels.shape[2] > whole.pixels.shape[1]


def test_a_mirrored_example_is_mirrored_with_its_mask(tmp_path: Path) -> None:
    left = np.zeros((32, 32, 4), np.uint8)
    left[:, :16] = 255
    Image.fromarray(left).save(tmp_path / "a.png")
    (example,) = read(tmp_path, "a.png")
    other = example.mirrored()
    assert other.mask is not None
    assert (other.mask[:, 0].max(), other.mask[:, -1].min()) == (0, 1)
    assert torch.equal(other.mirrored().pixels, example.pixels)
