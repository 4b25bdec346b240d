"""The components of a base: from a folder of diffusers, one file of weights, or the hub.

A folder may have its weights as one variant only (`*.fp16.safetensors`), and a single file is read
without a network by configurations that come with storyforge. Read are Stable Diffusion 1.x, 2.x
and XL, and as folders FLUX.2-klein and Z-Image; what is of another kind is refused by its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeAlias

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from storyforge.errors import EnvironmentProblem
from storyforge.headers.checked import head_of
from storyforge.model.dit.door import PATCH, Door, stock_pipeline
from storyforge.model.dit.doors import DOORS
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.model.vocabulary import CONFIGS, TOKENS, clip_vocabulary

_INDEX: Final = "model_index.json"
_WEIGHTS: Final = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<variant>[\w-]+?))?(?:-\d+-of-\d+)?\.(?P<ending>safetensors|bin)"
)
_TAKEN: Final = "storyforge draws with Stable Diffusion 1.x, 2.x, XL, FLUX.2-klein and Z-Image"
_HALF: Final = "fp16"
_CHANNELS: Final = {
    9: "an inpainting model",
    8: "a model that edits pictures",
    5: "a depth-guided model",
}
_PREDICTIONS: Final = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}
"""What an author calls what a U-Net predicts, and what diffusers calls it."""


@dataclass(frozen=True, slots=True)
class Components:
    """What a base is put together from.

    text_encoder_2, tokenizer_2  of SDXL; None in models with one text encoder
    empty_is_zero                the empty prompt is not read: its features are zeros
    door                         of a transformer, which then stands in `unet`; else None
    """

    unet: UNet2DConditionModel
    vae: Vae
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler_config: dict[str, object]
    text_encoder_2: CLIPTextModelWithProjection | None = None
    tokenizer_2: CLIPTokenizer | None = None
    empty_is_zero: bool = False
    door: Door | None = None


def components_of(reference: str, dtype: torch.dtype, prediction: str | None = None) -> Components:
    """Open a folder, a `.safetensors` file or a hub id; the VAE is in float32.

    Args:
      reference: an absolute path, or a hub id with or without `@revision`.
      dtype: precision of U-Net and text encoders.
      prediction: `epsilon`, `v` or `sample`, where the base itself does not say it rightly.

    Raises:
      EnvironmentProblem: if it cannot be found or read, or is of another kind.
    """
    path = Path(reference)
    if path.is_dir():
        made = _of_folder(path, dtype)
    elif path.is_file():
        made = _of_file(path, dtype, prediction)
    else:
        made = _of_folder(folder_of(reference), dtype)
    _check_vae(made.vae, made, reference)
    if prediction is None:
        return made
    said = {"prediction_type": _PREDICTIONS[prediction]}
    return replace(made, scheduler_config=made.scheduler_config | said)


def folder_of(reference: str) -> Path:
    """Where a base lies on this machine: a path as it is, a hub id's folder in the hub's cache.

    Raises EnvironmentProblem if it is not here and cannot be fetched.
    """
    path = Path(reference)
    return path if path.exists() else _snapshot(reference)


def _of_folder(folder: Path, dtype: torch.dtype) -> Components:
    index = _json(folder / _INDEX)
    if str(index.get("_class_name")) in DOORS:
        return _of_transformer(folder, DOORS[str(index["_class_name"])], dtype)
    second = "text_encoder_2" in index and index["text_encoder_2"] != [None, None]
    _check_kind(folder, index)
    text_encoder = _weighed(CLIPTextModel, folder / "text_encoder", dtype)
    text_encoder_2 = tokenizer_2 = None
    if second:
        text_encoder_2 = _weighed(CLIPTextModelWithProjection, folder / "text_encoder_2", dtype)
        tokenizer_2 = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
    return Components(
        unet=_unet_in(folder / "unet", dtype),
        vae=_vae_in(folder / "vae"),
        text_encoder=text_encoder,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler_config=scheduler_config_in(folder / "scheduler"),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        empty_is_zero=second and bool(index.get("force_zeros_for_empty_prompt", True)),
    )


def _of_transformer(folder: Path, door: Door, dtype: torch.dtype) -> Components:
    """A transformer and what belongs to it, in the places of a U-Net and a CLIP."""
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    _check_whole(folder, parts)
    for part in parts[:3]:
        _chosen_in(folder / part)
    whole = stock_pipeline(door).from_pretrained(
        folder,
        dtype={"default": dtype, "vae": torch.float32},
        variant=_variant_in(folder),
        use_safetensors=True,
        local_files_only=True,
    )
    return Components(
        unet=whole.transformer,
        vae=whole.vae,
        text_encoder=whole.text_encoder,
        tokenizer=whole.tokenizer,
        scheduler_config=scheduler_config_in(folder / "scheduler"),
        door=door,
    )


def _variant_in(folder: Path) -> str | None:
    """The variant of a transformer's weights, where there are no others."""
    chosen = chosen_weights(file.name for file in (folder / "transformer").iterdir())
    return chosen.variant if chosen else None


def _check_whole(folder: Path, parts: Sequence[str]) -> None:
    if lacking := [part for part in parts if not (folder / part).is_dir()]:
        named = ", ".join(f"`{part}`" for part in lacking)
        raise EnvironmentProblem(f"`{folder}` lacks {named}", hint="get the whole model anew")


def _check_kind(folder: Path, index: dict[str, object]) -> None:
    """Refuse what is not of Stable Diffusion's kind, or not whole."""
    kind = str(index.get("_class_name", "no pipeline"))
    if not index:
        raise EnvironmentProblem(
            f"`{folder}` holds no {_INDEX}",
            hint="name the folder that diffusers saved, or a .safetensors file",
        )
    parts = ["unet", "vae", "text_encoder", "tokenizer", "scheduler"]
    if "unet" not in index or not kind.startswith("StableDiffusion"):
        raise EnvironmentProblem(f"`{folder}` is a {kind}", hint=_TAKEN)
    _check_whole(folder, parts)
    unet, vae = _json(folder / "unet" / "config.json"), _json(folder / "vae" / "config.json")
    _check_channels(str(folder), unet.get("in_channels", 4), vae.get("latent_channels", 4))


def _check_channels(name: str, channels: object, latents: object) -> None:
    if channels != latents:
        kind = _CHANNELS.get(channels, "another kind of model") if isinstance(channels, int) else ""
        raise EnvironmentProblem(
            f"`{name}` is {kind}: its U-Net reads {channels} channels, not {latents}", hint=_TAKEN
        )


def _json(path: Path) -> dict[str, object]:
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc
    return made if isinstance(made, dict) else {}


def scheduler_config_in(path: Path) -> dict[str, object]:
    """The noise schedule that a file, or the `scheduler_config.json` in a folder, says.

    Raises EnvironmentProblem if there is none.
    """
    file = path / "scheduler_config.json" if path.is_dir() else path
    if not file.is_file():
        raise EnvironmentProblem(f"there is no scheduler_config.json at `{path}`")
    return _json(file)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which of the files of weights in a folder are read."""

    variant: str | None
    safe: bool


def chosen_weights(names: Iterable[str], half: bool = False) -> _Chosen | None:
    """Of the names of files, which weights to read; None if there are none.

    Those of no variant before others, safetensors before pickles; `half` likes fp16 better.
    """
    found = [match for match in map(_WEIGHTS.fullmatch, names) if match]

    def rank(match: re.Match[str]) -> tuple[bool, bool, str]:
        """The file to be preferred comes first."""
        variant = match["variant"] or ""
        liked = _HALF if half else ""
        return match["ending"] != "safetensors", variant != liked, variant

    best = min(found, key=rank, default=None)
    return best and _Chosen(best["variant"], best["ending"] == "safetensors")


def _unet_in(folder: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    """The U-Net, by far the largest part: in another precision than its file's, it is read one
    weight after the other, since both of them at once are more than drawing needs."""
    files = list(folder.glob("*.safetensors"))
    if dtype == torch.float32 or len(files) != 1 or "-of-" in files[0].name or _strange(files[0]):
        made: UNet2DConditionModel = _weighed(UNet2DConditionModel, folder, dtype)
        return made
    with init_empty_weights():
        made = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder))
    made.load_state_dict(dict(_one_by_one(files[0], dtype)), assign=True)
    return made


def _strange(file: Path) -> bool:
    """Whether a file has numbers of a type that is not read one weight after the other.

    Raises ValueError, which says why, if it is broken.
    """
    return any(told.dtype not in _TYPES for told in head_of(file).tensors.values())


def _one_by_one(file: Path, dtype: torch.dtype) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a file in a precision; not mapped into memory, where they would stay."""
    tensors = head_of(file).tensors
    with file.open("rb") as stream:
        for name, told in tensors.items():
            stream.seek(told.begin)
            # Into a tensor's own memory: read as bytes, a weight would be here once more.
            made = torch.empty(told.shape, dtype=_TYPES[told.dtype])
            if made.numel():
                stream.readinto(made.view(-1).view(torch.uint8).numpy().data)
            yield name, made.to(dtype)


_TYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
}
"""How safetensors call the types that a U-Net's numbers may be in."""


Vae: TypeAlias = AutoencoderKL | AutoencoderKLFlux2 | PatchAutoencoder

_VAES: Final[dict[str, type[Vae]]] = {
    kind.__name__: kind for kind in (AutoencoderKL, AutoencoderKLFlux2, PatchAutoencoder)
}


def _vae_in(folder: Path) -> Vae:
    """An autoencoder in its folder, of the class that its configuration names."""
    name = str(_json(folder / "config.json").get("_class_name", AutoencoderKL.__name__))
    if name not in _VAES:
        raise EnvironmentProblem(f"the autoencoder in `{folder}` is a {name}, which is not read")
    made: Vae = _weighed(_VAES[name], folder, torch.float32)
    return made


_Kind = type[UNet2DConditionModel | Vae | CLIPTextModel | CLIPTextModelWithProjection]


def _weighed(kind: _Kind, folder: Path, dtype: torch.dtype):  # type: ignore[no-untyped-def] # noqa: ANN202
    """A model in its folder, of whichever variant is there."""
    chosen = _chosen_in(folder, half=dtype == torch.float16)
    return kind.from_pretrained(folder, variant=chosen.variant, use_safetensors=True, dtype=dtype)


def _chosen_in(folder: Path, half: bool = False) -> _Chosen:
    """Which of the weights in a folder are read; no pickle is."""
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    chosen = chosen_weights(names, half)
    if chosen is None:
        raise EnvironmentProblem(f"there are no weights in `{folder}`", hint="get the model anew")
    if not chosen.safe:
        raise EnvironmentProblem(
            f"there is only a pickle in `{folder}`, which may run code when it is opened",
            hint="get the .safetensors files; diffusers' `save_pretrained` writes them, too",
        )
    return chosen


def clip_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """The tokenizer of every Stable Diffusion; what fills a prompt up differs between encoders."""
    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(vocabulary, merges, pad_token=pad, model_max_length=TOKENS)


def _of_file(path: Path, dtype: torch.dtype, prediction: str | None) -> Components:
    family, said = _family_of_file(path, prediction)
    folder = CONFIGS / family
    tokenizers = {"tokenizer": clip_tokenizer()}
    if family == "sd2":
        tokenizers = {"tokenizer": clip_tokenizer(pad="!")}
    if family == "sdxl":
        tokenizers["tokenizer_2"] = clip_tokenizer(pad="!")
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    told = {"config": str(folder), "local_files_only": True}
    # Apart from the rest: in half of its precision first, it would be rounded.
    vae = AutoencoderKL.from_single_file(str(path), subfolder="vae", dtype=torch.float32, **told)
    pipe: DiffusionPipeline = kind.from_single_file(
        str(path), vae=vae, dtype=dtype, **told, **tokenizers
    )
    return Components(
        unet=pipe.unet,
        vae=vae,
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        scheduler_config=scheduler_config_in(folder / "scheduler") | said,
        text_encoder_2=getattr(pipe, "text_encoder_2", None),
        tokenizer_2=getattr(pipe, "tokenizer_2", None),
        empty_is_zero=family == "sdxl",
    )


_UNET: Final = "model.diffusion_model."
_MARKS: Final = {
    "conditioner.embedders.1.model.": "sdxl",
    "cond_stage_model.model.": "sd2",
    "cond_stage_model.transformer.": "sd1",
}
"""Beginning of the text encoder's names -> the family in whose files they stand."""

_OTHERS: Final = {
    "double_blocks": "FLUX",
    "joint_blocks": "Stable Diffusion 3",
    "cap_embedder": "Z-Image or Lumina",
    "conditioner.embedders.0.model.": "the refiner of SDXL",
    "lora": "a LoRA",
}


def _family_of_file(path: Path, prediction: str | None) -> tuple[str, dict[str, object]]:
    """Which configurations a file belongs to, and what it says of its noise schedule."""
    if path.suffix != ".safetensors":
        raise EnvironmentProblem(
            f"`{path}` is not a .safetensors file",
            hint="other files can hold code, which nobody should run: get it as .safetensors",
        )
    with safe_open(path, "pt") as file:
        names = set(file.keys())
        first = f"{_UNET}input_blocks.0.0.weight"
        channels = file.get_slice(first).get_shape()[1] if first in names else 4
    family = next((f for m, f in _MARKS.items() if any(n.startswith(m) for n in names)), None)
    if family is None or not any(name.startswith(_UNET) for name in names):
        other = next((k for m, k in _OTHERS.items() if any(m in n for n in names)), None)
        what = f"is {other}" if other else "holds no U-Net with a text encoder"
        raise EnvironmentProblem(f"`{path}` {what}", hint=_TAKEN)
    _check_channels(str(path), channels, 4)
    said: dict[str, object] = {}
    if "v_pred" in names:  # two marks that trainers of SDXL leave
        said["prediction_type"] = "v_prediction"
    if "ztsnr" in names:
        said |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if family == "sd2" and prediction is None:
        said["prediction_type"] = _said_beside(path)
    return family, said


def _said_beside(path: Path) -> str:
    """What a file of SD 2.x predicts, which only the configuration beside it can tell."""
    beside = path.with_suffix(".yaml")
    if not beside.is_file():
        raise EnvironmentProblem(
            f"`{path}` is a Stable Diffusion 2.x, and does not say what it predicts",
            hint=f"write `base: {{model: {path.name}, prediction: v}}` for those of 768 pixels, "
            "`prediction: epsilon` for those of 512",
        )
    text = beside.read_text(encoding="utf-8", errors="replace")
    return "v_prediction" if re.search(r"parameterization:\s*[\"']?v\b", text) else "epsilon"


_TABLES: Final = (".json", ".txt", ".jinja")


def wanted_files(files: Iterable[str]) -> list[str]:
    """Of a repository's files, those that a base is opened from: one variant of each weights."""
    parts: dict[str, list[str]] = {}
    wanted = []
    for name in files:
        folder, _, file = name.rpartition("/")
        if name == _INDEX or name == "storyforge.json":
            wanted.append(name)
        elif re.fullmatch(r"unet|transformer|vae|scheduler|(text_encoder|tokenizer)(_2)?", folder):
            parts.setdefault(folder, []).append(file)
    for folder, names in parts.items():
        chosen = chosen_weights(names)
        for file in names:
            match = _WEIGHTS.fullmatch(file)
            same = match and _Chosen(match["variant"], match["ending"] == "safetensors") == chosen
            if same or (not match and file.endswith(_TABLES)):
                wanted.append(f"{folder}/{file}")
    return sorted(wanted)


def _snapshot(reference: str) -> Path:
    """The folder in the hub's cache where a model lies, fetched if there is a network."""
    name, _, revision = reference.partition("@")
    try:
        here = Path(snapshot_download(name, revision=revision or None, local_files_only=True))
        drawn = ((here / part).is_dir() for part in ("unet", "transformer"))
        if (here / _INDEX).is_file() and any(drawn):
            return here
    except LocalEntryNotFoundError:
        pass  # nothing of it was ever fetched
    try:
        files = HfApi().list_repo_files(name, revision=revision or None)
        if wanted := wanted_files(files):
            got = snapshot_download(name, revision=revision or None, allow_patterns=wanted)
            return Path(got)
    except (HTTPError, HfHubHTTPError, EntryNotFoundError, OfflineModeIsEnabled, OSError) as exc:
        raise _not_fetched(name, revision, exc) from exc
    single = next((each for each in files if each.endswith(".safetensors")), None)
    remedy = f"get its file `{single}` and name that" if single else _TAKEN
    raise EnvironmentProblem(f"`{name}` on the hub is not a folder of diffusers", hint=remedy)


def _not_fetched(name: str, revision: str, exc: Exception) -> EnvironmentProblem:
    """Why a model of the hub is not here, in one sentence."""
    if isinstance(exc, GatedRepoError):
        message = f"`{name}` is only for those whom its owners let in"
        return EnvironmentProblem(
            message, hint="accept its terms on its page, then `hf auth login`"
        )
    if isinstance(exc, RevisionNotFoundError):
        return EnvironmentProblem(f"`{name}` on the hub has no revision `{revision}`")
    if isinstance(exc, RepositoryNotFoundError):
        message = f"there is no model `{name}`, neither here nor on the hub"
        return EnvironmentProblem(
            message, hint="`base:` takes a folder, a .safetensors file or an id"
        )
    return EnvironmentProblem(
        f"`{name}` lies on the hub, and the hub cannot be reached",
        hint=f"where there is a network, run `hf download {name}`; or name a folder or a file",
    )


def vae_of(reference: str, base: Components) -> Vae:
    """A VAE in float32: its folder, a base's folder, a `.safetensors` file, or a hub id.

    A file says nothing of its shape and scale: they are those of the base's own.

    Raises EnvironmentProblem if it cannot be found or read, or is none for this base.
    """
    path = Path(reference)
    try:
        if path.is_file():
            made = _vae_of_file(path, base.vae)
        else:
            folder = path if path.is_dir() else _snapshot(reference)
            made = _vae_in(folder / "vae" if (folder / "vae").is_dir() else folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as exc:
        raise EnvironmentProblem(f"cannot open the VAE `{reference}`: {exc}") from exc
    _check_vae(made, base, reference)
    return made


def _vae_of_file(path: Path, like: Vae) -> Vae:
    """One file, by diffusers' names or, of Stable Diffusion's, by the makers'."""
    weights = load_file(path)
    if weights.keys() == like.state_dict().keys():
        made: Vae = type(like).from_config(like.config)
        made.load_state_dict(weights)
        return made.to(torch.float32)
    if not isinstance(like, AutoencoderKL):
        message = f"`{path}` does not hold the weights of a {type(like).__name__}"
        raise EnvironmentProblem(message, hint="name the folder of the VAE")
    with TemporaryDirectory() as config:
        like.save_config(config)
        single: Vae = AutoencoderKL.from_single_file(
            str(path), config=config, local_files_only=True, dtype=torch.float32
        )
    return single


def _check_vae(vae: Vae, base: Components, name: str) -> None:
    """Raise EnvironmentProblem if a VAE is none for this base."""
    kinds: tuple[type[Vae], ...] = (AutoencoderKL, PatchAutoencoder)
    wanted = int(base.unet.config.in_channels)
    if base.door is not None:
        kinds, wanted = (base.door.autoencoder,), base.door.channels(base.unet) // PATCH**2
    if not isinstance(vae, kinds):
        message = f"the VAE of `{name}` is a {type(vae).__name__}"
        raise EnvironmentProblem(message, hint=f"this base takes a {kinds[0].__name__}")
    if int(vae.config.latent_channels) != wanted:
        raise EnvironmentProblem(
            f"the VAE of `{name}` makes latents of {vae.config.latent_channels} channels, and this "
            f"base draws in {wanted}",
            hint="name one that was made for this kind of base",
        )
