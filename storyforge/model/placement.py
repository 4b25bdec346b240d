"""Where a base lies, in which precision, and what keeps it small: chosen once, and said why.

Small bases are in full precision everywhere, so that pictures agree. Large ones are in half of it
where the machine computes that natively, and else kept in the 16 bits that most files have; on an
accelerator without room for all of them their layers come and go one by one. What is wanted may be
said in `STORYFORGE_DEVICE`, `STORYFORGE_VRAM` and `STORYFORGE_EIGHT_BITS`, which the options
`--device`, `--vram` and `--eight-bits` set. The last is never chosen by itself, since pictures are
a little different then.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Final

import torch
from diffusers.hooks import apply_group_offloading

from storyforge.errors import StoryForgeError
from storyforge.headers.bases import LARGE, weights_in
from storyforge.model.base import BaseModel, best_device, open_base
from storyforge.model.hub import folder_of
from storyforge.model.kept_weights import EIGHT, SIXTEEN
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.modelref import DEVICE, EIGHT_BITS, VRAM, BaseParts, weights_at

GIB: Final = 1 << 30

ROOM: Final = 2.5 * GIB
"""What a step needs beside the weights, with a picture of the base's own size."""

_BYTES: Final = {False: 2.0, True: 1.25}
"""Of a weight, in half precision or in 8 bits; what is outside of blocks is larger than that: 1.10
on average by the shapes of SDXL, 1.27 by those of Stable Diffusion 1.x."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a base lies.

    offloaded   layers come to the device only while they are used
    tiled       pictures are decoded and encoded in parts
    why         in words
    kept        how weights are kept, if in fewer bits than they are computed in
    """

    device: str
    dtype: torch.dtype
    offloaded: bool = False
    tiled: bool = False
    why: str = ""
    kept: torch.dtype | None = None


def weights_of(reference: str) -> int:
    """How many weights a base has, by the headers of its files; 0 where these do not say."""
    return weights_in(folder_of(str(weights_at(BaseParts.of(reference).model))))


def gpus() -> int:
    """How many GPUs this machine has."""
    return torch.cuda.device_count()


def placement_for(
    weights: int,
    device: str | None = None,
    room: float | None = None,
    *,
    eight_bits: bool = False,
) -> Placement:
    """Where a base of so many weights is to lie.

    device      None for the best there is
    room        bytes of memory on an accelerator; None for what is free
    eight_bits  keep a large one in 8 bits
    """
    device = device or str(best_device())
    if weights < LARGE:
        return Placement(device, torch.float32, why="small: in full precision")
    half, kept = half_on(device), EIGHT if eight_bits else None
    if half is None:
        why = "large, and this processor computes in full precision alone"
        return Placement(device, torch.float32, why=why, kept=kept or SIXTEEN)
    name = str(half).removeprefix("torch.")
    if not device.startswith("cuda"):
        return Placement(device, half, why=f"large: in {name}", kept=kept)
    if room is None:
        room = float(torch.cuda.mem_get_info(device)[0])
    needed = _BYTES[eight_bits] * weights
    why = f"{needed / GIB:.1f} GiB of weights in {name}, {room / GIB:.1f} GiB there"
    tight, close = needed + ROOM > room, needed + 2 * ROOM > room
    return Placement(device, half, tight, close, why, kept)


def half_on(device: str) -> torch.dtype | None:
    """The half precision in which a device computes; None if it has none of its own."""
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.startswith("mps"):
        return torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else None


def asked_placement(reference: str) -> Placement:
    """Where a base is to lie by what is asked for and what the machine has.

    Raises StoryForgeError if what is asked for makes no sense.
    """
    room = os.environ.get(VRAM)
    try:
        wanted = float(room) * GIB if room else None
        device = os.environ.get(DEVICE) or None
        _check_there(torch.device(device or "cpu"))
    except (ValueError, RuntimeError) as exc:
        raise StoryForgeError(
            f"`--device {os.environ.get(DEVICE)}` with `--vram {room}` cannot be had: {exc}",
            hint="for instance `--device cpu`, `--device cuda:1`, `--vram 8`",
        ) from exc
    eight_bits = os.environ.get(EIGHT_BITS) == "1"
    return placement_for(weights_of(reference), device, wanted, eight_bits=eight_bits)


def _check_there(device: torch.device) -> None:
    """Raise ValueError for a device that this machine, or this torch, does not have."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no CUDA device here")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there are {torch.cuda.device_count()} CUDA devices, from cuda:0 on")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("torch finds no Metal device here")


def open_placed(reference: str, identity: str) -> BaseModel:
    """Open a base where `asked_placement` says.

    Raises EnvironmentProblem if it cannot be opened.
    """
    placement = asked_placement(reference)
    logging.getLogger(__name__).info("the base lies on %s", told(placement))
    first = "cpu" if placement.offloaded else placement.device
    base = open_base(
        reference,
        identity,
        device=first,
        dtype=placement.dtype,
        kept=placement.kept,
    )
    place(base, placement)
    return base


def place(base: BaseModel, placement: Placement) -> None:
    """Let an opened base's layers and pictures come in parts, if its placement says so."""
    if placement.tiled and not isinstance(base.vae, PatchAutoencoder):
        base.vae.enable_tiling()
        base.vae.enable_slicing()
    if placement.offloaded:
        device = torch.device(placement.device)
        base.working_device = device
        for module in (base.unet, *(each.model for each in base.encoders)):
            # Layer by layer, since keys and values of texts are asked for out of turn. Without
            # streams: those fetch the layers in the order of the first step, and later ones do not
            # ask for keys and values again.
            apply_group_offloading(
                module,
                onload_device=device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=False,
            )
        base.vae.to(device)


def told(placement: Placement) -> str:
    """One line that says where a base lies, and why."""
    ways = (
        ("weights in 8 bits", placement.kept == EIGHT),
        ("weights in 16 bits", placement.kept == SIXTEEN),
        ("layer by layer", placement.offloaded),
        ("pictures in parts", placement.tiled),
    )
    kept = [words for words, on in ways if on]
    return ", ".join([f"{placement.device} ({placement.why})", *kept])
