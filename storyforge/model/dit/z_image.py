"""Z-Image: text and picture in one stream of equal blocks, after a few for each alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, cast

import torch
from diffusers import AutoencoderKL, ZImageTransformer2DModel
from torch import nn

from storyforge.model.dit.door import PATCH, Autoencoder, Transformer, apart, together
from storyforge.model.dit.joint import JointRecorder, JointText, heard, masked, shares_mask

_BLOCKS: Final = ("noise_refiner", "context_refiner", "layers")

_WHOLE: Final = 32
"""Text and picture are each filled up to a multiple of so many tokens, and these are read."""

_SHIFT: Final = {
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
    "base_shift": 0.5,
    "max_shift": 1.15,
}
"""Where the schedule's own configuration does not say it."""


class ZImage:
    """The door of Z-Image."""

    name, pipeline = "Z-Image", "ZImagePipeline"
    thinks, filled = True, False
    autoencoder = AutoencoderKL

    def stock_scale(self, scale: float) -> float:
        """See `Door`."""
        return scale - 1  # counted from the prompt, not from the negative one

    def said(self, scale: float) -> dict[str, bool]:
        """See `Door`."""
        return {}

    def inputs(self, transformer: Transformer) -> dict[str, tuple[str, ...]]:
        """See `Door`."""
        found: dict[str, tuple[str, ...]] = {}
        for part in _BLOCKS:
            for number in range(len(transformer.get_submodule(part))):
                at = f"{part}.{number}.attention"
                found[f"{at}.qkv"] = (f"{at}.to_q", f"{at}.to_k", f"{at}.to_v")
                found[f"{at}.out"] = (f"{at}.to_out.0",)
        return found

    def recorder(self, transformer: Transformer) -> JointRecorder:
        """See `Door`."""
        own = cast(ZImageTransformer2DModel, transformer)
        return JointRecorder([layer.attention for layer in own.layers], _WHOLE)

    def channels(self, transformer: Transformer) -> int:
        """See `Door`."""
        return int(transformer.config.in_channels) * PATCH**2

    def features(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """See `Door`."""
        return states[-2]

    def velocity(
        self,
        transformer: Transformer,
        latents: torch.Tensor,
        noise: torch.Tensor,
        texts: Sequence[JointText],
    ) -> torch.Tensor:
        """See `Door`."""
        own, read = cast(ZImageTransformer2DModel, transformer), heard(texts)
        pictures = list(apart(latents)[:, :, None])
        said = [
            [each.features[row, : each.length(row)] for each in read]
            for row in range(len(pictures))
        ]
        captions = [torch.cat(parts).to(latents) for parts in said]
        clean = 1 - noise.float()  # not in half precision, which knows no steps so near to 1
        if len(read) == 1:
            made = own(pictures, clean, captions, return_dict=False)[0]
        else:
            # Texts of different lengths make masks of their own: one picture after the other.
            made = []
            for row, picture in enumerate(pictures):
                shares = [
                    (len(part), each.share) for part, each in zip(said[row], read, strict=True)
                ]
                with _regional(own, shares, latents.shape[2] * latents.shape[3]):
                    rows = [picture], clean[row : row + 1], [captions[row]]
                    made += own(*rows, return_dict=False)[0]
        # The model says the way from the noise to the picture.
        return -together(torch.stack(list(made))[:, :, 0])

    def shift(self, config: Mapping[str, object], tokens: int, steps: int) -> float:
        """See `Door`."""
        from diffusers.pipelines.z_image.pipeline_z_image import calculate_shift

        numbers = [config.get(name, usual) for name, usual in _SHIFT.items()]
        return float(calculate_shift(tokens, *numbers))

    def unpacked(self, vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
        """See `Door`."""
        made: torch.Tensor = apart(latents) / vae.config.scaling_factor + vae.config.shift_factor
        return made

    def packed(self, vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
        """See `Door`."""
        return together((latents - vae.config.shift_factor) * vae.config.scaling_factor)


@contextmanager
def _regional(
    own: ZImageTransformer2DModel, shares: Sequence[tuple[int, torch.Tensor | None]], cells: int
) -> Iterator[None]:
    """Keep the texts of one picture apart while the block runs; here the picture comes first.

    What fills the texts up is a text of its own, that every cell reads; what fills the picture up
    listens to no other.
    """
    lengths = [length for length, _ in shares]
    total, filling = sum(lengths), -cells % _WHOLE
    wider = [
        (length, share if share is None else nn.functional.pad(share, (0, filling)))
        for length, share in shares
    ]
    count = cells + filling
    bound, free = (
        mask.roll((count, count), (0, 1))
        for mask in shares_mask([*wider, (-total % _WHOLE, None)], count)
    )
    with (
        masked([block.attention for block in own.context_refiner], [free[count:, count:]]),
        masked([block.attention for block in own.layers], [bound, free]),
        _counted_apart(own, lengths),
    ):
        yield


@contextmanager
def _counted_apart(own: ZImageTransformer2DModel, lengths: Sequence[int]) -> Iterator[None]:
    """Let every text count its tokens from the beginning while the block runs, as if it were alone.

    The picture stands where the longest would have it. So no text depends on how many stand before
    it, and many are no further away than one.
    """
    places = own.rope_embedder
    longest = max(lengths)
    texts = [torch.arange(1, 1 + length) for length in lengths]
    filling = torch.arange(longest + 1, longest + 1 - sum(lengths) % -_WHOLE)
    counted = torch.cat([*texts, filling])

    def apart_places(ids: torch.Tensor) -> torch.Tensor:
        """As `rope_embedder`, of ids (n, 3): place in the text, row and column."""
        ids = ids.clone()
        if int(ids[0, 0]) == 1:  # the text; the picture comes after it
            ids[: len(counted), 0] = counted.to(ids)  # diffusers makes some more, and reads none
        else:
            # What fills the picture up stands at 0 and stays there.
            ids[ids[:, 0] > 0, 0] = longest - longest % -_WHOLE + 1
        made: torch.Tensor = places(ids)
        return made

    own.rope_embedder = apart_places
    try:
        yield
    finally:
        own.rope_embedder = places
