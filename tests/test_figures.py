"""Where figures are, read off latents that tell it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from cellwise import by_cells
from tinymodel import open_tiny

from storyforge.geometry.box import Box
from storyforge.model.base import open_base
from storyforge.model.figures import ToldFigure
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket import world
from storyforge.pocket.pretrain.latents import shown_of
from storyforge.pocket.pretrain.parts import FIRST, TOLD, unread, weights_folder
from storyforge.sample.whereabouts import told

FOX = world.Look("fox", fur="orange")
SCENE = world.Picture("meadow", "day", "clear", (), 0)
LEFT, RIGHT = world.Subject(FOX, 0.3, 0.9, 0.5), world.Subject(FOX, 0.75, 0.9, 0.5)
LANTERN = world.Subject(world.Thing("lantern", "red"), 0.5, 0.9, 0.2)


@pytest.fixture(scope="module")
def autoencoder() -> PatchAutoencoder:
    """The embedded model's."""
    made: PatchAutoencoder = PatchAutoencoder.from_pretrained(
        weights_folder() / "vae", dtype=torch.float32
    )
    return made


def latents_of(*subjects: world.Subject) -> torch.Tensor:
    """(1, c, 16, 16) that tell what the illustrator knows."""
    told = shown_of(replace(SCENE, subjects=subjects)).told
    return unread(torch.from_numpy(told)[None])


def figures(autoencoder: PatchAutoencoder, *subjects: world.Subject) -> list[ToldFigure]:
    """Who is found where these stand in a meadow."""
    (found,) = autoencoder.figures(latents_of(*subjects))
    return found


def off(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean difference of pictures, of a range of 2."""
    return (one - other).abs().mean().item()


def box_of(mask: np.ndarray) -> Box:
    """Around what is not 0 of (h, w)."""
    rows, columns = np.nonzero(mask.max(1))[0], np.nonzero(mask.max(0))[0]
    high, wide = mask.shape
    return Box(
        x0=columns[0] / wide,
        y0=rows[0] / high,
        x1=(columns[-1] + 1) / wide,
        y1=(rows[-1] + 1) / high,
    )


def near(one: Box, other: Box, by: float) -> bool:
    """Whether no side is further away than that."""
    return bool(np.abs(np.subtract(one.sides(), other.sides())).max() <= by)


@pytest.mark.parametrize("pose", ["", "sitting", "running", "waving"])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_figure_is_where_it_is_drawn_and_its_face_within_its_head(
    autoencoder: PatchAutoencoder, pose: str, mirror: bool
) -> None:
    look = replace(FOX, pose=pose or "standing", mirror=mirror)
    picture = replace(SCENE, subjects=(replace(LEFT, what=look),))
    (found,) = figures(autoencoder, *picture.subjects)
    _, masks = world.draw(picture, 256)
    assert near(found.body, box_of(masks[0]), 1 / 32)
    (known,) = world.faces(picture)
    assert known is not None
    assert found.face is not None
    x0, y0, x1, y1 = found.face.sides()
    left, top, right, bottom = known.head
    assert left - 0.02 <= x0 < known.eyes[0] + 0.03 < known.eyes[2] - 0.03 < x1 <= right + 0.02
    assert top <= y0 < known.eyes[1] + 0.03 < known.eyes[3] - 0.03 < y1 <= bottom + 0.02


def test_every_figure_of_a_picture_is_found_and_things_have_no_face(
    autoencoder: PatchAutoencoder,
) -> None:
    found = figures(autoencoder, LEFT, RIGHT, LANTERN)
    assert [each.face is None for each in found].count(True) == 1
    assert len(found) == 3
    assert figures(autoencoder) == []


def test_who_looks_away_behind_another_has_no_face(autoencoder: PatchAutoencoder) -> None:
    behind = replace(LEFT, x=0.5, size=0.4, ground=0.8)
    before = replace(LEFT, x=0.5, size=0.75, ground=0.98)
    *hidden, seen = figures(autoencoder, behind, before)
    assert seen.face is not None
    assert all(each.face is None for each in hidden)


@torch.no_grad()
def test_a_figure_is_drawn_whole_where_some_of_its_cells_tell_of_the_place(
    autoencoder: PatchAutoencoder,
) -> None:
    whole, place = latents_of(LEFT), latents_of()
    cut = whole.clone()
    cut[:, :, :, 5:] = place[:, :, :, 5:]
    cut[:, :, 12:] = place[:, :, 12:]
    cells = [by_cells(autoencoder.decoder, autoencoder.told(each)) for each in (cut, whole)]
    as_it_is = off(autoencoder.draw(cut), autoencoder.draw(whole))
    assert as_it_is < 0.2 * off(*cells)


@torch.no_grad()
def test_cells_that_tell_of_a_figure_where_none_of_it_is_leave_no_smudge(
    autoencoder: PatchAutoencoder,
) -> None:
    whole = latents_of(LEFT)
    claimed, same = whole.clone(), slice(FIRST + 3, TOLD.stop)
    claimed[0, same, 7:15, 7:10] = whole[0, same, 10, 4][:, None, None]
    rows, columns = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing="ij")
    across, down = 2 * (columns / 16 - LEFT.x) / LEFT.size, 2 * (rows / 16 - 0.9) / LEFT.size + 1
    claimed[0, FIRST + 1, 7:15, 7:10] = across[7:15, 7:10]
    claimed[0, FIRST + 2, 7:15, 7:10] = down[7:15, 7:10]
    claimed[0, FIRST, 7:15, 7:10] = 0.8
    cells = [by_cells(autoencoder.decoder, autoencoder.told(each)) for each in (claimed, whole)]
    as_it_is = off(autoencoder.draw(claimed), autoencoder.draw(whole))
    assert as_it_is < 0.2 * off(*cells)


@torch.no_grad()
def test_a_strip_of_somebody_is_nobody(autoencoder: PatchAutoencoder) -> None:
    both = latents_of(LEFT)
    both[:, :, :, 12] = latents_of(replace(RIGHT, x=0.8))[:, :, :, 12]
    (found,) = autoencoder.figures(both)
    assert len(found) == 1


@torch.no_grad()
@pytest.mark.parametrize("right_first", [False, True])
def test_who_has_the_cells_that_two_cover_stands_before(
    autoencoder: PatchAutoencoder, right_first: bool
) -> None:
    owl = world.Look("owl", fur="brown")
    left, right = replace(LEFT, x=0.4), replace(RIGHT, x=0.6, what=owl)
    back, front = (right, left) if right_first else (left, right)
    found = figures(autoencoder, back, front)
    (alone,) = figures(autoencoder, front)
    assert near(found[-1].body, alone.body, 1 / 32)
    assert len(found) == 2


@torch.no_grad()
def test_what_was_read_is_drawn_by_its_components(autoencoder: PatchAutoencoder) -> None:
    latents = latents_of(LEFT)
    latents[:, :FIRST] = 0.2
    assert torch.equal(
        autoencoder.draw(latents), autoencoder.patches(autoencoder.components(latents))
    )


def test_only_a_base_that_tells_figures_is_asked() -> None:
    assert open_base("pocket", "5eed" * 16).tells_figures
    assert not open_tiny().tells_figures


HEAD = Box(x0=0.2, y0=0.3, x1=0.4, y1=0.5)
FIGURES = [
    ToldFigure(Box(x0=0.1, y0=0.2, x1=0.5, y1=1), HEAD),
    ToldFigure(Box(x0=0.6, y0=0.2, x1=0.9, y1=0.9), None),
    ToldFigure(Box(x0=0.45, y0=0.8, x1=0.55, y1=0.9), None),
]


def test_regions_get_the_figure_that_shares_most_with_them() -> None:
    regions = {
        "right": Box(x0=0.5, y0=0, x1=1, y1=1),
        "left": Box(x0=0, y0=0, x1=0.5, y1=1),
        "sky": Box(x0=0, y0=0, x1=1, y1=0.1),
    }
    found = told(FIGURES, regions)
    assert list(found) == ["right", "left"]
    assert found["left"].head == HEAD
    assert found["right"].body == FIGURES[1].body
    assert found["right"].head is None
    assert all(each.exact for each in found.values())


def test_one_figure_is_the_subject_of_one_region_alone() -> None:
    same = {"a": Box(x0=0, y0=0.1, x1=0.5, y1=1), "b": Box(x0=0, y0=0, x1=0.5, y1=1)}
    assert list(told(FIGURES[:1], same)) == ["a"]
