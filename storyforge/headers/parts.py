"""Whether the parts of a base are whole, told without opening them: weights, words, schedules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from storyforge.headers.checked import head_of, json_of

INDEX: Final = "model_index.json"
"""What a folder of diffusers says of itself in."""

_WORDS: Final = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""Files that a tokenizer is read from: either all of the first or all of the second."""

_SCHEDULE: Final = "scheduler_config.json"

_READ: Final = re.compile(r"unet|transformer|vae|scheduler|(text_encoder|tokenizer)(_2)?")
"""Folders of the parts that are read."""

_SHARD: Final = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<ending>\.\w+)")


@dataclass(frozen=True, slots=True)
class BaseTrouble:
    """Why a base cannot be drawn with.

    what    the sentence, without the base's name before it
    remedy  what helps
    """

    what: str
    remedy: str


def a_class(name: str) -> str:
    """`a KolorsPipeline`, `an EulerDiscreteScheduler`."""
    return f"an {name}" if name.startswith(tuple("AEIOU")) else f"a {name}"


def json_in(path: Path) -> dict[str, object]:
    """What a configuration says; nothing if it cannot be read."""
    return _said(path) or {}


def _said(path: Path) -> dict[str, object] | None:
    try:
        said = json_of(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None


def config_trouble(folder: Path) -> BaseTrouble | None:
    """Which of the configurations in a base's folder is there and cannot be read."""
    configs = (f for f in folder.glob("*/*config.json") if _READ.fullmatch(f.parent.name))
    for file in (folder / INDEX, *sorted(configs)):
        if file.exists() and _said(file) is None:
            name = file.relative_to(folder).as_posix()
            return BaseTrouble(f"has a `{name}` that cannot be read", "get that file again")
    return None


def words_trouble(folder: Path) -> BaseTrouble | None:
    """Why a tokenizer's folder holds no vocabulary; None if it does."""
    if any(all((folder / name).is_file() for name in names) for names in _WORDS):
        return None
    return BaseTrouble(
        f"has no vocabulary in `{folder.name}/`",
        "get its tokenizer.json, or its vocab.json and merges.txt, as well",
    )


def schedule_file(path: Path) -> Path:
    """The file of a noise schedule: itself, or the one in its folder or in a model's folder."""
    folder = path / "scheduler" if (path / "scheduler").is_dir() else path
    return folder / _SCHEDULE if folder.is_dir() else path


def schedule_trouble(path: Path, *, joint: bool, where: str = "") -> BaseTrouble | None:
    """Why a noise schedule is none for a base; None if it is.

    path   see `schedule_file`
    joint  whether the base is a transformer
    where  in words, if the base itself brings it
    """
    file = schedule_file(path)
    if not file.is_file():
        return BaseTrouble(f"has no {_SCHEDULE}{where}", "get that file as well")
    said = _said(file)
    if said is None and file == path:
        return BaseTrouble(f"is no {_SCHEDULE}", "name another")
    if said is None:
        return BaseTrouble(f"has a {_SCHEDULE}{where} that cannot be read", "get that file again")
    name = str(said.get("_class_name", "schedule of no name"))
    betas = any(said.get(key) is not None for key in ("beta_start", "trained_betas"))
    flows = name.startswith("FlowMatch")
    # Built from another kind's configuration, a schedule would have its own defaults instead.
    if (flows and not betas) if joint else (betas and not flows):
        return None
    wanted = "a FlowMatchEulerDiscreteScheduler" if joint else "one with `beta_start`"
    verb, remedy = ("has", "get the model with its own") if where else ("is", "name another")
    said_of = f"{verb} {a_class(name)}{where}"
    return BaseTrouble(f"{said_of}, and this base takes {wanted}", remedy)


def weights_trouble(file: Path, where: str = "") -> BaseTrouble | None:
    """What is broken in a file of weights or in those that it goes on in; `where`, before names."""
    for each in _all_of(file):
        if not each.is_file():
            return BaseTrouble(f"lacks `{where}{each.name}`", "get that file as well")
        try:
            head_of(each)
        except (OSError, ValueError) as exc:
            said = str(exc) if isinstance(exc, ValueError) else "it cannot be read"
            return BaseTrouble(f"has a broken `{where}{each.name}`: {said}", "get that file again")
    return None


def _all_of(file: Path) -> list[Path]:
    """The file, or all parts of what it is a part of, up to the first that is not there."""
    match = _SHARD.fullmatch(file.name)
    if match is None:
        return [file]
    digits, found = len(match["number"]), []
    for number in range(1, int(match["count"]) + 1):
        name = f"{match['stem']}-{number:0{digits}}-of-{match['count']}{match['ending']}"
        found.append(file.with_name(name))
        if not found[-1].is_file():
            break
    return found


def pickle_trouble(file: Path) -> BaseTrouble:
    """The trouble with a file that was named and is a pickle."""
    return BaseTrouble(
        f"is a pickle (`{file.suffix}`), which could run code when it is opened",
        "convert it to .safetensors, or get it in that form",
    )


def only_pickle_trouble(file: Path, where: str = "") -> BaseTrouble:
    """The trouble with a folder whose weights are there as a pickle alone; `where`, in words."""
    return BaseTrouble(
        f"has only a pickle{where} (`{file.name}`), which may run code when it is opened",
        "get the .safetensors files; diffusers' `save_pretrained` writes them, too",
    )


def weights_here(folder: Path) -> list[Path]:
    """The files of weights, safetensors before pickles, whole before a variant's."""
    found = [f for ending in ("*.safetensors", "*.bin") for f in sorted(folder.glob(ending))]

    def rank(file: Path) -> tuple[bool, int, bool]:
        """What is read first, of several."""
        return file.suffix != ".safetensors", file.name.count("."), "-of-" in file.name

    return sorted(found, key=rank)
