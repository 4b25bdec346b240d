"""Pictures made large enough for print, plainly or by a network."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bookmaking import sample
from PIL import Image

from storyforge.book.leaf import Book
from storyforge.book.upscale import PRINT_PPI, fitted, inches, save, widths, with_art
from storyforge.errors import EnvironmentProblem
from storyforge.executor import silent
from storyforge.provenance.xmp import DIGITAL_SOURCE, XMP_CHUNK
from storyforge.sample.upscaler import (
    Upscaler,
    enlarge_until,
    enlarged,
    network_weights,
    open_upscaler,
)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return sample(tmp_path_factory.mktemp("sample"))


def test_enlarged_to_its_width_every_picture_has_300_pixels_an_inch(book: Book) -> None:
    wanted = widths(book)
    for leaf in book.leaves:
        for item in leaf.pictures:
            assert wanted[item.art.panel] / inches(item) >= PRINT_PPI
    assert max(wanted.values()) == math.ceil(
        PRINT_PPI * max(inches(item) for leaf in book.leaves for item in leaf.pictures)
    )


def test_only_the_files_of_the_pictures_change(book: Book, tmp_path: Path) -> None:
    first = next(item.art for leaf in book.leaves for item in leaf.pictures)
    larger = type(first)(first.panel, tmp_path / "a.png", 3000, 3000)
    changed = with_art(book, {first.panel: larger})
    arts = {item.art.panel: item.art for leaf in changed.leaves for item in leaf.pictures}
    assert arts[first.panel] == larger
    assert first.panel not in widths(changed)
    assert len(widths(changed)) == len(widths(book)) - 1
    assert with_art(changed, {first.panel: first}) == book


def test_an_enlarged_picture_is_the_picture_and_says_what_made_it(tmp_path: Path) -> None:
    save(fitted(Image.new("RGB", (20, 10), (200, 100, 50)), 130), tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as made:
        made.load()
        assert made.size == (130, 65)
        assert made.getpixel((64, 32)) == (200, 100, 50)
        assert DIGITAL_SOURCE in made.info[XMP_CHUNK]


def twice(pixels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(pixels, scale_factor=2, mode="nearest")


def test_tiles_leave_no_seams() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 270, 3), dtype=np.uint8)
    made = enlarged(Image.fromarray(pixels), twice, 2)
    assert np.array_equal(np.asarray(made), pixels.repeat(2, axis=0).repeat(2, axis=1))


def test_a_network_is_used_until_the_picture_is_wide_enough() -> None:
    seen: list[int] = []

    def network(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels.shape[3])
        return twice(pixels)

    made = enlarge_until(Image.new("RGB", (16, 8)), Upscaler(network, 2), 60, silent)
    assert seen == [16, 32]
    assert made.size == (64, 32)


def test_without_spandrel_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(EnvironmentProblem, match="spandrel") as problem:
        open_upscaler(tmp_path / "m.pth")
    assert "pip install spandrel" in (problem.value.hint or "")


def test_an_esrgan_file_enlarges_four_times(tmp_path: Path) -> None:
    pytest.importorskip("spandrel", exc_type=ImportError)
    from safetensors.torch import save_file
    from spandrel.architectures.ESRGAN.__arch.RRDB import RRDBNet

    torch.manual_seed(0)
    net = RRDBNet(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4, plus=False)
    save_file(net.state_dict(), tmp_path / "tiny.safetensors")
    upscaler = open_upscaler(tmp_path / "tiny.safetensors")
    made = enlarge_until(Image.new("RGB", (12, 8), (9, 99, 199)), upscaler, 48, silent)
    assert made.size == (48, 32)


def test_a_file_that_is_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(b"not a model")
    with pytest.raises(EnvironmentProblem, match=r"m\.pth"):
        network_weights(tmp_path / "m.pth")


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict", None])
def test_weights_are_found_in_what_a_trainer_wrapped_them_in(
    wrapper: str | None, tmp_path: Path
) -> None:
    weights = {"body.0.weight": torch.ones(2), "body.0.bias": torch.zeros(2)}
    kept = weights if wrapper is None else {wrapper: weights, "step": 5}
    torch.save(kept, tmp_path / "m.pth")
    read = network_weights(tmp_path / "m.pth")
    assert {name: weight.tolist() for name, weight in read.items()} == {
        name: weight.tolist() for name, weight in weights.items()
    }


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("old", [False, True])
def test_an_upscaler_that_would_run_code_is_refused_and_runs_none(
    old: bool, tmp_path: Path
) -> None:
    sung = tmp_path / "sung"
    torch.save({"a": Canary(sung)}, tmp_path / "m.pth", _use_new_zipfile_serialization=not old)
    with pytest.raises(EnvironmentProblem, match=r"m\.pth"):
        network_weights(tmp_path / "m.pth")
    assert not sung.exists()
