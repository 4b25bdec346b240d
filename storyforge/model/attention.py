"""The one attention core: layer-wise text, and regions that read their own prompt.

Every attention module of the U-Net asks one shared `Reader` what to read. Cross-attention site k
reads group k of the text. Inside region i the output is that of region i's own prompt (Mix-of-Show
§3.4): `h = (1 − ρ) h_global + ρ Σ wᵢ hᵢ / Σ wᵢ` over the regions that cover a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention

from storyforge.model.base import BaseModel

Heads = tuple[torch.Tensor, torch.Tensor]


@dataclass(slots=True)
class RegionText:
    """What one region reads.

    text     (G, b, T, d)  its features, batch as in the global text
    weights  cells of a level -> (cells,) weight in [0, ∞), 0 outside the region
    """

    text: torch.Tensor
    weights: dict[int, torch.Tensor]


@dataclass(slots=True)
class Reader:
    """What the attention modules read in the next U-Net calls.

    text     (G, b, T, d)  the global text
    regions  may be empty
    blend    ρ in [0, 1]
    keep     keep keys and values of the text between calls; see `keeping`
    """

    text: torch.Tensor
    regions: list[RegionText] = field(default_factory=list)
    blend: float = 1.0
    keep: bool = field(default=False, init=False)
    kept: dict[tuple[int, int], Heads] = field(default_factory=dict, init=False)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Compute keys and values once while the block runs; the weights must not change in it."""
        self.keep = True
        try:
            yield
        finally:
            self.keep = False
            self.kept.clear()

    def keys_and_values(self, attn: Attention, group: int, region: int) -> Heads:
        """K and V, each (b, h, T, w), of the global text (region −1) or of a region at a site."""
        if found := self.kept.get((group, region)):
            return found
        text = self.text if region < 0 else self.regions[region].text
        made = _heads(attn, attn.to_k(text[group])), _heads(attn, attn.to_v(text[group]))
        if self.keep:
            self.kept[group, region] = made
        return made


def _heads(attn: Attention, x: torch.Tensor) -> torch.Tensor:
    b, n, d = x.shape
    return x.view(b, n, attn.heads, d // attn.heads).transpose(1, 2)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    out = F.scaled_dot_product_attention(q, k, v)
    b, h, n, w = out.shape
    return out.transpose(1, 2).reshape(b, n, h * w)


def _output(attn: Attention, made: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = attn.to_out[1](attn.to_out[0](made))
    return result


class _SelfProcessor:
    """Plain self-attention."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(b, n, d) to (b, n, d)."""
        x = hidden_states
        made = _attend(
            _heads(attn, attn.to_q(x)), _heads(attn, attn.to_k(x)), _heads(attn, attn.to_v(x))
        )
        return _output(attn, made)


class _CrossProcessor:
    """Cross-attention of one site; reads its group of the reader's text."""

    def __init__(self, reader: Reader, group: int) -> None:
        self.reader, self.group = reader, group

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(b, n, d) to (b, n, d)."""
        q = _heads(attn, attn.to_q(hidden_states))
        made = _attend(q, *self.reader.keys_and_values(attn, self.group, -1))
        if self.reader.regions:
            made = self._regional(attn, q, made)
        return _output(attn, made)

    def _regional(self, attn: Attention, q: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
        cells = plain.shape[1]
        total = torch.stack([r.weights[cells] for r in self.reader.regions]).sum(0)
        result = plain.clone()
        covered = total > 0
        result[:, covered] = (1 - self.reader.blend) * plain[:, covered]
        for index, region in enumerate(self.reader.regions):
            weight = region.weights[cells]
            inside = weight.nonzero().flatten()
            own = _attend(q[:, :, inside], *self.reader.keys_and_values(attn, self.group, index))
            share = self.reader.blend * (weight / total.clamp(min=1e-12))[inside]
            result[:, inside] += share[None, :, None].to(own) * own
        return result


@contextmanager
def reading(base: BaseModel, reader: Reader) -> Iterator[None]:
    """Let every attention module of the U-Net read `reader` while the block runs."""
    before = dict(base.unet.attn_processors)
    groups = {f"{name}.processor": k for k, name in enumerate(base.family.cross_sites)}
    base.unet.set_attn_processor(
        {
            name: _CrossProcessor(reader, groups[name]) if name in groups else _SelfProcessor()
            for name in before
        }
    )
    try:
        yield
    finally:
        base.unet.set_attn_processor(before)


def levels(base: BaseModel, height: int, width: int) -> list[tuple[int, int]]:
    """(rows, columns) of the latent grid at each level of the U-Net, finest first."""
    sizes = [(height, width)]
    for _ in base.unet.config.block_out_channels[1:]:
        rows, columns = sizes[-1]
        sizes.append(((rows + 1) // 2, (columns + 1) // 2))
    return sizes


def predict(
    base: BaseModel, latents: torch.Tensor, timesteps: torch.Tensor, text: torch.Tensor
) -> torch.Tensor:
    """One U-Net call inside `reading`; `text` only satisfies the signature of the U-Net."""
    made: torch.Tensor = base.unet(latents, timesteps, text[0]).sample
    return made
