"""The autoencoder of a base, its own or one from elsewhere, and whether it is one for this base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file

from storyforge.errors import EnvironmentProblem
from storyforge.headers.autoencoders import CONVOLVED, LATENTS_IN, other_latents
from storyforge.model.dit.door import PATCH, Door
from storyforge.model.hub import folder_of
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.model.weights import json_in, weighed

Vae: TypeAlias = AutoencoderKL | AutoencoderKLFlux2 | PatchAutoencoder

_VAES: Final[dict[str, type[Vae]]] = {
    kind.__name__: kind for kind in (AutoencoderKL, AutoencoderKLFlux2, PatchAutoencoder)
}
_REMEDY: Final = "name one that was made for this kind of base"


def vae_in(folder: Path) -> Vae:
    """An autoencoder in its folder, of the class that its configuration names, in float32.

    Raises EnvironmentProblem if it is none that is read.
    """
    name = str(json_in(folder / "config.json").get("_class_name", AutoencoderKL.__name__))
    if name not in _VAES:
        raise EnvironmentProblem(f"the autoencoder in `{folder}` is a {name}, which is not read")
    return weighed(_VAES[name], folder, torch.float32)


def vae_of(reference: str, like: Vae, unet: UNet2DConditionModel, door: Door | None) -> Vae:
    """A VAE in float32: its folder, a base's folder, a `.safetensors` file, or a hub id.

    A file says nothing of its shape and scale: they are those of the base's own, `like`.

    Raises EnvironmentProblem if it cannot be found or read, or is none for this base.
    """
    path = Path(reference)
    try:
        if path.is_file():
            made = _vae_of_file(path, like)
        else:
            folder = folder_of(reference)
            made = vae_in(folder / "vae" if (folder / "vae").is_dir() else folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise EnvironmentProblem(f"cannot open the VAE `{reference}`: {reason}") from exc
    check_vae(made, unet, door, reference)
    return made


def _vae_of_file(path: Path, like: Vae) -> Vae:
    """One file, by diffusers' names or, of Stable Diffusion's, by the makers'."""
    weights = load_file(path)
    if not isinstance(like, PatchAutoencoder):
        _check_latents(weights, int(like.config.latent_channels), str(path))
    if weights.keys() == like.state_dict().keys():
        made: Vae = type(like).from_config(like.config)
        try:
            made.load_state_dict(weights)
        except RuntimeError as exc:
            raise _unlike(path) from exc
        return made.to(torch.float32)
    if not isinstance(like, AutoencoderKL):
        message = f"`{path}` does not hold the weights of a {type(like).__name__}"
        raise EnvironmentProblem(message, hint="name the folder of the VAE")
    with TemporaryDirectory() as config:
        like.save_config(config)
        try:
            single: Vae = AutoencoderKL.from_single_file(
                str(path), config=config, local_files_only=True, dtype=torch.float32
            )
        except (ValueError, RuntimeError) as exc:
            raise _unlike(path) from exc
    return single


def _unlike(path: Path) -> EnvironmentProblem:
    """What diffusers says in a list of weights, or in advice to programmers."""
    message = f"`{path}` does not hold the weights of an autoencoder like the base's own"
    return EnvironmentProblem(message, hint=_REMEDY)


def check_vae(vae: Vae, unet: UNet2DConditionModel, door: Door | None, name: str) -> None:
    """Raise EnvironmentProblem if a VAE is none for this base."""
    kinds: tuple[type[Vae], ...] = (AutoencoderKL, PatchAutoencoder)
    wanted = int(unet.config.in_channels)
    if door is not None:
        kinds, wanted = (door.autoencoder,), door.channels(unet) // PATCH**2
    if not isinstance(vae, kinds):
        message = f"the VAE of `{name}` is a {type(vae).__name__}"
        raise EnvironmentProblem(message, hint=f"this base takes a {kinds[0].__name__}")
    _check_channels(int(vae.config.latent_channels), wanted, name)


def _check_latents(weights: Mapping[str, torch.Tensor], wanted: int, name: str) -> None:
    """Raise EnvironmentProblem if a file's weights read latents of other channels.

    Its makers and diffusers call the layer that reads them alike, in a whole checkpoint, too.
    """
    for key, weight in weights.items():
        if key.endswith(LATENTS_IN) and weight.dim() == CONVOLVED:
            _check_channels(weight.shape[1], wanted, name)


def _check_channels(found: int, wanted: int, name: str) -> None:
    if found != wanted:
        message = other_latents(found, wanted)
        raise EnvironmentProblem(f"the VAE of `{name}` {message}", hint=_REMEDY)
