"""Figures are learnt one by one, each before nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("skia")

from untrained import save_autoencoder

from storyforge.model.cell_decoder import DRAWN, POINTS
from storyforge.pocket import world
from storyforge.pocket.pretrain import figures
from storyforge.pocket.pretrain.fidelity import CELLS
from storyforge.pocket.pretrain.figures import Drawn, Portraying, further, one_by_one, portraits
from storyforge.pocket.pretrain.latents import autoencoder_of
from storyforge.pocket.pretrain.run import Job, Team
from storyforge.pocket.pretrain.shapes import written

ALONE = Team(0, 1)
PICTURES = one_by_one(np.random.default_rng(3), 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an autoencoder whose code has random directions."""
    place = tmp_path_factory.mktemp("pocket")
    save_autoencoder(place)
    return place


def job(folder: Path) -> Job:
    """A moment of training on two figures."""
    return Job("figures", folder, 0.01, 0.0, "cpu", 1, 2, 2, 0)


def test_everybody_of_a_picture_comes_alone() -> None:
    rng = np.random.default_rng(5)
    whole = [world.imagine(np.random.default_rng(5))]
    alone = one_by_one(rng, len(whole[0].subjects))
    assert tuple(each.subjects[0] for each in alone) == whole[0].subjects
    assert all(len(each.subjects) == 1 for each in alone)


def test_cells_tell_of_a_figure_wherever_it_is_drawn() -> None:
    made = portraits(PICTURES)
    told = made.told
    for index, picture in enumerate(PICTURES):
        figure, place = map(torch.from_numpy, world.told_of(picture))
        kind = world.PLACE_OF["kind"]
        tells = (told[index, kind] == figure[kind, None, None]).all(0)
        assert ((told[index, kind] == place[kind, None, None]).all(0) | tells).all()
        opaque = made.pixels[index, ..., 3].mean((2, 3))
        assert tells[opaque > 0.25].all()
        assert not tells[opaque == 0].all()
    wider = portraits(PICTURES, [2] * len(PICTURES)).told
    covered = world.PLACE_OF["covered"]
    assert torch.equal(wider[:, covered], told[:, covered])
    assert (wider != told).any(1).sum((1, 2)).min() > 4


def test_points_lie_on_the_pixels_that_they_are_to_draw() -> None:
    pixels = torch.arange(float(CELLS * DRAWN)).repeat(CELLS * DRAWN, 1)[None, ..., None]
    cells = figures.in_cells(pixels)
    for right in (0, 3, 7):
        raster = further(right, 0)
        across = written(cells, raster)[0, 0, 2, 0, :, 0]
        at = (raster.at[: POINTS.points, 0] + 0.5) * DRAWN
        torch.testing.assert_close(across - 2 * DRAWN + 0.5, at)


def test_nothing_lacks_where_a_figure_is_drawn_as_it_is_and_much_where_it_is_not() -> None:
    made = portraits(PICTURES[:1])
    pixels, counts = (each.flatten(0, 2) for each in made[1:])
    opacity = pixels[..., 3:]
    wanted = 2 * pixels[..., :3] - opacity
    colours = torch.where(opacity > 0, wanted / opacity.clamp(min=1e-6), 0)
    right = Drawn(colours, opacity, wanted, opacity, counts)
    # Of edges, which are neither, what is least is not nothing.
    least = figures.lack(right)
    assert least < 0.02
    for wrong in (right._replace(colours=-colours), right._replace(cover=1 - opacity)):
        assert figures.lack(wrong) > least + 0.05


def test_figures_learn_and_no_place_does(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "vae", tmp_path / "vae")
    before = autoencoder_of(tmp_path).state_dict()
    with torch.random.fork_rng():
        learning = Portraying(job(tmp_path), ALONE)
        losses = [learning.learn(1.0) for _ in range(4)]
        learning.keep()
        steps = learning.trained.step
        figures.train_figures(job(tmp_path), ALONE)
        assert Portraying(job(tmp_path), ALONE).trained.step > steps
    assert all(np.isfinite(losses))
    made = autoencoder_of(tmp_path).state_dict()
    changed = {
        name for name, value in made.items() if not torch.allclose(value, before[name], atol=1e-3)
    }
    assert changed
    assert all(name.startswith("decoder.figures.") for name in changed)
    assert '"figures"' in (tmp_path / "figures.jsonl").read_text()
