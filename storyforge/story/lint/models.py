"""Models and files of other tools, looked into before an hour is spent: the base, LoRAs, concepts.

Only headers and configurations are read, and whether every number is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from storyforge.errors import EnvironmentProblem, Report, shortened
from storyforge.headers.autoencoders import vae_trouble
from storyforge.headers.bases import BaseHeader, look_at_base
from storyforge.headers.fewsteps import few_steps_of
from storyforge.headers.finite import broken_in
from storyforge.headers.fit import misfit
from storyforge.headers.header import ADAPTER_FILES, PICKLES, read_header
from storyforge.headers.kinds import (
    ADAPTERS,
    CONCEPTS,
    UNREAD,
    Described,
    describe,
    licence_of,
    trigger_of,
)
from storyforge.headers.parts import schedule_trouble
from storyforge.headers.whole import unsound
from storyforge.modelref import HUB_ID, POCKET, BaseParts, base_at, files_here, is_embedded
from storyforge.pictures import beside
from storyforge.story.lint.cast import GROUPS
from storyforge.story.lint.joint import check_joint
from storyforge.story.yaml import Node

_FILES: Final = (".safetensors", *PICKLES)

_BOUND: Final = (
    # a licence's words -> what they ask for
    (("-nc", "noncommercial", "non-commercial", "research"), "is not for sale"),
    (
        ("-sa", "sharealike", "share-alike", "gpl", "fair-ai", "fair ai"),
        "asks that what is made of it is shared alike",
    ),
)


def is_model_file(path: Path) -> bool:
    """Whether the path is a file of tensors, or a folder that PEFT saved."""
    if os.path.isdir(path):
        return any(os.path.isfile(path / name) for name in ADAPTER_FILES)
    return path.suffix in _FILES and os.path.isfile(path)


def check_models(root: Node, folder: Path, report: Report) -> None:
    """Whether the base can be drawn with, and every LoRA and concept of others belongs to it."""
    base = _check_base(root, folder, report)
    if base is not None and base.joint and base.family is not None:
        check_joint(root, base.family, report)
    for lora in (root.get("sampling") or root).each("lora"):
        node = lora.get("file")
        path = _there(node, folder)
        if node is not None and path is not None:
            _check_adapter(node, path, base, report)
            if base is None or not base.joint:
                _check_steps(node, path, root, report)
    for node in _cast(root):
        path = _there(node, folder)
        if path is not None:
            _check_concept(node, path, base, report)
            _check_learnt_on(node, path, root, folder, report)


def _cast(root: Node) -> Iterator[Node]:
    for group in GROUPS:
        yield from root.named(group).values()


def _there(node: Node | None, folder: Path) -> Path | None:
    """The model's file that is written there; None if there is none, which others tell."""
    path = beside(folder, (node.text if node is not None else None) or ".")
    return path if is_model_file(path) else None


def transformer_of(root: Node, folder: Path) -> str | None:
    """What its makers call the story's base, if it is here and a transformer; else None."""
    node = _base_node(root)
    path = None if node is None else _base_here(node.text or "", folder)
    base = None if path is None else look_at_base(path)
    return base.family if base is not None and base.joint and base.trouble is None else None


def _base_node(root: Node) -> Node | None:
    """Where a story names its base; None for the embedded one."""
    node = root.get("base")
    if node is not None and node.entries is not None:
        node = node.get("model")
    return None if node is None or node.text is None or is_embedded(node.text) else node


def _check_base(root: Node, folder: Path, report: Report) -> BaseHeader | None:
    """What the base says of itself; None if it is elsewhere, or cannot be drawn with."""
    base, whole = _check_model(root, folder, report), root.get("base")
    for name in _APART:
        node = None if whole is None else whole.get(name)
        if node is not None and node.text:
            _check_apart(name, node, base, folder, report)
    return base


def _check_model(root: Node, folder: Path, report: Report) -> BaseHeader | None:
    """The same of the model alone, without what comes from elsewhere."""
    node = _base_node(root)
    if node is None or node.text is None:
        return look_at_base(POCKET)
    path = _base_here(node.text, folder)
    if path is None:
        return None
    base = look_at_base(path)
    if base.trouble is not None:
        message = f"`{shortened(node.text)}` {base.trouble.what}; {base.trouble.remedy}"
        report.error(node.mark, "SF330", message)
        return None
    _check_licence(node, base.licence, report)
    return base


def _check_apart(
    name: str, node: Node, base: BaseHeader | None, folder: Path, report: Report
) -> None:
    """Whether a VAE or a noise schedule from elsewhere is there, and one for the base."""
    said = node.text or ""
    path = _base_here(said, folder)
    if name == "scheduler" and not os.path.exists(beside(folder, said)):
        path = None  # what the hub's cache has of that name is not looked for
    if path is None:
        message = f"no {name} at `{shortened(said)}` on this machine"
        if said.startswith((".", "/", "~")) or said.endswith((".safetensors", ".json")):
            report.warning(node.mark, "SF421", f"{message}; nothing can be drawn")
        elif name == "scheduler" or not HUB_ID.fullmatch(said):
            report.error(node.mark, "SF330", f"{message}; `{name}` is {_APART[name]}")
        return
    if base is None:
        return
    joint = base.joint
    why = vae_trouble(path, base) if name == "vae" else schedule_trouble(path, joint=joint)
    if why is not None:
        report.error(node.mark, "SF330", f"`{shortened(said)}` {why.what}; {why.remedy}")


_APART: Final = {
    "vae": "a folder, a .safetensors file or a hub id, `owner/name`",
    "scheduler": "a scheduler_config.json, its folder, or the folder of a model",
}
"""What comes from elsewhere -> what may be named."""


def _base_here(said: str, folder: Path) -> Path | None:
    """Where a base or a part of one lies, as the author names it; None if it is elsewhere."""
    path = beside(folder, said)
    path = path if os.path.exists(path) else files_here(said)
    return path if said and os.path.exists(path) else None


def _check_adapter(node: Node, path: Path, base: BaseHeader | None, report: Report) -> None:
    told = _described(node, path, report)
    if told is None:
        return
    name = shortened(node.text or "")
    if told.kind in UNREAD:
        message = f"`{name}` is {told.named}, which is not read: {UNREAD[told.kind]}"
        report.error(node.mark, "SF331", message)
    elif told.kind not in ADAPTERS:
        message = f"`{name}` is {told.named} and no LoRA"
        remedy = "; list it under `characters:`" if told.kind in CONCEPTS else ""
        report.error(node.mark, "SF331", f"{message}{remedy}")
    elif told.words:
        message = f"`{name}` brings words along, which a LoRA for the whole picture does not use"
        report.warning(node.mark, "SF431", f"{message}; list it under `characters:` to name them")
    _check_fit(node, told, base, report)


def _check_steps(node: Node, path: Path, root: Node, report: Report) -> None:
    """Whether an adapter for few steps is drawn with as it was trained."""
    try:
        title = read_header(path).metadata.get("modelspec.title", "")
    except EnvironmentProblem:
        return  # which is told elsewhere
    kind, said = few_steps_of(path.name, title), root.get("sampling") or root
    if kind is None:
        return
    steps, scale = _number(said, "steps"), _number(said, "guidance_scale")
    asked = (
        said.text_at("scheduler") in kind.schedulers
        and steps is not None
        and kind.steps[0] <= steps <= kind.steps[1]
        and scale is not None
        and kind.guidance[0] <= scale <= kind.guidance[1]
    )
    if not asked:
        message = f"`{shortened(node.text or '')}` is {kind.name}, which draws in few steps"
        report.warning(node.mark, "SF439", f"{message}; write {kind.wanted}")


def _number(node: Node, key: str) -> float | None:
    try:
        return float(node.text_at(key) or "")
    except ValueError:
        return None


def _check_concept(node: Node, path: Path, base: BaseHeader | None, report: Report) -> None:
    told = _described(node, path, report)
    if told is None or told.kind == "concept":
        return
    name = shortened(node.text or "")
    if told.kind not in CONCEPTS:
        message = f"`{name}` is {told.named}, and no concept can be made of it"
        remedy = "name a LoRA, a textual inversion, XTI or a file of Mix-of-Show"
        report.error(node.mark, "SF331", f"{message}; {remedy}")
        return
    _check_fit(node, told, base, report)
    if told.kind in ADAPTERS and not told.words and trigger_of(told.header) is None:
        message = f"`{name}` does not say by which words it is called up; its name here is used"
        remedy = "`storyforge concept import FILE --trigger WORDS` gives it others"
        report.warning(node.mark, "SF432", f"{message}; {remedy}")
    beside = [layer for layer in told.layers if not _is_attention(layer)]
    if beside:
        message = f"{len(beside)} of the {len(told.layers)} layers that `{name}` changes are no"
        report.warning(
            node.mark,
            "SF433",
            f"{message} attention; a concept has no place for them. List the file under "
            "`sampling: {lora: …}` as well if it is to count as a whole",
        )


def _check_learnt_on(node: Node, path: Path, root: Node, folder: Path, report: Report) -> None:
    """Whether a concept of storyforge's was learnt on the story's base."""
    try:
        said = read_header(path).metadata
        own = said.get("base_hash") if "storyforge.format" in said else None
        base = base_at(_reference(root), folder) if own else None
    except EnvironmentProblem:
        return  # which is told elsewhere
    if base is not None and own != base.hash:
        message = f"the concept `{shortened(node.text or '')}` was learnt on another base"
        where = f" (`{shortened(said['base'])}`)" if said.get("base") else ""
        remedy = "learn it again from its pictures, or name that base"
        report.error(node.mark, "SF331", f"{message}{where} than this story's; {remedy}")


def _reference(root: Node) -> str:
    """The story's base in the one line that `BaseParts` reads."""
    node = root.get("base")
    if node is None:
        return "pocket"
    if node.entries is None:
        return node.text or "pocket"
    parts = {name: node.text_at(name) for name in ("vae", "scheduler", "prediction")}
    return BaseParts(node.text_at("model") or "pocket", **parts).reference


def _is_attention(layer: str) -> bool:
    return any(part in layer for part in ("_attn1_to_", "_attn2_to_", "_self_attn_"))


def _described(node: Node, path: Path, report: Report) -> Described | None:
    """What a file is; None, and why in the report, if it cannot be read or is broken."""
    try:
        header = read_header(path)
    except EnvironmentProblem as exc:
        report.error(node.mark, "SF331", str(exc))
        return None
    told = describe(header)
    broken = None if header.pickled else broken_in(path)
    broken = broken or next((f"`{name}` {why}" for name, why in unsound(told).items()), None)
    if broken is not None:
        message = f"`{shortened(node.text or '')}` is broken: {broken}; get the file again"
        report.error(node.mark, "SF332", message)
        return None
    _check_licence(node, licence_of(header), report)
    return told


def _check_fit(node: Node, told: Described, base: BaseHeader | None, report: Report) -> None:
    why = None if base is None else misfit(told, base)
    if why is not None:
        message = f"the {told.kind} `{shortened(node.text or '')}` does not fit the base: {why}"
        report.error(node.mark, "SF331", message)


def _check_licence(node: Node, licence: str | None, report: Report) -> None:
    """Warn of a licence that binds the book."""
    for words, asks in _BOUND:
        if licence is not None and any(word in licence.lower() for word in words):
            message = (
                f"`{shortened(node.text or '')}` is under `{shortened(licence)}`, which {asks}"
            )
            report.warning(node.mark, "SF430", message)
