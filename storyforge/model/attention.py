"""The one attention core: layer-wise text, and regions that read their own prompt.

Every attention module of the U-Net asks one shared `AttentionContext` what to read. A
cross-attention site reads its own group of the text. Inside region i the output is that of region
i's own prompt (Mix-of-Show §3.4): `h = (1 − ρ Σ sᵢ) h_global + ρ Σ sᵢ hᵢ` with the shares sᵢ of
regions in a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention

from storyforge.model.attention_maps import split_heads
from storyforge.model.base import BaseModel
from storyforge.model.dit.flow import TIMES
from storyforge.model.dit.joint import JointText
from storyforge.model.tokens import PromptEmbeds

Heads = tuple[torch.Tensor, torch.Tensor]
"""K and V, each (b, h, T, w)."""

Kernel = Literal["loop", "batched"]

_WHOLE = 1 - 1e-6
"""Shares that add up to this much leave nothing to the global text."""


@dataclass(frozen=True, slots=True)
class Site:
    """A cross-attention module: which one of the U-Net's it is, and which group it reads."""

    index: int
    group: int


@dataclass(slots=True)
class RegionText:
    """What one region reads.

    text            (G, b, T, d)  its features, one for each of `rows`
    region_weights  cells of a level -> (cells,) in [0, 1], 0 outside the region; at most 1 in all
                    regions
    rows            the rows of the batch that have this region; None for all
    heads           site -> keys and values that were made elsewhere; the others are made of `text`
    """

    text: torch.Tensor
    region_weights: dict[int, torch.Tensor]
    rows: tuple[int, ...] | None = None
    heads: dict[int, Heads] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Field:
    """Who reads what on the cells of one level: the global text first, then the regions.

    rest         (b, cells, 1)  what is left to the global text
    query_index  (n,) cells that ask, those of the same text one behind the other
    counts       how many of them ask each text
    layers       (cells,) which asker answers for each cell, and (b, cells, 1) for how much of it;
                 None for all of it. The layers of a cell add up to it; one is enough without
                 overlaps
    """

    rest: torch.Tensor
    query_index: torch.Tensor
    counts: list[int]
    layers: list[tuple[torch.Tensor, torch.Tensor | None]]


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that see the same: those that ask, and those that they may read."""

    queries: torch.Tensor
    keys: torch.Tensor


@dataclass(slots=True)
class AttentionContext:
    """What the attention modules read in the next U-Net calls.

    text       the global text, of b prompts
    regions    may be empty
    blend      ρ in [0, 1]
    heads      site -> keys and values of the global text that were made elsewhere
    isolation  cells of a level -> groups that see the same in self-attention; empty for all of it
    kernel     how regions are computed; None for what suits the device
    keep       keep keys and values of the text between calls; see `keeping`
    """

    text: PromptEmbeds
    regions: list[RegionText] = field(default_factory=list)
    blend: float = 1.0
    heads: dict[int, Heads] = field(default_factory=dict)
    isolation: dict[int, list[Group]] = field(default_factory=dict)
    kernel: Kernel | None = None
    keep: bool = field(default=False, init=False)
    kept: dict[tuple[int, int], Heads] = field(default_factory=dict, init=False)
    fields: dict[int, _Field] = field(default_factory=dict, init=False)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Compute keys and values once while the block runs; the weights must not change in it."""
        self.keep = True
        try:
            yield
        finally:
            self.keep = False
            self.kept.clear()

    def keys_and_values(self, attn: Attention, site: Site, region: int) -> Heads:
        """K and V, each (b, h, T, w), of the global text (region −1) or of a region at a site."""
        if found := self.kept.get((site.index, region)):
            return found
        source = self.regions[region] if region >= 0 else self
        features = self.text.features if region < 0 else self.regions[region].text
        made = source.heads.get(site.index) or _text_heads(attn, features[site.group])
        # The text is the same in every step, and so are its keys and values.
        if self.keep:
            self.kept[site.index, region] = made
        return made

    def field(self, cells: int) -> _Field:
        """The regions on the cells of a level; made once."""
        if cells not in self.fields:
            features = self.text.features
            total = torch.zeros(len(self.text), cells, device=features.device)
            parts = torch.zeros(1 + len(self.regions), *total.shape, device=features.device)
            for part, region in zip(parts[1:], self.regions, strict=True):
                share = region.region_weights[cells].to(total)
                total[_rows(region)] += share
                part[_rows(region)] = self.blend * share
            parts[0] = 1 - self.blend * torch.where(total > _WHOLE, 1.0, total)
            self.fields[cells] = _field_of(parts.to(features))
        return self.fields[cells]

    def positive(self) -> AttentionContext:
        """The half of the batch that reads the prompts, not the negative ones."""
        half = len(self.text) // 2

        def later(heads: dict[int, Heads], first: int) -> dict[int, Heads]:
            """Keys and values of the later rows."""
            return {site: (k[first:], v[first:]) for site, (k, v) in heads.items()}

        regions = []
        for region in self.regions:
            first = region.text.shape[1] // 2
            rows = region.rows and tuple(row - half for row in region.rows[first:])
            heads = later(region.heads, first)
            regions.append(RegionText(region.text[:, first:], region.region_weights, rows, heads))
        return AttentionContext(
            self.text.rows(slice(half, None)),
            regions,
            self.blend,
            later(self.heads, half),
            self.isolation,
            kernel=self.kernel,
        )


def _field_of(parts: torch.Tensor) -> _Field:
    """From (1 + regions, b, cells), what each text has of each cell."""
    asked = (parts != 0).any(1)
    counts = asked.sum(1)
    query_index = asked.nonzero()[:, 1]
    # Answers lie one behind the other, text by text: where in that row each cell's own are.
    number = (asked.flatten().cumsum(0) - 1).clamp(min=0).reshape(asked.shape)
    depth = asked.cumsum(0)
    layers: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    # A cell has as many layers as texts that speak to it; most have one, and one gather is enough.
    for deep in range(1, int(depth.max()) + 1):
        here = asked & (depth == deep)
        who = here.int().argmax(0)
        share = (parts * here[:, None]).sum(0)[..., None]
        chosen = number.gather(0, who[None])[0]
        # Multiplying by one would be a pass over all cells for nothing.
        layers.append((chosen, None if bool((share == 1).all()) else share))
    return _Field(parts[0][..., None], query_index, counts.tolist(), layers)


def _rows(region: RegionText) -> list[int] | slice:
    return slice(None) if region.rows is None else list(region.rows)


def _heads(attn: Attention, x: torch.Tensor) -> torch.Tensor:
    return split_heads(x, attn.heads)


def _text_heads(attn: Attention, text: torch.Tensor) -> Heads:
    return _heads(attn, attn.to_k(text)), _heads(attn, attn.to_v(text))


def text_heads(base: BaseModel, text: torch.Tensor) -> dict[int, Heads]:
    """Keys and values of (G, b, T, d) text at every site, by the weights of this moment."""
    sites = (base.unet.get_submodule(site) for site in base.family.cross_sites)
    groups = zip(sites, base.family.site_groups, strict=True)
    return {site: _text_heads(attn, text[group]) for site, (attn, group) in enumerate(groups)}


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    out = F.scaled_dot_product_attention(q, k, v)
    b, h, n, w = out.shape
    return out.transpose(1, 2).reshape(b, n, h * w)


def _output(attn: Attention, made: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = attn.to_out[1](attn.to_out[0](made))
    return result


class _SelfProcessor:
    """Self-attention, in which regions may be kept apart."""

    def __init__(self, attention: AttentionContext) -> None:
        self.attention = attention

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
        q, k, v = (_heads(attn, to(x)) for to in (attn.to_q, attn.to_k, attn.to_v))
        groups = self.attention.isolation.get(x.shape[1])
        if groups is None:
            return _output(attn, _attend(q, k, v))
        # Every cell is in one group, so that nothing stays unset.
        made = torch.empty_like(x)
        for group in groups:
            seen = k[:, :, group.keys], v[:, :, group.keys]
            made[:, group.queries] = _attend(q[:, :, group.queries], *seen)
        return _output(attn, made)


class _CrossProcessor:
    """Cross-attention of one site; reads its group of the attention's text."""

    def __init__(self, attention: AttentionContext, site: Site) -> None:
        self.attention, self.site = attention, site

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(b, n, d) to (b, n, d)."""
        asked = attn.to_q(hidden_states)
        if not self.attention.regions:
            heads = self.attention.keys_and_values(attn, self.site, -1)
            return _output(attn, _attend(_heads(attn, asked), *heads))
        # A processor pays for every cell, an accelerator for every call.
        kernel = self.attention.kernel or ("batched" if asked.is_cuda else "loop")
        return _output(attn, (self._batched if kernel == "batched" else self._loop)(attn, asked))

    def _loop(self, attn: Attention, asked: torch.Tensor) -> torch.Tensor:
        """One attention for each text, of its own cells alone."""
        parts = self.attention.field(asked.shape[1])
        pieces = torch.split(asked.index_select(1, parts.query_index), parts.counts, 1)
        made = torch.cat(
            [
                self._answer(attn, piece, index - 1)
                for index, piece in enumerate(pieces)
                if piece.shape[1]
            ],
            1,
        )
        answers = [
            made.index_select(1, who) if share is None else share * made.index_select(1, who)
            for who, share in parts.layers
        ]
        return sum(answers[1:], answers[0])

    def _answer(self, attn: Attention, piece: torch.Tensor, region: int) -> torch.Tensor:
        """(b, n, d): what cells are told by the global text (region −1) or a region's."""
        heads = self.attention.keys_and_values(attn, self.site, region)
        rows = None if region < 0 else self.attention.regions[region].rows
        if rows is None:
            return _attend(_heads(attn, piece), *heads)
        made = torch.zeros_like(piece)
        made[list(rows)] = _attend(_heads(attn, piece[list(rows)]), *heads)
        return made

    def _batched(self, attn: Attention, asked: torch.Tensor) -> torch.Tensor:
        """One attention of all texts on all cells: more work in fewer and equal calls."""
        cells, regions, q = asked.shape[1], self.attention.regions, _heads(attn, asked)
        parts = [q, *(q[_rows(region)] for region in regions)]
        heads = [
            self.attention.keys_and_values(attn, self.site, index)
            for index in range(-1, len(regions))
        ]
        keys, values = (torch.cat(each) for each in zip(*heads, strict=True))
        whole = _attend(torch.cat(parts), keys, values)
        plain, *made = torch.split(whole, [len(each) for each in parts])
        result = plain * self.attention.field(cells).rest
        for region, own in zip(regions, made, strict=True):
            share = self.attention.blend * region.region_weights[cells][:, None].to(own)
            result[_rows(region)] += share * own
        return result


def sites_of(base: BaseModel) -> dict[str, Site]:
    """Every cross-attention site of the U-Net, by the name of its module."""
    named = zip(base.family.cross_sites, base.family.site_groups, strict=True)
    return {name: Site(index, group) for index, (name, group) in enumerate(named)}


@contextmanager
def attending(base: BaseModel, attention: AttentionContext) -> Iterator[None]:
    """Let every attention module of the U-Net read `attention` while the block runs."""
    if base.door is not None:
        with _listening(base, attention):
            yield
        return
    before = dict(base.unet.attn_processors)
    sites = {f"{name}.processor": site for name, site in sites_of(base).items()}
    base.unet.set_attn_processor(
        {
            name: _CrossProcessor(attention, sites[name])
            if name in sites
            else _SelfProcessor(attention)
            for name in before
        }
    )
    try:
        yield
    finally:
        base.unet.set_attn_processor(before)


@contextmanager
def _listening(base: BaseModel, attention: AttentionContext) -> Iterator[None]:
    """Let a transformer's cells read the texts of `attention` beside what they are asked with."""
    if not attention.regions:
        yield
        return
    shares = [next(iter(region.region_weights.values())) for region in attention.regions]
    total = torch.stack(shares).sum(0)
    rest = 1 - attention.blend * torch.where(total > _WHOLE, 1.0, total)
    own = zip(attention.regions, shares, strict=True)
    parts = [JointText(region.text[0], attention.blend * share) for region, share in own]
    base.regions = (JointText(attention.text.features[0], rest), *parts)
    try:
        yield
    finally:
        base.regions = ()


def levels(base: BaseModel, height: int, width: int) -> list[tuple[int, int]]:
    """(rows, columns) of the latent grid at each level of the U-Net, finest first."""
    sizes = [(height, width)]
    if base.door is not None:
        return sizes
    for _ in base.unet.config.block_out_channels[1:]:
        rows, columns = sizes[-1]
        sizes.append(((rows + 1) // 2, (columns + 1) // 2))
    return sizes


@dataclass(frozen=True, slots=True)
class Residuals:
    """What spatial conditions add to the U-Net; lists as it takes them.

    adapter     T2I-Adapter: one (b, c, h, w) for each level
    down, mid   ControlNet: one for each skip connection, and one for the middle
    """

    adapter: list[torch.Tensor] | None = None
    down: list[torch.Tensor] | None = None
    mid: torch.Tensor | None = None


def added_conditions(
    base: BaseModel, latents: torch.Tensor, text: PromptEmbeds
) -> dict[str, torch.Tensor] | None:
    """What SDXL's U-Net reads beside the text: the prompts as a whole, and sizes.

    The sizes are those of a picture that was never smaller nor cut: (h, w, 0, 0, h, w) in pixels.
    """
    if text.pooled is None:
        return None
    size = [side * base.vae_scale for side in latents.shape[-2:]]
    sizes = torch.tensor([[*size, 0, 0, *size]], device=latents.device, dtype=torch.float32)
    return {"text_embeds": text.pooled, "time_ids": sizes.expand(len(latents), -1)}


def predict(
    base: BaseModel,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    text: PromptEmbeds,
    residuals: Residuals | None = None,
) -> torch.Tensor:
    """One U-Net call inside `attending`, in its own precision; the answer is in the latents'.

    The features only satisfy the signature of the U-Net.
    """
    seen = latents.to(base.dtype)
    if base.door is not None:
        noise = timesteps.to(latents.device).expand(len(latents)) / TIMES
        texts = base.regions or (JointText(text.features[0]),)
        return base.door.velocity(base.unet, seen, noise, texts).to(latents.dtype)
    added = added_conditions(base, latents, text)
    if residuals is None:
        made: torch.Tensor = base.unet(
            seen, timesteps, text.features[0], added_cond_kwargs=added
        ).sample
        return made.to(latents.dtype)
    conditioned: torch.Tensor = base.unet(
        seen,
        timesteps,
        text.features[0],
        added_cond_kwargs=added,
        # The U-Net takes them off the list one by one.
        down_intrablock_additional_residuals=residuals.adapter and list(residuals.adapter),
        down_block_additional_residuals=residuals.down,
        mid_block_additional_residual=residuals.mid,
    ).sample
    return conditioned.to(latents.dtype)
