"""The model that a story is drawn with, from outside: where it lies, what it is, what it likes.

What it is, is its weights and how they are put together; concepts remember it by their hash. Its
defaults only fill up what an author does not say: other defaults make other pictures, and the base
stays what it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlencode

from pydantic import Field, NonNegativeFloat, PositiveInt, TypeAdapter, ValidationError

from storyforge.errors import EnvironmentProblem
from storyforge.pictures import beside
from storyforge.settings import Drawn, Share
from storyforge.store import fingerprint

ADAPTERS: Final = Path(__file__).parent / "pocket" / "adapters"
"""Those that came with the embedded model; a story calls them `pocket/…`."""

POCKET_CLIP: Final = Path(__file__).parent / "pocket" / "clip"
"""Its own CLIP, which judges pictures."""


POCKET: Final = Path(__file__).parent / "pocket" / "weights"
"""Where the embedded model lies."""

_EMBEDDED: Final = "pocket"
"""How an author names it."""

_OF_POCKET: Final[dict[Drawn, str]] = {"pose": "pocket/keypose", "sketch": "pocket/sketch"}
"""Which of its adapters reads what is drawn."""

DEVICE: Final = "STORYFORGE_DEVICE"
"""Names the device where bases lie, as `--device` does."""

VRAM: Final = "STORYFORGE_VRAM"
"""Names the GB of a GPU's memory that may be used, as `--vram` does."""

EIGHT_BITS: Final = "STORYFORGE_EIGHT_BITS"
"""Keeps large bases' weights in 8 bits if it is `1`, as `--eight-bits` does."""

HUB_ID: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")

DEFAULTS_FILE: Final = "storyforge.json"
"""The file in a base's folder that says what it likes."""

_DRAWING: Final = (
    *("steps", "guidance_scale", "guidance_rescale", "guidance_start", "guidance_stop"),
    *("scheduler", "heads"),
)

PATCH_SCALES: Final = (16, 32, 64)
"""Pixels along a side that an autoencoder of patches writes for a cell; it reads the first."""

NamedValues = tuple[tuple[str, object], ...]
"""Names of settings and their values."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a base likes, where the author says nothing. A base may bring its own `storyforge.json`.

    guidance_scale, guidance_rescale   classifier-free guidance; rescale in [0, 1]
    guidance_start, guidance_stop      the part of the steps in which there is guidance
    heads                              whether heads are drawn again, larger
    company                            whether the prompt of a region names who is in the others
    train_*                            the recipe of ED-LoRA (Mix-of-Show, suppl.)
    prior_share                        part of a training batch that is the base's own pictures
    masked_prior                       weight of what the base makes of a masked subject's place
    unmasked_pace                      share of the learning rates where no picture has a mask

    Products are named by the settings that differ from the values here: a value that changes is to
    change the `make` of the key inputs in `plan`.
    """

    steps: PositiveInt = 30
    guidance_scale: NonNegativeFloat = 7.5
    guidance_rescale: Share = 0.0
    guidance_start: Share = 0.0
    guidance_stop: Share = 1.0
    scheduler: str = "ddim"
    heads: bool = False
    company: bool = False
    train_steps: PositiveInt = 1000
    train_batch: PositiveInt = 4
    embedding_lr: NonNegativeFloat = 1e-3
    text_lr: NonNegativeFloat = 1e-5
    unet_lr: NonNegativeFloat = 1e-4
    noise_offset: NonNegativeFloat = 0.01
    prior_share: Share = 0.25
    masked_prior: NonNegativeFloat = 0.0
    unmasked_pace: NonNegativeFloat = 1.0
    prior_pictures: PositiveInt = 32
    prior_prompts: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "a photo",
        "a picture of a person",
        "a landscape",
        "",
    )

    @staticmethod
    def read(path: Path, usual: Mapping[str, object] = MappingProxyType({})) -> Defaults:
        """Defaults from a `storyforge.json`; else `usual`, and the values here for the rest.

        Raises EnvironmentProblem, which names the setting, for a file that holds anything else.
        """
        if not path.is_file():
            return TypeAdapter(Defaults).validate_python(dict(usual))
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as exc:
            raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc
        if not isinstance(data, dict):
            raise EnvironmentProblem(f"`{path}` holds no settings by name")
        known = {f.name for f in fields(Defaults)}
        if extra := set(data) - known:
            message = f"`{path}` has unknown settings: {', '.join(sorted(extra))}"
            raise EnvironmentProblem(message, hint=f"known are {', '.join(sorted(known))}")
        try:
            return TypeAdapter(Defaults).validate_python({**usual, **data})
        except ValidationError as exc:
            first = exc.errors()[0]
            name = ".".join(map(str, first["loc"]))
            raise EnvironmentProblem(f"`{name}` in `{path}`: {first['msg']}") from exc

    @property
    def drawing(self) -> NamedValues:
        """What decides about a picture, where it differs from the defaults."""
        return tuple((name, value) for name, value in self.all if name in _DRAWING)

    @property
    def all(self) -> NamedValues:
        """What decides about a concept, where it differs from the defaults: its base draws, too."""
        said = ((f.name, getattr(self, f.name), f.default) for f in fields(self))
        return tuple((name, value) for name, value, usual in said if value != usual)


_FLOW: Final = {"scheduler": "flow", "noise_offset": 0.0, "train_batch": 1, "embedding_lr": 5e-4}
"""Of transformers: their pictures become noise along a straight way."""

_USUAL: Final[Mapping[str, Mapping[str, object]]] = {
    "Flux2KleinPipeline": {**_FLOW, "steps": 50, "guidance_scale": 4.0},
    "Flux2KleinPipeline, distilled": {**_FLOW, "steps": 4, "guidance_scale": 1.0},
    "ZImagePipeline": {**_FLOW, "steps": 50, "guidance_scale": 5.0},
}
"""What kinds of models like that say nothing themselves, as their makers' own code draws them."""


def defaults_of(folder: Path) -> Defaults:
    """What the base in a folder likes: what its `storyforge.json` says, else what its kind does.

    Raises EnvironmentProblem if that file holds anything else.
    """
    index = _json(folder / "model_index.json")
    kind = str(index.get("_class_name"))
    distilled = f"{kind}, distilled"
    usual = _USUAL.get(distilled if index.get("is_distilled") else kind, {})
    return Defaults.read(folder / DEFAULTS_FILE, usual)


def _json(path: Path) -> dict[str, object]:
    """What a file of JSON says; nothing if it cannot be read."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


@dataclass(frozen=True, slots=True)
class BaseParts:
    """Where a base comes from, as one line says it: `MODEL?vae=…&scheduler=…&prediction=…`.

    model       `pocket`, a path or a hub id
    vae         a path or a hub id; None for the model's own
    scheduler   a scheduler_config.json, or the folder of one; None for the model's own
    prediction  what the U-Net predicts: `epsilon`, `v` or `sample`; None for what the model says
    """

    model: str
    vae: str | None = None
    scheduler: str | None = None
    prediction: str | None = None

    @property
    def reference(self) -> str:
        """The line."""
        said = {name: value for name in _APART if (value := getattr(self, name)) is not None}
        return f"{self.model}?{urlencode(said, safe='/:@')}" if said else self.model

    @staticmethod
    def of(reference: str) -> BaseParts:
        """What the line says; a path may hold a question mark of its own."""
        model, mark, said = reference.rpartition("?")
        values = dict(parse_qsl(said)) if mark else {}
        if not values or values.keys() - set(_APART):
            return BaseParts(reference)
        return BaseParts(model, **values)


_APART: Final = ("vae", "scheduler", "prediction")
"""What of a base may come from elsewhere."""


def is_embedded(reference: str) -> bool:
    """Whether a base is the embedded one, whatever of it comes from elsewhere."""
    return BaseParts.of(reference).model == _EMBEDDED


def is_of_hub(reference: str) -> bool:
    """Whether a base that was found (see `base_at`) lies on the hub: all others are paths."""
    return not (is_embedded(reference) or os.path.isabs(BaseParts.of(reference).model))


def weights_at(model: str) -> Path:
    """Where a model's files lie, by the model of its `BaseParts`; a hub id is no path."""
    return POCKET if model == _EMBEDDED else Path(model)


def files_here(model: str) -> Path:
    """Where a model's files lie on this machine; of a hub id, where the hub's cache has them.

    Nothing is fetched: a hub id of which nothing is here stays what it is, and is no path.
    """
    path = weights_at(model)
    if model == _EMBEDDED or os.path.exists(path) or not HUB_ID.fullmatch(model):
        return path
    # Late: whoever names no hub id need not wait for its library.
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = model.partition("@")
    try:
        found = try_to_load_from_cache(name, "model_index.json", revision=revision or None)
    except (ValueError, OSError):
        return path  # the hub has no such names, nor its cache
    return Path(found).parent if isinstance(found, str) else path


def own_clip(reference: str) -> str | None:
    """How to open the CLIP that a base brings with it; None if it brings none."""
    return _EMBEDDED if is_embedded(reference) else None


def clip_at(reference: str) -> Path:
    """Where a CLIP's files lie; a hub id is no path."""
    return POCKET_CLIP if reference == _EMBEDDED else Path(reference)


def own_adapter(reference: str, drawn: Drawn) -> str | None:
    """The adapter that a base brings for what is drawn; None if it brings none."""
    return _OF_POCKET[drawn] if is_embedded(reference) else None


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The model that a story is drawn with.

    reference  how to open it: `pocket`, an absolute path, or a hub id
    hash       of its weights and of how they are put together; a hub id stands for itself
    defaults   what it likes; the usual ones for a hub id, whose files may not be here yet. Its own
               count when it draws, and its id stands for them in every key

    What is here of a hub id tells `check` more, and changes no key: else a plan would be another
    one as soon as the model is fetched.
    """

    reference: str
    hash: str
    defaults: Defaults = Defaults()


def base_at(reference: str, folder: Path) -> ModelRef:
    """Find a base: the embedded one, a path seen from the folder, or a hub id.

    A hub id stands for itself, with its revision if it names one. Raises EnvironmentProblem if
    there is nothing at a path, or if the base's defaults cannot be read.
    """
    parts = BaseParts.of(reference)
    found = _model_at(parts.model, folder)
    apart = {name: getattr(parts, name) for name in _APART if getattr(parts, name) is not None}
    if not apart:
        return found
    for name in ("vae", "scheduler"):
        if name in apart:
            apart[name], apart[f"{name} hash"] = _part_at(name, apart[name], folder)
    whole = json.dumps({"model": found.hash, **apart}, sort_keys=True)
    named = {name: value for name, value in apart.items() if name in _APART}
    line = BaseParts(found.reference, **named).reference
    return ModelRef(line, hashlib.sha256(whole.encode()).hexdigest(), found.defaults)


def _model_at(reference: str, folder: Path) -> ModelRef:
    if reference == "pocket":
        if not POCKET.is_dir():
            message = "the embedded model is not in this installation"
            raise EnvironmentProblem(message, hint="install storyforge again")
        return _of_files("pocket", POCKET)
    path = beside(folder, reference).absolute()
    if os.path.exists(path):
        return _of_files(str(path), path)
    if path.suffix == ".safetensors" or not HUB_ID.fullmatch(reference):
        hint = "`base` is `pocket`, a folder, a .safetensors file, or a hub id such as `owner/name`"
        raise EnvironmentProblem(f"no model at `{path}`", hint=hint)
    return ModelRef(reference, reference)


def _part_at(name: str, reference: str, folder: Path) -> tuple[str, str]:
    """Where a part of a base is, and its hash."""
    path = beside(folder, reference).absolute()
    if os.path.exists(path):
        return str(path), fingerprint(path, once=True)
    if name == "vae" and path.suffix != ".safetensors" and HUB_ID.fullmatch(reference):
        return reference, reference
    raise EnvironmentProblem(f"no {name} for the base at `{path}`")


def _of_files(reference: str, path: Path) -> ModelRef:
    defaults = defaults_of(path)
    return ModelRef(reference, fingerprint(path, without=DEFAULTS_FILE, once=True), defaults)


@dataclass(frozen=True, slots=True)
class PictureSize:
    """How large a base's pictures are.

    cells   along a side of its own square picture, in the cells of its latents
    scale   pixels along a side of a cell
    scales  all that its decoder can write; its encoder reads the first
    levels  of the U-Net: from each to the next a side has half of the cells
    """

    cells: int
    scale: int
    scales: tuple[int, ...]
    levels: int

    @property
    def side(self) -> int:
        """Pixels along a side of its own square picture."""
        return self.cells * self.scale

    @property
    def coarsest(self) -> int:
        """Cells along a side of the coarsest attention map: in less than one nothing can stand."""
        return -(-self.cells // (1 << (self.levels - 1)))

    @property
    def sides(self) -> tuple[int, ...]:
        """Those that may be asked for instead."""
        return tuple(self.cells * scale for scale in self.scales)


USUAL_SIZE: Final = PictureSize(64, 8, (8,), 4)
"""Of Stable Diffusion 1.x."""


def picture_size(reference: str) -> PictureSize:
    """The size of a base's pictures by its configuration; the usual where that cannot be read.

    Of a hub id that depends on what of it is on this machine, and so may decide about no key.
    """
    model = BaseParts.of(reference).model
    folder = files_here(model)
    if os.path.isdir(folder / "transformer"):
        return _size_of_transformer(folder)
    try:
        unet = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        vae = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
        scale: int = 2 ** (len(vae["block_out_channels"]) - 1)
        cells, levels = int(unet["sample_size"]), len(unet["block_out_channels"])
        kind = str(vae.get("_class_name"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return USUAL_SIZE
    scales = PATCH_SCALES if kind == "PatchAutoencoder" else (scale,)
    return PictureSize(cells, scale, scales, levels)


def _size_of_transformer(folder: Path) -> PictureSize:
    """Of a transformer: a token is two cells of the autoencoder along a side, on one level."""
    vae = _json(folder / "vae" / "config.json")
    widths, side = vae.get("block_out_channels"), vae.get("sample_size")
    scale = 2 ** len(widths) if isinstance(widths, list) else _TOKEN
    side = side if isinstance(side, int) else _SIDE
    return PictureSize(side // scale, scale, (scale,), 1)


_TOKEN: Final = 16
_SIDE: Final = 1024
"""Pixels along a side of a token, and of a picture, where the configuration does not say it."""
