"""A large picture out of its latents strip by strip, so that its widest layers are there but once.

The numbers are those that diffusers' `AutoencoderKL` makes at once, up to rounding: a strip sees
the rows beside it, and what is normed is normed over the whole picture. That is what tiles, which
know nothing of each other, do not do. Convolutions whose input is made larger only for them make it
as they go, and that three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderKLFlux2
from diffusers.models.autoencoders.vae import Decoder
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UpDecoderBlock2D
from torch import nn

from storyforge.model.heap import trim_heap

LARGE: Final = 192 << 20
"""Bytes of the widest layer from which strips are worth their while: Stable Diffusion's own picture
has 256 MiB of them."""

_ROWS: Final = 16


class Source(Protocol):
    """What a strip is cut of; (b, c, height, w)."""

    @property
    def height(self) -> int:
        """Rows of the whole."""

    def rows(self, first: int, last: int) -> torch.Tensor:
        """(b, c, last - first, w) some of them."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """What is there already."""

    made: torch.Tensor

    @property
    def height(self) -> int:
        """See `Source`."""
        return self.made.shape[2]

    def rows(self, first: int, last: int) -> torch.Tensor:
        """See `Source`."""
        return self.made[:, :, first:last]


@dataclass(frozen=True, slots=True)
class _Doubled:
    """Every cell as four."""

    made: torch.Tensor

    @property
    def height(self) -> int:
        """See `Source`."""
        return 2 * self.made.shape[2]

    def rows(self, first: int, last: int) -> torch.Tensor:
        """See `Source`."""
        begin = first // 2
        some = F.interpolate(self.made[:, :, begin : -(-last // 2)], scale_factor=2.0)
        return some[:, :, first - 2 * begin : last - 2 * begin]


@dataclass(frozen=True, slots=True)
class _Convolved:
    """A convolution of a source."""

    conv: nn.Conv2d
    source: Source

    @property
    def height(self) -> int:
        """See `Source`."""
        return self.source.height

    def rows(self, first: int, last: int) -> torch.Tensor:
        """See `Source`."""
        seen = self.source.rows(*_seen(first, last, self.height))
        return _convolved(self.conv, seen, above=first == 0, below=last == self.height)


@dataclass(frozen=True, slots=True)
class _Pointwise:
    """A convolution of 1×1 of a source."""

    conv: nn.Conv2d
    source: Source

    @property
    def height(self) -> int:
        """See `Source`."""
        return self.source.height

    def rows(self, first: int, last: int) -> torch.Tensor:
        """See `Source`."""
        made: torch.Tensor = self.conv(self.source.rows(first, last))
        return made


@dataclass(frozen=True, slots=True)
class _Normed:
    """A source as a layer reads it: normed over all of it, and through the SiLU.

    scale, shift  (b, c, 1, 1) what norming comes to
    """

    source: Source
    scale: torch.Tensor
    shift: torch.Tensor

    @staticmethod
    def of(norm: nn.GroupNorm, source: Source) -> _Normed:
        """Look at all of the source once."""
        sums, squares, count = [], [], 0
        for first, last in _strips(source.height):
            groups = source.rows(first, last)
            groups = groups.reshape(len(groups), norm.num_groups, -1)
            sums.append(groups.sum(2, dtype=torch.float64))
            squares.append(groups.square().sum(2, dtype=torch.float64))
            count += groups.shape[2]
        mean, square = (torch.stack(each).sum(0) / count for each in (sums, squares))
        spread = (square - mean.square() + norm.eps).rsqrt()
        each = norm.num_channels // norm.num_groups
        scale = spread.repeat_interleave(each, 1) * norm.weight
        shift = norm.bias - mean.repeat_interleave(each, 1) * scale
        return _Normed(source, *(part.to(norm.weight)[..., None, None] for part in (scale, shift)))

    @property
    def height(self) -> int:
        """See `Source`."""
        return self.source.height

    def rows(self, first: int, last: int) -> torch.Tensor:
        """See `Source`."""
        return self.read(self.source.rows(first, last))

    def read(self, some: torch.Tensor) -> torch.Tensor:
        """Rows of the source as they are read."""
        return F.silu((some * self.scale).add_(self.shift), inplace=True)


def _strips(height: int) -> Iterator[tuple[int, int]]:
    """The first row of each strip, and the one after its last."""
    for first in range(0, height, _ROWS):
        yield first, min(first + _ROWS, height)
        # A strip's parts are small enough for the heap to keep, and seldom fit where others were.
        trim_heap()


def _seen(first: int, last: int, height: int) -> tuple[int, int]:
    """The rows that a convolution of 3×3 reads for some of its own."""
    return max(0, first - 1), min(height, last + 1)


def _convolved(conv: nn.Conv2d, seen: torch.Tensor, *, above: bool, below: bool) -> torch.Tensor:
    """Rows of a convolution of 3×3, of those that `_seen` says; beyond the picture are zeros."""
    return F.conv2d(F.pad(seen, (1, 1, int(above), int(below))), conv.weight, conv.bias)


def _written(source: Source) -> torch.Tensor:
    """All of a source."""
    if isinstance(source, _Whole):
        return source.made
    made: torch.Tensor | None = None
    for first, last in _strips(source.height):
        some = source.rows(first, last)
        # Not the strips side by side and then the whole of them: that would be there twice.
        made = some.new_empty(_tall(some, source.height)) if made is None else made
        made[:, :, first:last] = some
    assert made is not None
    return made


def _tall(some: torch.Tensor, height: int) -> tuple[int, ...]:
    return (*some.shape[:2], height, some.shape[3])


def _resnet(block: ResnetBlock2D, source: Source) -> torch.Tensor:
    """A block of two convolutions beside a shortcut; what it is given may be written over."""
    normed = _Normed.of(block.norm1, source)
    if block.conv_shortcut is None:
        beside = _written(source)
        read = _Normed(_Whole(beside), normed.scale, normed.shift)
        inner = _written(_Convolved(block.conv1, read))
    else:
        inner = _written(_Convolved(block.conv1, normed))
    last = _Convolved(block.conv2, _Normed.of(block.norm2, _Whole(inner)))
    if block.conv_shortcut is not None:
        return _written_over(inner, last, _shortcut(block.conv_shortcut, source))
    for strip in _strips(source.height):
        beside[:, :, slice(*strip)] += last.rows(*strip)
    return beside


def _written_over(inner: torch.Tensor, *parts: Source) -> torch.Tensor:
    """The sum of sources, in the place of what they read: a strip waits until the next is made."""
    before: tuple[tuple[int, int], torch.Tensor] | None = None
    for strip in _strips(inner.shape[2]):
        made = sum((part.rows(*strip) for part in parts[1:]), parts[0].rows(*strip))
        if before is not None:
            inner[:, :, slice(*before[0])] = before[1]
        before = strip, made
    if before is not None:
        inner[:, :, slice(*before[0])] = before[1]
    return inner


def _shortcut(conv: nn.Conv2d, source: Source) -> Source:
    """A convolution of 1×1; behind one of 3×3 both are one, and what lies between is not made."""
    if not isinstance(source, _Convolved):
        return _Pointwise(conv, source)
    before, weight = source.conv, conv.weight[:, :, 0, 0]
    assert before.bias is not None
    both = nn.Conv2d(before.in_channels, conv.out_channels, 3, device="meta")
    both.weight = nn.Parameter(torch.einsum("os,sikl->oikl", weight, before.weight), False)
    both.bias = nn.Parameter(F.linear(before.bias, weight, conv.bias), False)
    return _Convolved(both, source.source)


def in_strips(vae: nn.Module, latents: torch.Tensor) -> bool:
    """Whether an autoencoder can work in strips, and what it makes is large enough for that."""
    decoder = getattr(vae, "decoder", None)
    blocks = list(getattr(decoder, "up_blocks", ()))
    kinds = all(isinstance(block, UpDecoderBlock2D) for block in blocks)
    if not isinstance(decoder, Decoder) or not kinds:
        return False
    resnets = [resnet for block in blocks for resnet in block.resnets]
    plain = isinstance(decoder.conv_act, nn.SiLU) and all(
        isinstance(each, ResnetBlock2D)
        and isinstance(each.nonlinearity, nn.SiLU)
        and each.time_embedding_norm in {"default", "group"}
        and each.output_scale_factor == 1
        for each in resnets
    )
    larger = 4 ** sum(block.upsamplers is not None for block in blocks)
    widest = max(each.in_channels for each in resnets[-len(blocks[-1].resnets) :])
    cells = latents.shape[0] * latents.shape[2] * latents.shape[3]
    return plain and larger * cells * widest * latents.element_size() >= LARGE


def decoded(vae: AutoencoderKL | AutoencoderKLFlux2, latents: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) latents to (b, 3, H, W); of an autoencoder that `in_strips` likes."""
    before, decoder = vae.post_quant_conv, vae.decoder
    latents = latents if before is None else before(latents)
    trim_heap()
    source: Source = _Whole(decoder.mid_block(decoder.conv_in(latents)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            source = _Whole(_resnet(resnet, source))
        if block.upsamplers is not None:
            source = _Convolved(block.upsamplers[0].conv, _Doubled(_written(source)))
    return _written(_Convolved(decoder.conv_out, _Normed.of(decoder.conv_norm_out, source)))
