"""The colours of patches."""

from __future__ import annotations

import torch

from storyforge.model.palette import COLOURS, palettes

RED, BLUE = torch.tensor([0.8, -0.6, -0.5]), torch.tensor([-0.7, -0.4, 0.9])


def test_both_colours_of_a_striped_patch_are_told() -> None:
    picture = RED.reshape(1, 3, 1, 1).repeat(1, 1, 8, 16)
    picture[..., 1::4] = BLUE.reshape(3, 1, 1)
    told = palettes(picture, 8).unflatten(1, (COLOURS, 3))
    assert told.shape == (1, COLOURS, 3, 1, 2)
    for colour in (RED, BLUE):
        apart = (told - colour.reshape(3, 1, 1)).abs().amax(2)
        # Along two axes at least one end is this colour.
        assert ((apart < 0.02).sum(1) >= 2).all()


def test_a_patch_of_one_colour_has_only_that() -> None:
    told = palettes(BLUE.reshape(1, 3, 1, 1).repeat(1, 1, 8, 8), 8).reshape(COLOURS, 3)
    torch.testing.assert_close(told, BLUE.repeat(COLOURS, 1))
