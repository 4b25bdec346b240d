"""Which files of weights in a folder are read, and how: any variant, any precision, no pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from diffusers import UNet2DConditionModel
from torch import nn

from storyforge.errors import EnvironmentProblem
from storyforge.headers.checked import head_of
from storyforge.headers.parts import weights_here, weights_trouble
from storyforge.model.heap import trim_heap
from storyforge.model.kept_weights import keep_layer

_WEIGHTS: Final = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)"
    r"(?:\.(?P<variant>[\w-]+?))?(?:-\d+-of-\d+)?\.(?P<ending>safetensors|bin)"
)
_HALF: Final = "fp16"
_Model = TypeVar("_Model")


def json_in(path: Path) -> dict[str, object]:
    """What a configuration says; nothing if there is none.

    Raises EnvironmentProblem if it cannot be read.
    """
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc
    return made if isinstance(made, dict) else {}


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which of the files of weights in a folder are read."""

    variant: str | None
    safe: bool


def weights_named(name: str) -> Chosen | None:
    """To which of a folder's weights a file belongs, by its name; None if it holds none."""
    match = _WEIGHTS.fullmatch(name)
    return match and Chosen(match["variant"], match["ending"] == "safetensors")


def chosen_weights(names: Iterable[str], half: bool = False) -> Chosen | None:
    """Of the names of files, which weights to read; None if there are none.

    Those of no variant before others, safetensors before pickles; `half` likes fp16 better.
    """
    liked = _HALF if half else ""

    def rank(each: Chosen) -> tuple[bool, bool, str]:
        """What is to be preferred comes first."""
        variant = each.variant or ""
        return not each.safe, variant != liked, variant

    return min(filter(None, map(weights_named, names)), key=rank, default=None)


def weighed(kind: type[_Model], folder: Path, dtype: torch.dtype) -> _Model:
    """A model in its folder, of whichever variant is there.

    Raises EnvironmentProblem if there is none, or only a pickle.
    """
    chosen = chosen_in(folder, half=dtype == torch.float16)
    made: _Model = kind.from_pretrained(  # type: ignore[attr-defined]
        folder, variant=chosen.variant, use_safetensors=True, dtype=dtype
    )
    return made


def chosen_in(folder: Path, half: bool = False) -> Chosen:
    """Which of the weights in a folder are read.

    Raises EnvironmentProblem if there are none, only a pickle, or they are broken.
    """
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    chosen = chosen_weights(names, half)
    if chosen is None:
        raise EnvironmentProblem(f"there are no weights in `{folder}`", hint="get the model anew")
    if not chosen.safe:
        raise EnvironmentProblem(
            f"there is only a pickle in `{folder}`, which may run code when it is opened",
            hint="get the .safetensors files; diffusers' `save_pretrained` writes them, too",
        )
    first = next(file for file in weights_here(folder) if weights_named(file.name) == chosen)
    if (trouble := weights_trouble(first)) is not None:
        raise EnvironmentProblem(f"`{folder}` {trouble.what}", hint=trouble.remedy)
    return chosen


def unet_in(
    folder: Path, dtype: torch.dtype, *, kept: torch.dtype | None = None
) -> UNet2DConditionModel:
    """The U-Net, by far the largest part: in another precision than its file's, it is read one
    weight after the other, since both of them at once are more than drawing needs.

    kept  how its blocks' weights are kept as they are read, if in fewer bits; not those of several
          files

    Raises EnvironmentProblem or ValueError, which say why, if it cannot be read.
    """
    files = list(folder.glob("*.safetensors"))
    whole = len(files) == 1 and "-of-" not in files[0].name
    plain = dtype == torch.float32 and kept is None
    if plain or not whole or _has_other_types(files[0]):
        return weighed(UNet2DConditionModel, folder, dtype)
    with init_empty_weights():
        made: UNet2DConditionModel = UNet2DConditionModel.from_config(
            UNet2DConditionModel.load_config(folder)
        )
    tensors = _one_by_one(files[0], dtype)
    if kept is not None and head_of(files[0]).tensors.keys() == made.state_dict().keys():
        _read_narrow(made.requires_grad_(False), tensors, kept)
    else:
        made.load_state_dict(dict(tensors), assign=True)
    trim_heap()  # before the other parts come
    return made


def _read_narrow(
    model: nn.Module, tensors: Iterable[tuple[str, torch.Tensor]], kept: torch.dtype
) -> None:
    """Give a model all of its weights, each kept in few bits before the next is there.

    Raises ValueError for one of another shape.
    """
    for index, (name, tensor) in enumerate(tensors):
        owner, _, part = name.rpartition(".")
        layer = model.get_submodule(owner)
        if (shape := layer.get_parameter(part).shape) != tensor.shape:
            raise ValueError(f"`{name}` is {tuple(tensor.shape)} and not {tuple(shape)}")
        setattr(layer, part, nn.Parameter(tensor, requires_grad=False))
        if part == "weight":
            keep_layer(layer, owner, kept)
        if index % _OFTEN == 0:
            trim_heap()  # holes between what is kept were a third of it


def _has_other_types(file: Path) -> bool:
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


_OFTEN: Final = 64
"""Weights after which what was freed goes back to the system."""

_TYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
"""How safetensors call the types that a U-Net's numbers may be in."""
