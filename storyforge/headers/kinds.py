"""What a file is, who wrote it and for which kind of base, told from its header."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from storyforge.headers.header import Header, read_header
from storyforge.headers.names import BUNDLE, Part, part_of

FileKind = Literal[
    "concept",
    "LoRA",
    "LoCon",
    "Tucker LoCon",
    "DoRA",
    "LoHa",
    "LoKr",
    "IA3",
    "weight difference",
    "OFT",
    "GLoRA",
    "textual inversion",
    "XTI",
    "Mix-of-Show ED-LoRA",
    "checkpoint",
    "VAE",
    "unknown",
]

ADAPTERS: Final[frozenset[FileKind]] = frozenset(
    {"LoRA", "LoCon", "Tucker LoCon", "DoRA", "LoHa", "LoKr", "IA3", "weight difference"}
)
"""Kinds that are merged into weights by a formula."""
CONCEPTS: Final[frozenset[FileKind]] = frozenset(
    {
        *("concept", "LoRA", "LoCon", "Tucker LoCon", "LoHa", "DoRA", "LoKr", "weight difference"),
        *("textual inversion", "XTI", "Mix-of-Show ED-LoRA"),
    }
)
"""Kinds that can be a character of a story."""
UNREAD: Final[dict[FileKind, str]] = {
    "OFT": "it turns weights instead of adding to them",
    "GLoRA": "its formula is not known to storyforge",
}
"""Kinds of adapters that are not read, and why."""

XTI_SITES: Final = (
    *("IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "MID"),
    *(f"OUT{n:02}" for n in range(3, 12)),
)
"""kohya's names of the sixteen cross-attention layers of SD 1.x, in the order of the data."""

CLIP_FILE: Final = ("clip_l", "clip_g")
"""The keys of a textual inversion for the two text encoders of SDXL."""

WIDTHS: Final = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
"""Numbers a token that the cross-attention reads -> the family that has so many."""

OTHER: Final = "another kind of model than a U-Net"

_TRANSFORMERS: Final = (
    # what names of layers hold -> whose they are
    ("transformer single_transformer_blocks_0_attn_to_qkv_mlp_proj", "FLUX.2-klein"),
    ("transformer layers_0_attention_to_", "Z-Image"),
    ("transformer ", OTHER),
    ("_double_blocks_", OTHER),
)

_ROLE_KINDS: Final[tuple[tuple[frozenset[str], FileKind], ...]] = (
    (frozenset({"oft"}), "OFT"),
    (frozenset({"glora"}), "GLoRA"),
    (frozenset({"magnitude", "dora_scale"}), "DoRA"),
    (frozenset({"hada_w1_a"}), "LoHa"),
    (frozenset({"lokr_w1", "lokr_w1_a"}), "LoKr"),
    (frozenset({"mid"}), "Tucker LoCon"),
    (frozenset({"on_input"}), "IA3"),
    (frozenset({"up"}), "LoRA"),
    (frozenset({"ia3"}), "IA3"),
    (frozenset({"diff", "bias"}), "weight difference"),
)


@dataclass(frozen=True, slots=True)
class Described:
    """What a file is.

    writer   the program that wrote it, as far as its names tell
    family   the kind of base that it is for; None if the header does not tell
    width    of what cross-attention or a token table reads; None if the header does not tell
    words    tokens that it brings along -> how many vectors each
    layers   layer -> its parts, for adapters
    strange  tensors that belong to nothing that is read
    """

    header: Header
    kind: FileKind
    writer: str
    family: str | None
    width: int | None
    words: dict[str, int]
    layers: dict[str, dict[str, Part]]
    strange: tuple[str, ...]

    @property
    def groups(self) -> int | None:
        """For how many layers it has words of their own; None if it has no layer-wise words."""
        if self.kind == "XTI":
            return len(self.header.shapes)
        rows = [s for key, s in self.header.shapes.items() if "new_concept_embedding/" in key]
        return rows[0][0] if rows and len(rows[0]) == 2 else None

    @property
    def ranks(self) -> Counter[int]:
        """Rank -> of how many layers."""
        found: Counter[int] = Counter()
        for key, part in ((k, part_of(k)) for k in self.header.shapes):
            shape = self.header.shapes[key]
            if part is not None and shape and part.role in {"down", "hada_w1_b", "lokr_w2_b"}:
                found[shape[0]] += 1
        return found

    @property
    def named(self) -> str:
        """The kind with its article."""
        article = "an" if self.kind in {"IA3", "OFT", "XTI"} else "a"
        return f"{article} {self.kind}" if self.kind != "unknown" else "a file of an unknown kind"


def describe(header: Header) -> Described:
    """Say what a file is."""
    layers: dict[str, dict[str, Part]] = {}
    strange = []
    for key in header.shapes:
        part = part_of(key)
        if part is not None:
            layers.setdefault(part.name, {})[key] = part
        elif not key.startswith(BUNDLE):
            strange.append(key)
    words = dict(_words(header))
    kind = _kind(header, layers)
    if kind not in ADAPTERS and kind not in UNREAD:
        layers, strange = {}, []
    family, width = _family(header, kind, layers, words)
    writer = _writer(header, kind, layers)
    return Described(header, kind, writer, family, width, words, layers, tuple(strange))


def _kind(header: Header, layers: dict[str, dict[str, Part]]) -> FileKind:
    keys = header.shapes.keys()
    if header.metadata.get("storyforge.format") and "concept.words" in keys:
        return "concept"
    if any("new_concept_embedding/" in key for key in keys):
        return "Mix-of-Show ED-LoRA"
    if keys and (all(key in XTI_SITES for key in keys) or _plus(header)):
        return "XTI"
    if any(key.startswith(("model.diffusion_model.", "state_dict/model.diff")) for key in keys):
        return "checkpoint"
    if "encoder.conv_in.weight" in keys or "first_stage_model.encoder.conv_in.weight" in keys:
        return "VAE"
    if keys and dict(_words(header)) and not layers:
        return "textual inversion"
    roles = {part.role for parts in layers.values() for part in parts.values()}
    for own, kind in _ROLE_KINDS:
        if own & roles:
            kernel = kind == "LoRA" and _has_kernels(header, layers)
            return "LoCon" if kernel else kind
    return "unknown"


def _plus(header: Header) -> bool:
    """Whether it is a pickle of P+: one token for each layer, `NAME-LAYER`."""
    shapes = header.shapes
    stems = {key.rpartition("-")[0] for key in shapes}
    own = header.pickled and len(shapes) > 1 and len(stems) == 1 and stems != {""}
    return own and all(len(shape) == 1 for shape in shapes.values())


def _has_kernels(header: Header, layers: dict[str, dict[str, Part]]) -> bool:
    keys = (k for parts in layers.values() for k, p in parts.items() if p.role == "down")
    return any(len(header.shapes[key]) == 4 and header.shapes[key][2] > 1 for key in keys)


def _words(header: Header) -> Iterator[tuple[str, int]]:
    """Tokens and how many vectors each has."""
    for key, shape in header.shapes.items():
        count = shape[0] if len(shape) == 2 else 1
        if key.startswith(BUNDLE):
            yield key.removeprefix(BUNDLE).rsplit(".", 2 if ".string_to" in key else 1)[0], count
        elif key == "emb_params" or key in CLIP_FILE:
            yield "", count
        elif match := re.fullmatch(r"string_to_param/(.+)", key):
            yield ("" if match[1] == "*" else match[1]), count
        elif match := re.fullmatch(r"(?:params/)?new_concept_embedding/(.+)", key):
            yield match[1], 1
        elif len(shape) <= 2 and re.fullmatch(r"<[^<>]+>", key):
            yield key, count


def _family(
    header: Header, kind: FileKind, layers: dict[str, dict[str, Part]], words: dict[str, int]
) -> tuple[str | None, int | None]:
    said = header.metadata.get("modelspec.architecture", "") + header.metadata.get(
        "ss_base_model_version", ""
    )
    if kind in {"textual inversion", "XTI", "Mix-of-Show ED-LoRA"}:
        if "clip_g" in header.shapes:
            return "SDXL", None
        widths = {shape[-1] for key, shape in header.shapes.items() if part_of(key) is None}
        width = next(iter(widths)) if len(widths) == 1 else None
        return WIDTHS.get(width or 0), width
    for mark, family in _TRANSFORMERS:
        if any(mark in name for name in layers):
            return family, None
    width = _read_width(header, layers)
    large = any(name.startswith("text_2 ") for name in layers) or any(
        re.match(r"unet (in|out)put_blocks_", name) for name in layers
    )
    if large or "xl" in said.lower():
        return "SDXL", width
    return WIDTHS.get(width or 0), width


def _read_width(header: Header, layers: dict[str, dict[str, Part]]) -> int | None:
    for name, parts in layers.items():
        if name.endswith("attn2_to_k"):
            for key, part in parts.items():
                shape = header.shapes[key]
                if part.role in {"down", "hada_w1_b", "hada_w2_b", "diff"} and len(shape) > 1:
                    return shape[1]
    return None


def _writer(header: Header, kind: FileKind, layers: dict[str, dict[str, Part]]) -> str:
    meta = header.metadata
    if kind == "concept":
        return "storyforge"
    if kind in {"XTI", "Mix-of-Show ED-LoRA"}:
        own = "P+" if header.pickled else "kohya's sd-scripts"
        return own if kind == "XTI" else "Mix-of-Show"
    if kind == "textual inversion":
        names = header.shapes
        if "emb_params" in names or any(key.startswith("string_to_param") for key in names):
            return "AUTOMATIC1111's web UI"
        return "kohya's sd-scripts" if "clip_l" in names else "diffusers"
    if "ot_branch" in meta or "OneTrainer" in meta.get("modelspec.implementation", ""):
        return "OneTrainer"
    if "lycoris" in meta.get("ss_network_module", ""):
        return "LyCORIS"
    keys = [key for parts in layers.values() for key in parts]
    if header.config or any(key.startswith("base_model.model.") for key in keys):
        return "PEFT"
    if any(key.startswith(("lora_unet_", "lora_te")) for key in keys):
        return "LyCORIS" if kind in {"LoHa", "LoKr", "Tucker LoCon", "IA3"} else "kohya"
    return "diffusers" if keys else "unknown"


def is_foreign(path: Path) -> bool:
    """Whether a concept's file is another tool's, and has to be imported."""
    return describe(read_header(path)).kind != "concept"


def licence_of(header: Header) -> str | None:
    """The licence that a file states of itself."""
    meta = header.metadata
    said = (meta.get(key, "").strip() for key in ("licence", "license", "modelspec.license"))
    return next((text for text in said if text), None)


def trigger_of(header: Header) -> str | None:
    """The words that call up what a file was trained on, as it states them.

    ModelSpec's phrase; or the most frequent caption tag of kohya's, if every picture had it.
    """
    if phrase := header.metadata.get("modelspec.trigger_phrase", "").strip():
        return phrase
    try:
        folders = json.loads(header.metadata.get("ss_tag_frequency", "{}"))
        tags: Counter[str] = Counter()
        for counts in folders.values():
            tags.update({str(tag).strip(): int(n) for tag, n in counts.items()})
    except (ValueError, AttributeError, TypeError):
        return None
    return tags.most_common(1)[0][0] if tags else None
