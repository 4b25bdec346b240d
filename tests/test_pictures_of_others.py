"""Pictures, masks, captions and prompts as other programs have them: read, or named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from storyforge.errors import StoryForgeError
from storyforge.pictures import on_paper, open_picture, picture_names, sources
from storyforge.sample.sampler import _from_file, pixels_of
from storyforge.story.story import check


@pytest.mark.parametrize(("grey", "wanted"), [(49000, 0.748), (20000, 0.305), (65535, 1.0), (0, 0)])
def test_greys_of_sixteen_bits_keep_their_brightness(
    tmp_path: Path, grey: int, wanted: float
) -> None:
    Image.fromarray(np.full((4, 4), grey, np.uint16)).save(tmp_path / "a.png")
    pixels = np.asarray(on_paper(open_picture(tmp_path / "a.png"))) / 255
    assert pixels == pytest.approx(wanted, abs=0.002)


def test_a_picture_to_draw_over_stands_upright_and_on_white(tmp_path: Path) -> None:
    photo = Image.new("RGB", (8, 8), "red")
    photo.paste("blue", (0, 4, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    photo.save(tmp_path / "photo.png", exif=exif)
    made = _from_file(tmp_path / "photo.png", (8, 8))
    assert made[0, 2, 0].mean() == 1
    assert made[0, 0, 7].mean() == 1
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert _from_file(tmp_path / "clear.png", (8, 8)).min() == 1


def test_masks_of_onetrainer_and_captions_of_kohya_are_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "01.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "01-masklabel.png")
    (tmp_path / "01.caption").write_text("a fox in the snow")
    assert picture_names(tmp_path) == ("01.png",)
    (found,) = sources(tmp_path, ["01.png", "01-masklabel.png"])
    assert (found.mask, found.written[0].words) == ("01-masklabel.png", "a fox in the snow")


def test_storyforges_own_mask_and_caption_go_before_those_of_others(tmp_path: Path) -> None:
    for name in ("01.png", "01-mask.png", "01-masklabel.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    (tmp_path / "01.txt").write_text("mine")
    (tmp_path / "01.caption").write_text("theirs")
    (found,) = sources(tmp_path, ["01.png"])
    assert (found.mask, found.written[0].words) == ("01-mask.png", "mine")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_picture_that_is_not_finite_is_never_kept(bad: float) -> None:
    picture = torch.zeros(3, 2, 2)
    picture[1, 0, 1] = bad
    with pytest.raises(StoryForgeError, match="numbers that are none"):
        pixels_of(picture)


def findings(folder: Path, prompt: str, more: str = "") -> list[str]:
    story = folder / "story.yaml"
    story.write_text(
        "storyforge: 1\ntitle: A\npages:\n  - panels:\n"
        f"      - {{id: one, decorative: true, {more}prompt: {prompt}}}\n"
    )
    return [f"{f.line}:{f.column} {f.code} {f.message}" for f in check(story)]


@pytest.mark.parametrize(
    ("prompt", "what"),
    [
        ("a field <lora:flat:0.8>", "<lora:flat:0.8>"),
        ("a field BREAK a tree", "BREAK"),
        ('"a {red|blue} fox"', "{red|blue}"),
        ("a __colour__ fox", "__colour__"),
        ('"a [cat:dog:0.5]"', "[cat:dog:0.5]"),
        ('"a [cat|dog]"', "[cat|dog]"),
        ("""'("a fox", "a cat").blend(1, 1)'""", ").blend("),
        ("a embedding:pip in the snow", "embedding:pip"),
    ],
)
def test_other_programs_syntax_is_named_at_its_place(
    tmp_path: Path, prompt: str, what: str
) -> None:
    (found,) = findings(tmp_path, prompt)
    assert f"SF434 `{what}` is another program's" in found
    assert found.startswith("5:")


@pytest.mark.parametrize("prompt", ['"a (red:1.3) fox"', '"a [red] ((fox))"', '"at 8:30, a tree"'])
def test_weights_are_read_and_named_by_nobody(tmp_path: Path, prompt: str) -> None:
    assert findings(tmp_path, prompt) == []


def test_a_black_mask_is_found_by_check(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "m.png")
    (found,) = findings(tmp_path, "a field", "regions: {left: {mask: m.png}}, ")
    assert "SF202 the mask `m.png` is black all over" in found
    Image.new("L", (8, 8), 255).save(tmp_path / "m.png")
    assert findings(tmp_path, "a field", "regions: {left: {mask: m.png}}, ") == []


def test_colours_are_those_that_a_pictures_profile_means(tmp_path: Path) -> None:
    """In a profile whose red and blue change places, what is written as red is blue."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    swapped = bytearray(srgb.tobytes())
    tags = {bytes(swapped[at : at + 4]): at for at in range(132, 132 + 12 * swapped[131], 12)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    swapped[red + 4 : red + 12], swapped[blue + 4 : blue + 12] = (
        swapped[blue + 4 : blue + 12],
        swapped[red + 4 : red + 12],
    )
    name = (
        bytes(swapped).replace(b"s\0R\0G\0B", b"o\0t\0h\0r").replace(b"sRGB built", b"othr built")
    )
    picture = Image.new("RGB", (4, 4), (255, 0, 0))
    picture.save(tmp_path / "own.png", icc_profile=name)
    picture.save(tmp_path / "usual.png", icc_profile=srgb.tobytes())
    made = np.asarray(on_paper(open_picture(tmp_path / "own.png")))[0, 0]
    assert made[2] > 240 > 10 > made[0]
    assert np.asarray(on_paper(open_picture(tmp_path / "usual.png")))[0, 0].tolist() == [255, 0, 0]


def concept_at(folder: Path) -> None:
    """A story that shows one concept, whose folder is `img`."""
    (folder / "img").mkdir()
    (folder / "img" / "concept.yaml").write_text("kind: character\nclass: fox\n")
    (folder / "story.yaml").write_text(
        "storyforge: 1\ntitle: A\ncharacters: {pip: img}\n"
        "pages:\n  - panels: [{id: one, decorative: true, "
        "regions: {a: {at: left, concept: pip}}}]\n"
    )


def test_folders_of_kohyas_are_named(tmp_path: Path) -> None:
    concept_at(tmp_path)
    inner = tmp_path / "img" / "10_pip fox"
    inner.mkdir()
    Image.new("RGB", (8, 8)).save(inner / "01.png")
    (found,) = [each for each in check(tmp_path / "story.yaml") if each.code == "SF303"]
    assert "as kohya has them: move what is in `10_pip fox` here" in found.message


@pytest.mark.parametrize(
    ("size", "mask", "warned"),
    [("", (40, 40), False), ("", (10, 40), True), ("size: [64, 32]\n", (200, 100), False)],
)
def test_a_mask_of_another_shape_than_the_picture_is_told(
    tmp_path: Path, size: str, mask: tuple[int, int], warned: bool
) -> None:
    Image.new("L", mask, 255).save(tmp_path / "m.png")
    (tmp_path / "story.yaml").write_text(
        f"storyforge: 1\ntitle: A\n{size}pages:\n"
        "  - panels: [{id: one, decorative: true, regions: {a: {mask: m.png, prompt: a fox}}}]\n"
    )
    found = [each for each in check(tmp_path / "story.yaml") if each.code == "SF438"]
    assert bool(found) is warned
    assert not found or found[0].message.startswith("the mask `m.png` is 10 x 40")
