"""The base model: its components, opened by name, folder, hub id or single file."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import torch
from diffusers import UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.headers.joint import refuse_joint
from storyforge.model.autoencoders import Vae, vae_of
from storyforge.model.components import components_of, scheduler_config_in
from storyforge.model.dit.door import PATCH, Door
from storyforge.model.dit.joint import JointText
from storyforge.model.family import Family, TextEncoder, linear_modules
from storyforge.model.figures import ToldFigure
from storyforge.model.heap import trim_heap
from storyforge.model.hub import folder_of
from storyforge.model.kept_weights import is_kept
from storyforge.model.patch_autoencoder import PIXELS, PatchAutoencoder
from storyforge.model.strips import decoded, in_strips
from storyforge.modelref import BaseParts, Defaults, defaults_of, weights_at


@dataclass(frozen=True, slots=True)
class Encoder:
    """One text encoder with the tokenizer that it reads by."""

    model: TextEncoder
    tokenizer: CLIPTokenizer

    @property
    def width(self) -> int:
        """Numbers of a token's embedding."""
        return int(self.model.config.hidden_size)


_log = logging.getLogger(__name__)


@dataclass(slots=True, weakref_slot=True)
class BaseModel:
    """An opened base model, frozen.

    text_encoder_2, tokenizer_2  SDXL's; None in models with one text encoder
    working_device               where it computes, if its weights do not all lie there
    empty_is_zero                the empty prompt is not read: its features are zeros
    door                         of a diffusion transformer, which then lies in `unet`; else None
    regions                      what a transformer's cells read beside the text, while `attending`
    linears                      every attention linear by the names of `family.linears`
    """

    reference: str
    hash: str
    unet: UNet2DConditionModel
    vae: Vae
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler_config: dict[str, object]
    defaults: Defaults
    text_encoder_2: CLIPTextModelWithProjection | None = None
    tokenizer_2: CLIPTokenizer | None = None
    empty_is_zero: bool = False
    working_device: torch.device | None = None
    door: Door | None = None
    regions: tuple[JointText, ...] = ()
    family: Family = field(init=False)
    linears: dict[str, nn.Linear] = field(init=False)

    def __post_init__(self) -> None:
        """Freeze the components and read the family off them."""
        encoders = [each.model for each in self.encoders]
        for module in (self.unet, self.vae, *encoders):
            module.eval().requires_grad_(False)
        if self.door is not None:
            self.family = Family.of_inputs(self.door.inputs(self.unet))
        else:
            self.family = Family.of(self.unet, *encoders)
        self.linears = linear_modules(self.family, self.unet, *encoders)

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """The text encoders in the order in which their features stand in the text."""
        first = Encoder(self.text_encoder, self.tokenizer)
        if self.text_encoder_2 is None or self.tokenizer_2 is None:
            return (first,)
        return first, Encoder(self.text_encoder_2, self.tokenizer_2)

    @property
    def widths(self) -> list[int]:
        """Numbers of a word's embedding in each text encoder."""
        return [each.width for each in self.encoders]

    @property
    def name(self) -> str:
        """What files say of it: the reference, of a path only the last part."""
        model = BaseParts.of(self.reference).model
        return Path(model).name if Path(model).is_absolute() else model

    @property
    def device(self) -> torch.device:
        """Where the U-Net computes."""
        device: torch.device = self.working_device or self.unet.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The U-Net's precision."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def narrow(self) -> bool:
        """Whether weights have less than full precision: half, or kept in few bits."""
        return self.dtype != torch.float32 or any(map(is_kept, self.linears.values()))

    @property
    def vae_scale(self) -> int:
        """Pixels per latent cell."""
        own = int(2 ** (len(self.vae.config.block_out_channels) - 1))
        return own if self.door is None else own * PATCH

    @property
    def coarsest(self) -> int:
        """Pixels per cell of the coarsest level."""
        if self.door is not None:
            return self.vae_scale
        return int(self.vae_scale * 2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def channels(self) -> int:
        """Numbers of a latent cell."""
        own = self.unet.config.in_channels
        return int(own) if self.door is None else self.door.channels(self.unet)

    @property
    def denoised(self) -> slice:
        """Which channels of a latent the denoiser says anything of: of the embedded model's those
        that tell, of others all."""
        return self.vae.telling if isinstance(self.vae, PatchAutoencoder) else slice(None)

    @property
    def side(self) -> int:
        """The base's own picture size in pixels."""
        return self.cells * self.vae_scale

    @property
    def cells(self) -> int:
        """Latent cells along a side of the base's own picture."""
        if self.door is not None:
            return int(self.vae.config.sample_size) // self.vae_scale
        return int(self.unet.config.sample_size)

    @property
    def scales(self) -> tuple[int, ...]:
        """Pixels per latent cell that the decoder can write; the encoder sees the first."""
        return PIXELS if isinstance(self.vae, PatchAutoencoder) else (self.vae_scale,)

    @property
    def sides(self) -> tuple[int, ...]:
        """Pixels along a side of the base's own picture: what the encoder sees, and all others."""
        return tuple(self.cells * scale for scale in self.scales)

    def check_asked(self, asked: Mapping[str, bool]) -> None:
        """Raise StoryForgeError for what is asked, by its name, and a transformer does not do."""
        if self.door is not None:
            refuse_joint(self.door.name, asked)

    def resize(self, side: int) -> None:
        """From now on read and write the base's own picture with `side` pixels a side.

        Raises:
          StoryForgeError: if its autoencoder writes no picture of that size.
        """
        if side not in self.sides:
            sides = " or ".join(map(str, self.sides))
            raise StoryForgeError(
                f"`{self.reference}` does not draw its picture with {side} pixels a side",
                hint=f"write `decode: {sides}`, or leave it out",
            )
        if isinstance(self.vae, PatchAutoencoder):
            self.vae.write(side // self.cells)

    @contextmanager
    def sized(self, side: int | None) -> Iterator[None]:
        """`resize` while the block runs; None leaves it as it is."""
        before = self.side
        self.resize(side or before)
        try:
            yield
        finally:
            self.resize(before)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(b, c, h, w) latents to (b, 3, H, W) pictures in [0, 1]."""
        if self.door is not None:
            scaled = self.door.unpacked(self.vae, latents.to(self.vae.dtype))
        else:
            scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        pictures = self._decoded(scaled)
        return (pictures.float() / 2 + 0.5).clamp(0, 1)

    @property
    def tells_figures(self) -> bool:
        """Whether latents of this base tell where figures are."""
        return isinstance(self.vae, PatchAutoencoder) and self.vae.config.faces is not None

    def figures(self, latents: torch.Tensor) -> list[list[ToldFigure]]:
        """Who stands where in pictures (b, c, h, w) of a base that tells it, from back to front."""
        scaled = latents.to(self.vae.dtype) / self.vae.config.scaling_factor
        found: list[list[ToldFigure]] = self.vae.figures(scaled)
        return found

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        """(b, 3, H, W) in [-1, 1]; strip by strip where memory is the processor's own."""
        tiled = getattr(self.vae, "use_tiling", False)
        if latents.device.type == "cpu" and not tiled and in_strips(self.vae, latents):
            return decoded(self.vae, latents)
        made: torch.Tensor = self.vae.decode(latents, return_dict=False)[0]
        return made

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(b, 3, H, W) pictures in [0, 1] to (b, c, h, w) latents (the mean)."""
        scaled = (pictures * 2 - 1).to(self.vae.device, self.vae.dtype)
        latents: torch.Tensor = self.vae.encode(scaled, return_dict=False)[0].mean
        if self.door is not None:
            return self.door.packed(self.vae, latents.float())
        return latents.float() * float(self.vae.config.scaling_factor)


def best_device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_base(
    reference: str,
    identity: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    kept: torch.dtype | None = None,
) -> BaseModel:
    """Open a base model.

    Args:
      reference: `pocket`, or what `BaseParts` reads: a diffusers folder, a `.safetensors` file or a
        hub id (`name@revision`), with a VAE or a noise schedule from elsewhere or not.
      identity: the hash under which concepts and pictures remember it.
      device: where to put it.
      dtype: precision of U-Net and text encoders; the VAE stays in float32.
      kept: how the weights of their blocks are kept, if in fewer bits: `EIGHT` or `SIXTEEN`.

    Raises:
      EnvironmentProblem: if it cannot be found or read, or is of another kind.
    """
    _quiet()
    parts, began = BaseParts.of(reference), perf_counter()
    try:
        folder = folder_of(str(weights_at(parts.model)))
        made = components_of(folder, dtype, parts.prediction, kept=kept)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise EnvironmentProblem(f"cannot open the base model `{parts.model}`: {reason}") from exc
    _log.info("opened %s on %s in %.1f s", reference, device, perf_counter() - began)
    schedule = made.scheduler_config
    if parts.scheduler is not None:
        schedule = scheduler_config_in(Path(parts.scheduler), made.door)
    vae = made.vae
    if parts.vae:
        vae = vae_of(parts.vae, made.vae, made.unet, made.door)
    trim_heap()
    return BaseModel(
        reference=reference,
        hash=identity,
        unet=made.unet.to(device),
        vae=vae.to(device),
        text_encoder=made.text_encoder.to(device),
        tokenizer=made.tokenizer,
        scheduler_config=schedule,
        defaults=defaults_of(folder),
        text_encoder_2=made.text_encoder_2 and made.text_encoder_2.to(device),
        tokenizer_2=made.tokenizer_2,
        empty_is_zero=made.empty_is_zero,
        door=made.door,
    )


def _quiet() -> None:
    """Let the libraries keep what they have to say of loading to themselves."""
    diffusers_logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
