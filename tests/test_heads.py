"""Heads drawn again, larger."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import panel
from tinymodel import CELLS, open_tiny
from torch import Tensor

from storyforge.geometry.box import Box
from storyforge.geometry.pose import POSES, Stand, head_box
from storyforge.model.base import BaseModel
from storyforge.model.cell_decoder import DRAWN
from storyforge.model.concept import plain
from storyforge.sample.heads import WORTH, alone, fading, window_of, with_heads
from storyforge.sample.sampler import picture
from storyforge.tasks import HeadTask, Method, PanelTask

SIDE = DRAWN * CELLS
HEAD = HeadTask("fox", Box(x0=0.1, y0=0.1, x1=0.4, y1=0.4), "close-up of a fox")


@pytest.fixture(scope="module")
def tiny() -> BaseModel:
    """A base of random weights."""
    return open_tiny()


def over(task: PanelTask, size: tuple[int, int], latents: Tensor) -> Tensor:
    """A white picture."""
    return torch.ones(1, 3, size[1], size[0])


def test_the_picture_changes_inside_the_window_alone(tiny: BaseModel) -> None:
    task, before = replace(panel(tiny, Method()), heads=(HEAD,)), torch.zeros(3, SIDE, SIDE)
    made = with_heads(tiny, task, before, over)
    left, top, side = window_of(HEAD, (SIDE, SIDE))
    assert made[:, top : top + side, left : left + side].amax() == 1
    made[:, top : top + side, left : left + side] = 0
    assert not made.any()


def test_the_edges_of_a_window_do_not_show() -> None:
    faded = fading(64)
    assert faded[32, 32] == 1
    assert faded[0].max() < 0.02
    assert faded.diff().abs().max() < 0.15


def test_a_head_that_is_large_already_stays_as_it_is(tiny: BaseModel) -> None:
    large = replace(HEAD, box=Box(x0=0.05, y0=0.05, x1=0.95, y1=0.95))
    assert 0.9 * WORTH > 1
    task, before = replace(panel(tiny, Method()), heads=(large,)), torch.rand(3, SIDE, SIDE)
    assert torch.equal(with_heads(tiny, task, before, over), before)


def test_a_head_is_drawn_by_its_own_prompt_and_region_over_everything(tiny: BaseModel) -> None:
    method = Method(enhancement=True, isolation=True)
    task = alone(replace(panel(tiny, method), heads=(HEAD,)), HEAD)
    assert task.prompt == HEAD.prompt
    assert [(each.name, each.prompt, each.box.width) for each in task.regions] == [
        ("fox", HEAD.prompt, 1.0)
    ]
    assert task.method == Method()
    assert not task.heads


def test_a_panel_with_heads_differs_from_one_without_only_there(tiny: BaseModel) -> None:
    task = panel(tiny, Method())
    before = picture(tiny, plain(tiny), task).astype(float)
    made = picture(tiny, plain(tiny), replace(task, heads=(HEAD,))).astype(float)
    left, top, side = window_of(HEAD, (SIDE, SIDE))
    changed = np.abs(made - before).max(2)
    assert changed[top : top + side, left : left + side].max() > 0
    changed[top : top + side, left : left + side] = 0
    assert changed.max() == 0


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256)])
@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_windows_are_squares_inside_the_picture(size: tuple[int, int], x: float) -> None:
    box = Box(x0=max(0, x - 0.2), y0=0.0, x1=min(1, x + 0.2), y1=0.3)
    left, top, side = window_of(replace(HEAD, box=box), size)
    assert 0 <= left <= size[0] - side
    assert 0 <= top <= size[1] - side
    assert side > 0


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_the_box_of_a_head_holds_the_head_of_its_figure(pose: str, aspect: float) -> None:
    stand = Stand(Box(x0=0.3, y0=0.2, x1=0.7, y1=0.9), pose)
    body = stand.skeleton(aspect, 1.0)
    assert body is not None
    box = head_box(stand, aspect)
    assert box.x0 * aspect <= body.head.x - body.radius
    assert box.x1 * aspect >= body.head.x + body.radius
    assert box.y0 <= body.head.y - body.radius
    assert box.y1 >= body.head.y + body.radius


def test_what_has_no_pose_has_no_head() -> None:
    with pytest.raises(ValueError, match="no head"):
        head_box(Stand(Box(x0=0, y0=0, x1=1, y1=1), None), 1.0)
