"""Names, shapes and metadata of the tensors in a file, without the tensors.

Safetensors say all of it in their first bytes. Pickles of torch are looked into without running
what they say: every class that they name is a stand-in, and one that belongs to no tensor ends it.
"""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

from storyforge.errors import EnvironmentProblem
from storyforge.headers.names import unfused

PICKLES: Final = (".pt", ".pth", ".bin", ".ckpt")
"""Endings of the files that torch pickles."""

ADAPTER_FILES: Final = ("adapter_model.safetensors", "adapter_model.bin")
"""The tensors in a folder that PEFT saved."""

_CONFIG: Final = "adapter_config.json"
_MOST: Final = 100 << 20
"""Bytes of the longest header that safetensors allow."""
_MAGIC: Final = 0x1950A86A20F9469CFC6C
"""With which the pickles of torch before 1.6 begin."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds.

    shapes    tensor -> its shape; in a pickle, the keys on the way to it are joined by `/`
    types     tensor -> its type, as safetensors name it; empty for a pickle
    metadata  what the writer said; in a pickle, the texts and numbers at its top
    config    what `adapter_config.json` beside the file says; empty without one
    """

    path: Path
    shapes: Mapping[str, Shape]
    types: Mapping[str, str]
    metadata: Mapping[str, str]
    config: Mapping[str, object] = field(default_factory=dict)

    @property
    def pickled(self) -> bool:
        """Whether torch wrote it, as a pickle."""
        return self.path.suffix in PICKLES


def file_in(path: Path) -> Path:
    """The file of tensors: a folder that PEFT saved stands for the one within."""
    found = (path / name for name in ADAPTER_FILES if (path / name).is_file())
    return next(found, path)


def read_header(path: Path) -> Header:
    """Read the header of a safetensors file, of a pickle, or of a folder that PEFT saved.

    Raises:
      EnvironmentProblem: if it cannot be read, or is a pickle that would run code.
    """
    path = file_in(path)
    try:
        if path.suffix in PICKLES:
            shapes, metadata = _pickled(path)
            types: dict[str, str] = {}
        else:
            with path.open("rb") as file:
                shapes, types, metadata = _safetensors(file)
        config = _config(path)
    except (OSError, ValueError, struct.error, KeyError, TypeError, RecursionError) as exc:
        raise EnvironmentProblem(f"cannot read `{path}`: {exc}") from exc
    shapes, types = unfused(shapes, _third), unfused(types, lambda kind, _: kind)
    return Header(path, shapes, types, metadata, config)


def _third(shape: Shape, _: int) -> Shape:
    return (shape[0] // 3 or shape[0], *shape[1:]) if shape else shape


def _safetensors(file: BinaryIO) -> tuple[dict[str, Shape], dict[str, str], dict[str, str]]:
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MOST + 1
    if length > _MOST:
        raise ValueError("it is not a safetensors file")
    said = json.loads(file.read(length))
    metadata = {str(k): str(v) for k, v in said.pop("__metadata__", {}).items()}
    shapes = {name: tuple(int(n) for n in told["shape"]) for name, told in said.items()}
    return shapes, {name: str(told["dtype"]) for name, told in said.items()}, metadata


def _config(path: Path) -> dict[str, object]:
    """What PEFT's config says of the file; the config belongs to files of one name only."""
    config = path.with_name(_CONFIG)
    if path.name not in ADAPTER_FILES or not config.is_file():
        return {}
    said = json.loads(config.read_text(encoding="utf-8"))
    return said if isinstance(said, dict) else {}


@dataclass(frozen=True, slots=True)
class _Stub:
    """What stands in for a tensor."""

    shape: Shape


def _rebuilt(storage: object, offset: object, size: Shape, *rest: object) -> _Stub:
    return _Stub(tuple(size))


def _parameter(data: object, *rest: object) -> object:
    return data


_KNOWN: Final[Mapping[str, Callable[..., object]]] = {
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": OrderedDict,
    "torch.Size": tuple,
}


class _Reader(pickle.Unpickler):
    """Reads the shapes of tensors and what lies around them, and runs nothing."""

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """A stand-in for a class that tensors need; ValueError for any other."""
        full = f"{module}.{name}"
        if full in _KNOWN:
            return _KNOWN[full]
        if module in {"torch", "torch.storage"} and name.endswith(("Storage", "float16", "32")):
            return _Stub
        raise ValueError(f"it holds more than tensors (`{full}`), and is not opened")

    def persistent_load(self, pid: object) -> object:
        """Where a tensor's numbers would lie."""
        return pid


def _pickled(path: Path) -> tuple[dict[str, Shape], dict[str, str]]:
    try:
        found = dict(_flat("", _content(path)))
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError) as exc:
        raise ValueError(f"it is not what torch writes ({exc})") from exc
    shapes = {name: value.shape for name, value in found.items() if isinstance(value, _Stub)}
    texts = {
        name: str(value) for name, value in found.items() if isinstance(value, str | int | float)
    }
    return shapes, texts


def _content(path: Path) -> object:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if not names:
                raise ValueError("it is not what torch writes")
            return _Reader(BytesIO(archive.read(names[0]))).load()
    with path.open("rb") as file:
        if _Reader(file).load() != _MAGIC:
            raise ValueError("it is not what torch writes")
        _Reader(file).load(), _Reader(file).load()  # the version, and the machine's word sizes
        return _Reader(file).load()


def _flat(prefix: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}/{key}" if prefix else str(key), inner)
    else:
        yield prefix, value
