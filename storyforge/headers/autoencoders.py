"""Whether an autoencoder that is named apart is one for a base, told without opening it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storyforge.errors import EnvironmentProblem
from storyforge.headers.bases import BaseHeader
from storyforge.headers.header import PICKLES, read_header
from storyforge.headers.parts import (
    BaseTrouble,
    json_in,
    only_pickle_trouble,
    pickle_trouble,
    weights_here,
    weights_trouble,
)

LATENTS_IN: Final = "decoder.conv_in.weight"
"""How makers and diffusers end the name of the layer that reads latents."""

CONVOLVED: Final = 4
"""Dimensions of a convolution's weight; the second one counts what it reads."""

VAES: Final = {"FLUX.2-klein": ("AutoencoderKLFlux2",), "Z-Image": ("AutoencoderKL",)}
"""Classes of the autoencoders of transformers."""

_PLAIN: Final = ("AutoencoderKL", "PatchAutoencoder")
"""Those of all other families."""

_REMEDY: Final = "name one that was made for this kind of base"


def vae_trouble(path: Path, base: BaseHeader) -> BaseTrouble | None:
    """Why a VAE that is named apart is none for a base; None if it is, or nothing tells."""
    if path.is_file():
        return _file(path, base)
    folder = path / "vae" if (path / "vae").is_dir() else path
    said = json_in(folder / "config.json")
    name, wanted = said.get("_class_name"), VAES.get(base.family or "", _PLAIN)
    if isinstance(name, str) and name not in wanted:
        return BaseTrouble(f"is a {name}, and this base takes a {wanted[0]}", _REMEDY)
    found = weights_here(folder)
    if found and found[0].suffix in PICKLES:
        return only_pickle_trouble(found[0])
    if (trouble := _latents(said.get("latent_channels"), base)) is not None:
        return trouble
    if not found:
        return BaseTrouble("has no weights", "get the .safetensors files of the VAE as well")
    return weights_trouble(found[0])


def _file(path: Path, base: BaseHeader) -> BaseTrouble | None:
    """The same of one file, whose shapes tell how many channels it reads."""
    if path.suffix in PICKLES:
        return pickle_trouble(path)
    try:
        shapes = read_header(path).shapes
    except EnvironmentProblem:
        return BaseTrouble("is no safetensors file", "name the folder of a VAE, or such a file")
    plain = (shape for name, shape in shapes.items() if name.endswith(LATENTS_IN))
    found = next((shape[1] for shape in plain if len(shape) == CONVOLVED), None)
    return _latents(found, base) or weights_trouble(path)


def _latents(found: object, base: BaseHeader) -> BaseTrouble | None:
    if not isinstance(found, int) or base.latents in (None, found):
        return None
    return BaseTrouble(other_latents(found, base.latents), _REMEDY)


def other_latents(found: int, wanted: int) -> str:
    """The sentence about an autoencoder of other latents than a base's, without its name."""
    return f"makes latents of {found} channels, and this base draws in {wanted}"
