"""What kind of model a base is, told from its configurations and headers; nothing is opened.

Read are U-Nets of Stable Diffusion 1.x's, 2.x's and XL's kind, the latents in and no picture beside
them, and two families of transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Final

import yaml

from storyforge.errors import EnvironmentProblem
from storyforge.headers.header import PICKLES, Shape, read_header
from storyforge.headers.kinds import WIDTHS
from storyforge.headers.parts import (
    INDEX,
    BaseTrouble,
    a_class,
    config_trouble,
    json_in,
    only_pickle_trouble,
    pickle_trouble,
    schedule_trouble,
    weights_here,
    weights_trouble,
    words_trouble,
)

_PARTS: Final = ("vae", "text_encoder", "tokenizer", "scheduler")
_SECOND: Final = ("text_encoder_2", "tokenizer_2")
_WEIGHED: Final = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2")
_PIPELINES: Final = "StableDiffusion"
"""How the names of those begin whose U-Net is read."""
_TAKES: Final = "storyforge draws with Stable Diffusion 1.x, 2.x, XL, FLUX.2-klein and Z-Image"
_FAMILIES: Final = frozenset(WIDTHS.values())

TRANSFORMERS: Final = {"Flux2KleinPipeline": "FLUX.2-klein", "ZImagePipeline": "Z-Image"}
"""Pipelines of transformers that are read -> what their makers call them."""
_CHANNELS: Final = 4
"""Of the latents of Stable Diffusion."""
_LICENCES: Final = ("LICENSE.md", "LICENSE", "LICENSE.txt", "LICENCE")


@dataclass(frozen=True, slots=True)
class BaseHeader:
    """What a base says of itself.

    family   the kind of model, as its makers call it; None if nothing tells
    width    of what its cross-attention reads; None if nothing tells
    layers   layer, as adapters name it -> shape of its weight; empty where no header tells
    trouble  why it is not read; None if it is
    licence  as it states it
    latents  channels of its autoencoder's latents; None if nothing tells
    """

    family: str | None
    width: int | None
    layers: Mapping[str, Shape] = field(default_factory=dict)
    trouble: BaseTrouble | None = None
    licence: str | None = None
    latents: int | None = None

    @property
    def joint(self) -> bool:
        """Whether it is a transformer, in which text and picture are one sequence."""
        return self.family in TRANSFORMERS.values()


def look_at_base(path: Path) -> BaseHeader:
    """Look into a folder or a file that is to be drawn with."""
    try:
        return _folder(path) if path.is_dir() else _file(path)
    except EnvironmentProblem as exc:
        return BaseHeader(None, None, trouble=BaseTrouble(str(exc), "get it again"))


LARGE: Final = 300_000_000
"""Weights from which a base is in half precision: the embedded one has a fortieth of that."""


def weights_in(path: Path) -> int:
    """How many weights a base's folder or file holds, by its headers; 0 where these do not say."""
    if path.is_file():
        return sum(map(prod, read_header(path).shapes.values()))
    count = 0
    for part in _WEIGHED:
        found: dict[str, int] = {}  # of several variants one is read
        for file in (path / part).glob("*.safetensors"):
            found |= {name: prod(shape) for name, shape in read_header(file).shapes.items()}
        count += sum(found.values())
    return count


def _folder(path: Path) -> BaseHeader:
    broken = config_trouble(path)
    if broken is not None:
        return BaseHeader(None, None, trouble=broken)
    index = json_in(path / INDEX)
    name = str(index.get("_class_name", ""))
    second = index.get("text_encoder_2", [None, None]) != [None, None]
    if name in TRANSFORMERS:
        trouble = _missing(path, "transformer")
        layers = {} if trouble else _layers(path, "transformer")
        own = json_in(path / "vae" / "config.json").get("latent_channels")
        latents = own if isinstance(own, int) else None
        return BaseHeader(TRANSFORMERS[name], None, layers, trouble, _licence(path), latents)
    unet = json_in(path / "unet" / "config.json")
    family, width = _family(name, unet)
    vae = json_in(path / "vae" / "config.json").get("latent_channels", _CHANNELS)
    trouble = _kind_trouble(name, unet, family, vae) or _not_indexed(name)
    trouble = trouble or _missing(path, second=second)
    layers = {} if trouble else _layers(path)
    latents = vae if isinstance(vae, int) else None
    return BaseHeader(family, width, layers, trouble, _licence(path), latents)


def _family(name: str, unet: Mapping[str, object]) -> tuple[str | None, int | None]:
    width = unet.get("cross_attention_dim")
    width = width if isinstance(width, int) else None
    for mark, family in (
        ("XL", "SDXL"),
        ("Diffusion3", "Stable Diffusion 3"),
        ("Flux", "FLUX"),
        ("ZImage", "Z-Image"),
        ("PixArt", "PixArt"),
        ("Sana", "SANA"),
        ("QwenImage", "Qwen-Image"),
    ):
        if mark in name:
            return family, width
    if unet.get("addition_embed_type") == "text_time":
        return "SDXL", width
    return WIDTHS.get(width or 0), width


def _kind_trouble(
    name: str, unet: Mapping[str, object], family: str | None, latents: object
) -> BaseTrouble | None:
    """What of its kind is not read; `latents` is how many channels these have."""
    if not name and not unet:
        return BaseTrouble(
            "is no diffusers folder: there is neither model_index.json nor unet/config.json",
            "name the folder that holds model_index.json, or a .safetensors file",
        )
    known = family is None or family in _FAMILIES
    added = unet.get("addition_embed_type") not in {None, "text_time"}
    if not known or added or (name and not unet):
        what = family or name
        return BaseTrouble(f"is {what} ({name or 'U-Net'}), which is not read", _TAKES)
    if name and not name.startswith(_PIPELINES):
        return BaseTrouble(f"is {a_class(name)}, which is not read", _TAKES)
    channels = unet.get("in_channels", latents)
    if channels == latents:
        return None
    kinds: dict[object, str] = {9: "an inpainting model", 8: "a model that edits pictures"}
    return BaseTrouble(
        f"is {kinds.get(channels, 'another kind of model')}: "
        f"its U-Net takes {channels} channels, and pictures are drawn with {latents}",
        "name the model that it was made from",
    )


def _not_indexed(name: str) -> BaseTrouble | None:
    """What a folder lacks that does not say what it is; `name` is its pipeline's."""
    if name:
        return None
    return BaseTrouble(f"has no {INDEX} that names a pipeline", "get that file of the model again")


def _missing(path: Path, denoiser: str = "unet", *, second: bool = False) -> BaseTrouble | None:
    """Which part of a pipeline's folder is not there, or not whole."""
    for part in (denoiser, *_PARTS, *(_SECOND if second else ())):
        folder = path / part
        if not folder.is_dir():
            return BaseTrouble(f"has no `{part}/`", "get the whole model, with all of its parts")
        found = weights_here(folder) if part in _WEIGHED else None
        if found == []:
            return BaseTrouble(
                f"has no weights in `{part}/`", "get the .safetensors files of the model as well"
            )
        if found and found[0].suffix != ".safetensors":
            return only_pickle_trouble(found[0], f" in `{part}/`")
        trouble = weights_trouble(found[0], f"{part}/") if found else None
        if part.startswith("tokenizer"):
            trouble = words_trouble(folder)
        elif part == "scheduler":
            joint = denoiser == "transformer"
            trouble = schedule_trouble(folder, joint=joint, where=f" in `{part}/`")
        if trouble is not None:
            return trouble
    return None


def _layers(path: Path, denoiser: str = "unet") -> dict[str, Shape]:
    """Every weight of U-Net and text encoder; nothing where they are pickled or in parts."""
    found: dict[str, Shape] = {}
    parts = ((denoiser, denoiser), ("text_encoder", "text"), ("text_encoder_2", "text_2"))
    for part, model in parts:
        if not (path / part).is_dir():
            continue
        files = weights_here(path / part)
        if not files or files[0].suffix != ".safetensors" or "-of-" in files[0].name:
            return {}
        for key, shape in read_header(files[0]).shapes.items():
            layer = key.removesuffix(".weight").removeprefix("text_model.")
            if key.endswith(".weight"):
                found[f"{model} {layer.replace('.', '_')}"] = shape
    return found


def _licence(path: Path) -> str | None:
    """The licence in a model card's front matter, or the first line of a licence's file."""
    try:
        card = (path / "README.md").read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        card = ""
    said = _licence_of_card(card)
    if said is not None and said.lower() != "other":
        return said
    for name in _LICENCES:
        if (path / name).is_file():
            lines = (path / name).read_text(encoding="utf-8", errors="replace").splitlines()
            first = next((line.strip("# ") for line in lines if line.strip("# ")), None)
            return first or said
    return said


def _licence_of_card(card: str) -> str | None:
    """The licence in a card's front matter; the name of one that the hub has no word for."""
    front = re.match(r"---[ \t]*\n(.*?)^---", card, re.DOTALL | re.MULTILINE)
    try:
        # Every value as a text: `no` is one too.
        told = yaml.load(front[1], yaml.BaseLoader) if front else None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    said = _joined(told.get("license"))
    if said.lower() in {"", "other"}:
        said = _joined(told.get("license_name")) or said
    return said or None


def _joined(said: object) -> str:
    """A text, or a list's texts."""
    texts = said if isinstance(said, list) else [said]
    return ", ".join(" ".join(text.split()) for text in texts if isinstance(text, str))


def _file(path: Path) -> BaseHeader:
    if path.suffix in PICKLES:
        return BaseHeader(None, None, trouble=pickle_trouble(path))
    header = read_header(path)
    shapes = header.shapes
    licence = header.metadata.get("modelspec.license") or header.metadata.get("license")
    first = shapes.get("model.diffusion_model.input_blocks.0.0.weight")
    if first is None:
        return BaseHeader(None, None, trouble=_strange(shapes), licence=licence)
    width = next(
        (shape[1] for key, shape in shapes.items() if key.endswith(".attn2.to_k.weight")), None
    )
    large = any(key.startswith("conditioner.embedders.1") for key in shapes)
    family = "SDXL" if large or width == 2048 else WIDTHS.get(width or 0)
    unet: dict[str, object] = {"in_channels": first[1]}
    trouble = _kind_trouble("", unet, family, _CHANNELS)
    said = "conditioner.embedders.1." if family == "SDXL" else "cond_stage_model."
    for part, prefix in (("VAE", "first_stage_model."), ("text encoder", said)):
        if trouble is None and not any(key.startswith(prefix) for key in shapes):
            trouble = BaseTrouble(
                f"holds no {part}", "get the whole checkpoint, with all of its parts"
            )
    trouble = trouble or weights_trouble(path)
    return BaseHeader(family, width, {}, trouble, licence, _CHANNELS)


def _strange(shapes: Mapping[str, Shape]) -> BaseTrouble:
    """What a file without a U-Net of the original's names is instead."""
    keys = " ".join(list(shapes)[:2000])
    if "double_blocks." in keys or "joint_blocks." in keys or "single_transformer_blocks." in keys:
        return BaseTrouble("is a transformer (FLUX, Stable Diffusion 3 or newer), not read", _TAKES)
    if "lora" in keys or "hada_" in keys:
        remedy = "it belongs under `sampling: {lora: [{file: …}]}`, or under `characters:`"
        return BaseTrouble("is a LoRA and no base", remedy)
    return BaseTrouble("holds no U-Net of Stable Diffusion", _TAKES)
