"""Where a base lies on this machine: in a folder of one's own, or in the hub's cache.

What is not here is fetched: of a repository one variant of each part's weights, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

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

from storyforge.errors import EnvironmentProblem
from storyforge.model.weights import chosen_weights, weights_named

INDEX: Final = "model_index.json"
"""What a folder of diffusers says of itself in."""

TAKEN: Final = "storyforge draws with Stable Diffusion 1.x, 2.x, XL, FLUX.2-klein and Z-Image"
"""The remedy for whoever names another kind of model."""

_TABLES: Final = (".json", ".txt", ".jinja")


def folder_of(reference: str) -> Path:
    """Where a base lies on this machine: a path as it is, a hub id's folder in the hub's cache.

    Raises EnvironmentProblem if it is not here and cannot be fetched.
    """
    path = Path(reference)
    return path if path.exists() else _snapshot(reference)


def wanted_files(files: Iterable[str]) -> list[str]:
    """Of a repository's files, those that a base is opened from: one variant of each weights.

    With them come those that state its licence.
    """
    files = list(files)
    parts: dict[str, list[str]] = {}
    wanted = []
    for name in files:
        folder, _, file = name.rpartition("/")
        if name == INDEX or name == "storyforge.json":
            wanted.append(name)
        elif re.fullmatch(r"unet|transformer|vae|scheduler|(text_encoder|tokenizer)(_2)?", folder):
            parts.setdefault(folder, []).append(file)
    for folder, names in parts.items():
        chosen = chosen_weights(names)
        for file in names:
            told = weights_named(file)
            if (told == chosen) if told else file.endswith(_TABLES):
                wanted.append(f"{folder}/{file}")
    about = [name for name in files if re.fullmatch(r"README\.md|LICEN[CS]E[^/]*", name)]
    return sorted(wanted + about) if wanted else []


def _snapshot(reference: str) -> Path:
    """The folder in the hub's cache where a model lies, fetched if there is a network."""
    name, _, revision = reference.partition("@")
    try:
        here = Path(snapshot_download(name, revision=revision or None, local_files_only=True))
        drawn = ((here / part).is_dir() for part in ("unet", "transformer"))
        if (here / INDEX).is_file() and any(drawn):
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
    remedy = f"get its file `{single}` and name that" if single else TAKEN
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
