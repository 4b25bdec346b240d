"""FLUX.2-klein: text and picture in two streams that attend together, then in one.

In the single blocks queries, keys, values and the first half of the feed-forward are one linear
layer; a concept changes it as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

from storyforge.model.dit.door import Autoencoder, Transformer, apart, together
from storyforge.model.dit.joint import JointRecorder, JointText, heard, masked, shares_mask

_QUARTERS = (1, 2, 3)
"""After which quarters of the text encoder's layers its states are read, side by side."""


class Flux2:
    """The door of FLUX.2-klein."""

    name, pipeline = "FLUX.2-klein", "Flux2KleinPipeline"
    thinks, filled = False, True
    autoencoder = AutoencoderKLFlux2

    def stock_scale(self, scale: float) -> float:
        """See `Door`."""
        return scale

    def said(self, scale: float) -> dict[str, bool]:
        """See `Door`."""
        return {"is_distilled": scale == 1}

    def inputs(self, transformer: Transformer) -> dict[str, tuple[str, ...]]:
        """See `Door`."""
        own = cast(Flux2Transformer2DModel, transformer)
        found: dict[str, tuple[str, ...]] = {}
        for number in range(len(own.transformer_blocks)):
            at = f"transformer_blocks.{number}.attn"
            found[f"{at}.qkv"] = (f"{at}.to_q", f"{at}.to_k", f"{at}.to_v")
            found[f"{at}.added_qkv"] = tuple(f"{at}.add_{part}_proj" for part in "qkv")
            found[f"{at}.out"] = (f"{at}.to_out.0",)
            found[f"{at}.added_out"] = (f"{at}.to_add_out",)
        for number in range(len(own.single_transformer_blocks)):
            at = f"single_transformer_blocks.{number}.attn"
            found[f"{at}.qkv"] = (f"{at}.to_qkv_mlp_proj",)
            found[f"{at}.out"] = (f"{at}.to_out",)
        return found

    def recorder(self, transformer: Transformer) -> JointRecorder:
        """See `Door`; of the single blocks, where one layer asks and offers for both."""
        own = cast(Flux2Transformer2DModel, transformer)
        layers = [block.attn for block in own.single_transformer_blocks]
        return JointRecorder(layers)

    def channels(self, transformer: Transformer) -> int:
        """See `Door`."""
        return int(transformer.config.in_channels)

    def features(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """See `Door`."""
        layers = len(states) - 1
        return torch.cat([states[layers * quarter // 4] for quarter in _QUARTERS], -1)

    def velocity(
        self,
        transformer: Transformer,
        latents: torch.Tensor,
        noise: torch.Tensor,
        texts: Sequence[JointText],
    ) -> torch.Tensor:
        """See `Door`."""
        own, read = cast(Flux2Transformer2DModel, transformer), heard(texts)
        n, _, height, width = latents.shape
        blocks = (*own.transformer_blocks, *own.single_transformer_blocks)
        lengths = [each.features.shape[1] for each in read]
        masks: tuple[torch.Tensor, ...] = ()
        if len(read) > 1:
            shares = [(length, each.share) for length, each in zip(lengths, read, strict=True)]
            masks = shares_mask(shares, height * width)
        with masked([block.attn for block in blocks] if masks else [], masks):
            made = own(
                hidden_states=latents.flatten(2).transpose(1, 2),
                encoder_hidden_states=torch.cat([each.features for each in read], 1).to(latents),
                timestep=noise.to(latents),
                # Every text counts its tokens from the beginning, as if it were alone.
                txt_ids=torch.cat([_places(0, length) for length in lengths]).to(latents.device),
                img_ids=_cells(height, width).to(latents.device),
                return_dict=False,
            )[0]
        velocity: torch.Tensor = made.transpose(1, 2).reshape(n, -1, height, width)
        return velocity

    def shift(self, config: Mapping[str, object], tokens: int, steps: int) -> float:
        """See `Door`."""
        from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

        return float(compute_empirical_mu(image_seq_len=tokens, num_steps=steps))

    def unpacked(self, vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
        """See `Door`."""
        mean, spread = _statistics(vae, latents)
        return apart(latents * spread + mean)

    def packed(self, vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
        """See `Door`."""
        mean, spread = _statistics(vae, latents)
        return (together(latents) - mean) / spread


def _places(first: int, length: int) -> torch.Tensor:
    """(length, 4): time, row, column and place of a text's tokens."""
    places = torch.zeros(length, 4)
    places[:, 3] = torch.arange(first, first + length)
    return places


def _cells(height: int, width: int) -> torch.Tensor:
    """(h · w, 4): the same of a picture's."""
    return torch.cartesian_prod(
        torch.arange(1), torch.arange(height), torch.arange(width), torch.arange(1)
    ).float()


def _statistics(vae: Autoencoder, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread of a token's latents, as the autoencoder's batch norm knows them."""
    own = cast(AutoencoderKLFlux2, vae)
    spread = (own.bn.running_var + own.config.batch_norm_eps).sqrt()
    mean, spread = (each.view(1, -1, 1, 1).to(latents) for each in (own.bn.running_mean, spread))
    return mean, spread
