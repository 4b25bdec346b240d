"""Pictures drawn by what is told alone, with clean lines in every size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d

from storyforge.model.cell_decoder import COARSE, DENSE, DRAWN, FINE
from storyforge.model.figures import wholes
from storyforge.model.ink import Grid, Inking, Raster, alone, nearby
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.model.whole_drawing import Shadow, crisp, drawn_whole, shaded
from storyforge.pocket import world
from storyforge.pocket.pretrain.latents import shown_of
from storyforge.pocket.pretrain.parts import weights_folder

FOX = world.Look("fox", fur="orange", garment="shirt", garment_colour="blue")
PICTURE = world.Picture(
    "meadow", "day", "clear", (world.Subject(FOX, x=0.5, ground=0.9, size=0.7),), 0
)


@pytest.fixture(scope="module")
def autoencoder() -> PatchAutoencoder:
    """The embedded model's."""
    made: PatchAutoencoder = PatchAutoencoder.from_pretrained(
        weights_folder() / "vae", dtype=torch.float32
    )
    return made


def told_of_it() -> torch.Tensor:
    """(1, t, 16, 16) what the illustrator knows of `PICTURE`."""
    return torch.from_numpy(shown_of(PICTURE).told)[None]


def test_what_cells_know_counts_by_how_near_they_are() -> None:
    everywhere = torch.ones(1, 3, 3, dtype=torch.bool)
    middle = torch.zeros_like(everywhere)
    middle[0, 1, 1] = True
    known = torch.arange(9.0).reshape(1, 3, 3, 1)
    cells = nearby(known, middle, everywhere)
    points = Raster(4, 1)
    across, down = points.at.unbind(1)
    made = cells.shares(points, 1)[0] @ cells.known[cells.which[0], 0]
    torch.testing.assert_close(made, 4 + across + 3 * down)


@pytest.mark.parametrize("raster", [COARSE, FINE, DENSE])
def test_cells_that_may_not_be_asked_say_nothing(raster: Raster) -> None:
    among = torch.zeros(1, 3, 3, dtype=torch.bool)
    among[0, 1, 1:] = True
    known = torch.randn(1, 3, 3, 2, generator=torch.Generator().manual_seed(0))
    lonely = torch.zeros_like(among)
    lonely[0, 1, 1] = True
    inking = Inking((3, 2), 8, 1, 5, Grid(4, 8))
    for each in (inking.gain, inking.each):
        torch.nn.init.normal_(each.weight)
    seen = torch.randn(1, raster.points**2, 3, generator=torch.Generator().manual_seed(1))
    by_itself = inking.features(seen, alone(known[lonely]), raster)
    masked = inking.features(seen, nearby(known, lonely, lonely), raster)
    torch.testing.assert_close(masked, by_itself)
    with_one = inking.features(seen, nearby(known, lonely, among), raster)
    left, right = raster.at[:, 0] < 0, raster.at[:, 0] > 0
    assert (with_one - by_itself)[0, left].abs().max() < 1e-4
    assert (with_one - by_itself)[0, right].abs().max() > 1e-2


def test_what_all_cells_of_a_picture_know_is_asked_once() -> None:
    everywhere = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(0)) < 0.7
    here = everywhere & (torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(1)) < 0.6)
    known = torch.randn(2, 5, generator=torch.Generator().manual_seed(2))
    once, each = (
        nearby(what, here, everywhere)
        for what in (known, known[:, None, None].expand(-1, 4, 3, -1))
    )
    assert len(once.known) == 2 < len(each.known)
    asked = once.there > 0
    assert torch.equal(once.there, each.there)
    assert torch.equal(once.known[once.which][asked], each.known[each.which][asked])


@torch.no_grad()
def test_a_shadow_lies_where_the_illustrator_puts_it(autoencoder: PatchAutoencoder) -> None:
    decoder = autoencoder.decoder
    (figure,) = wholes(decoder, told_of_it(), decoder.known(told_of_it()))
    ground = torch.full((1, 3, 512, 512), 0.5)
    made = shaded(ground, figure.said, DRAWN, Shadow(*world.shadow()))
    wanted = world.draw(PICTURE, 512)[0], world.draw(replace(PICTURE, subjects=()), 512)[0]
    darker = torch.from_numpy((wanted[1].astype(int) - wanted[0]).sum(2)) > 40
    beside = ~torch.from_numpy(world.layer(PICTURE.subjects[0], 512)[..., 3] > 0)
    shaded_here = (ground - made).sum((0, 1)) > 0.2
    assert (shaded_here & beside).sum() > 500
    both = (shaded_here & darker & beside).sum() / ((shaded_here | darker) & beside).sum()
    assert both > 0.9
    red, green, blue = world.shadow()[2]
    dark = torch.lerp(ground[0, :, 0, 0], torch.tensor([red, green, blue]), world.shadow()[3])
    torch.testing.assert_close(made.amin((0, 2, 3)), dark)


@torch.no_grad()
def test_nothing_of_a_figure_jumps_where_cells_meet(autoencoder: PatchAutoencoder) -> None:
    decoder, told = autoencoder.decoder, told_of_it()
    (figure,) = wholes(decoder, told, decoder.known(told))

    def jumps(among: torch.Tensor | None) -> float:
        """How much shares jump where two cells meet, beside how much they change from point to
        point."""
        shares, _ = decoder.figures.shares(figure.cells, figure.here, DENSE, among)
        made = torch.zeros(16, 16, DENSE.side, DENSE.side)
        made[figure.here[0]] = shares[..., -1]
        both = figure.here[0, :, 1:] & figure.here[0, :, :-1]
        left, right = made[:, :-1][both], made[:, 1:][both]
        before, after = left[..., -1] - left[..., -2], right[..., 1] - right[..., 0]
        jump = right[..., 0] - left[..., -1] - (before + after) / 2
        return float(jump.abs().mean() / before.abs().mean())

    cell_by_cell, blended = jumps(None), jumps(figure.here)
    assert blended < 0.6 * cell_by_cell, (blended, cell_by_cell)


@torch.no_grad()
@pytest.mark.parametrize("pixels", [DRAWN, 2 * DRAWN])
def test_a_picture_in_any_size_shows_what_its_drawing_does(
    autoencoder: PatchAutoencoder, pixels: int
) -> None:
    made = drawn_whole(autoencoder.decoder, told_of_it(), pixels)
    assert made.shape == (1, 3, 16 * pixels, 16 * pixels)
    drawing = torch.from_numpy(world.draw(PICTURE, 256)[0]).permute(2, 0, 1)[None] / 127.5 - 1
    error = avg_pool2d(made, pixels // 16) - drawing
    assert error.square().mean() < 0.02


@torch.no_grad()
def test_a_larger_picture_has_sharper_lines_than_a_smaller_one_enlarged(
    autoencoder: PatchAutoencoder,
) -> None:
    small, large = (drawn_whole(autoencoder.decoder, told_of_it(), n * DRAWN) for n in (1, 2))
    enlarged = torch.nn.functional.interpolate(small, scale_factor=2.0, mode="bilinear")

    def steepest(picture: torch.Tensor) -> torch.Tensor:
        return picture.diff(dim=3).abs().flatten().quantile(0.999)

    assert steepest(large) > 1.2 * steepest(enlarged)


def test_slopes_become_steps_and_plain_colours_and_ramps_stay() -> None:
    slope = torch.linspace(0, 1, 9).clamp(0.2, 0.8)
    row = torch.cat([slope.new_full((20,), 0.2), slope, slope.new_full((20,), 0.8)])
    picture = row.expand(1, 1, 30, -1)
    made = crisp(picture, 3)
    assert made.shape == picture.shape
    assert made.min() >= picture.min()
    assert made.max() <= picture.max()
    assert made.diff(dim=3).max() > 2 * picture.diff(dim=3).max()
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, -1)
    torch.testing.assert_close(crisp(ramp, 6)[..., 20:-20], ramp[..., 20:-20], atol=0.02, rtol=0)
