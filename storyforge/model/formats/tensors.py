"""The tensors of a file, read without running code, and never one that is not finite."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from storyforge.errors import EnvironmentProblem
from storyforge.headers.header import Header, file_in, read_header
from storyforge.headers.names import unfused


def read_tensors(path: Path) -> tuple[Header, dict[str, torch.Tensor]]:
    """The header and every tensor of a file, named as the header names them.

    Raises:
      EnvironmentProblem: if it cannot be read, holds code, or holds a number that is none.
    """
    header, tensors = raw_tensors(path)
    for name, tensor in tensors.items():
        if not finite(tensor):
            raise EnvironmentProblem(
                f"`{path}` is broken: `{name}` holds numbers that are not finite",
                hint="it would make every picture black; get the file again, or train it again",
            )
    return header, tensors


def finite(tensor: torch.Tensor) -> bool:
    """Whether every number of a tensor is one."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor.float()).all())


def raw_tensors(path: Path) -> tuple[Header, dict[str, torch.Tensor]]:
    """The same, whatever its numbers are."""
    header = read_header(path)
    path = file_in(path)
    try:
        if header.pickled:
            content = torch.load(path, map_location="cpu", weights_only=True)
            tensors = dict(_flat("", content))
        else:
            tensors = load_file(path)
    except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as exc:
        reason = next(iter(str(exc).splitlines()), type(exc).__name__)
        raise EnvironmentProblem(f"cannot read `{path}`: {reason}", hint="get it again") from exc
    return header, unfused(tensors, _third)


def _third(rows: torch.Tensor, index: int) -> torch.Tensor:
    count = len(rows) // 3 if rows.dim() else 0
    return rows[index * count : (index + 1) * count] if count else rows


def _flat(prefix: str, value: object) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}/{key}" if prefix else str(key), inner)
    elif isinstance(value, torch.Tensor):
        yield prefix, value.detach()
