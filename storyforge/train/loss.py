"""What a step is judged by: the error of the prediction, and where the concept's words look."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from storyforge.model.attention import levels
from storyforge.model.attention_maps import AttentionRecorder
from storyforge.model.card import WORDS
from storyforge.model.family import token_table
from storyforge.model.tokens import token_ids


def picture_losses(made: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(b,) mean square error over the weighted cells *and* all channels, picture by picture.

    made, wanted  (b, c, h, w)
    weights       (b, 1, h, w) in [0, 1]
    """
    error = (made.float() - wanted.float()).square().mean(1, keepdim=True)
    return (error * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp(min=1e-6)


def masked_loss(made: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mean of `picture_losses`: a small mask weighs as much as a large one."""
    return picture_losses(made, wanted, weights).mean()


def outside(
    recorder: AttentionRecorder,
    name: str,
    prompts: Sequence[str],
    masks: torch.Tensor,
    pointed: Sequence[bool],
) -> torch.Tensor:
    """How much of the gaze of a concept's words lies outside its masks, from 0 to 1.

    Mean over sites, words, pictures.

    name     of the concept
    prompts  of the b pictures
    masks    (b, 1, h, w) in the cells of the latents
    pointed  which pictures have a mask and count
    """
    first = len(token_table(recorder.base.text_encoder))
    places = [token_ids(recorder.base, prompt, [name]) for prompt in prompts]
    rows = [i for i, ids in enumerate(places) if pointed[i] and first in ids]
    if not rows:
        return masks.new_zeros(())
    shapes = {r * c: (r, c) for r, c in levels(recorder.base, *masks.shape[-2:])}
    starts = [places[row].index(first) for row in rows]
    words = torch.tensor([[start + k for k in range(WORDS)] for start in starts])
    total = []
    for seen in recorder.maps(rows, words.to(masks.device)):
        inside = F.adaptive_max_pool2d(masks[rows], shapes[seen.shape[1]]).flatten(1)
        total.append((seen * (1 - inside)[..., None]).mean())
    return torch.stack(total).mean()
