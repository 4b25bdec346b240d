"""A concept as other programs read it: which files go where, and what is lost in each.

Everybody but storyforge, Mix-of-Show and kohya's XTI has one vector for a word in all layers: the
mean over layers is what they get.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, get_args

from safetensors.torch import save_file

from storyforge.errors import StoryForgeError
from storyforge.model.concept import Concept
from storyforge.model.formats import (
    carried_words,
    diffusers_lora,
    kohya,
    mix_of_show,
    textual_inversion,
    xti,
)
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens

Target = Literal["kohya", "diffusers", "comfyui", "webui", "ti", "xti", "mix-of-show"]
TARGETS: Final[tuple[Target, ...]] = get_args(Target)

_VERSIONS: Final = {
    "stable-diffusion-v1": "sd_v1",
    "stable-diffusion-v2": "sd_v2",
    "stable-diffusion-xl-v1-base": "sdxl_base_v1-0",
}
"""ModelSpec's name of a family -> kohya's."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    use     how the program calls the concept up
    spread  how far the words of its layers lie from the one that is left, as a share of their
            length; 0 where nothing is lost
    """

    files: tuple[Path, ...]
    use: str
    spread: float


def export_concept(concept: Concept, to: Target, folder: Path) -> Exported:
    """Write a concept into a folder in the form of another program.

    Raises StoryForgeError if that has no place for it.
    """
    name, words = concept.name, concept.tokens.words.float().cpu()
    lost = textual_inversion.spread(words)
    if concept.joint and to != "diffusers":
        raise StoryForgeError(
            f"`{to}` has no place for `{name}`, which was learnt on a transformer",
            hint="`--to diffusers` writes its LoRA, which ComfyUI and others read as well",
        )
    if not concept.deltas and concept.architecture is None:
        # Only its layers' names would tell a transformer; words alone tell by their width.
        raise StoryForgeError(
            f"`{to}` has no place for `{name}`: it is words alone, of {words.shape[-1]} numbers, "
            "and other programs read those of Stable Diffusion's text encoders",
            hint="train it with `method: lora`, which changes the base as well",
        )
    folder.mkdir(parents=True, exist_ok=True)
    match to:
        case "mix-of-show":
            path = folder / f"{name}.pth"
            pairs = {k: ((d.scale * d.up).cpu(), d.down.cpu()) for k, d in concept.deltas.items()}
            mix_of_show.write(name, words, pairs, path)
            said = " ".join(f"<{name}{i + 1}>" for i in range(len(words)))
            return Exported((path,), f"`{said}` in a prompt", 0.0)
        case "xti":
            path = folder / f"{name}.safetensors"
            xti.write_words(words, path, _metadata(concept, "textual-inversion", name))
            return Exported((path,), "`--XTI_embeddings` of gen_img_diffusers.py", 0.0)
        case "ti":
            path = folder / f"{name}.safetensors"
            told = _metadata(concept, "textual-inversion", name)
            textual_inversion.write_words(words, path, told, _widths(concept))
            return Exported((path,), "the file's name in a prompt", lost)
        case _:
            return _with_lora(concept, to, folder, lost)


def _with_lora(concept: Concept, to: Target, folder: Path, lost: float) -> Exported:
    """The changes as a LoRA, and the words beside it."""
    name, words = concept.name, concept.tokens.words.float().cpu()
    places = {
        "kohya": (f"{name}.safetensors", f"{name}_emb.safetensors"),
        "diffusers": ("pytorch_lora_weights.safetensors", "learned_embeds.safetensors"),
        "comfyui": (f"loras/{name}.safetensors", f"embeddings/{name}.safetensors"),
        "webui": (f"Lora/{name}.safetensors", f"embeddings/{name}.safetensors"),
    }
    call = {
        "kohya": f"{name}_emb",
        "diffusers": f"<{name}>",
        "comfyui": f"embedding:{name}",
        "webui": name,
    }[to]
    uses = {
        "kohya": f"the LoRA, and `{call}` in a prompt",
        "diffusers": f"`load_lora_weights`, `load_textual_inversion`, and `{call}` in a prompt",
        "comfyui": f"the LoRA at strength 1, and `{call}` in a prompt",
        "webui": f"`<lora:{name}:1> {call}` in a prompt",
    }
    lora, beside = (folder / place for place in places[to])
    for path in (lora, beside):
        path.parent.mkdir(parents=True, exist_ok=True)
    told = _metadata(concept, "lora", call) | carried_words.written(concept.tokens.words)
    of_words = _metadata(concept, "textual-inversion", call)
    widths = _widths(concept)
    if concept.joint:
        uses["diffusers"] = "`load_lora_weights`; its words stock pipelines have no place for"
    if to == "diffusers":
        diffusers_lora.write_lora(concept.deltas, lora, told)
    else:
        # The web UI reads words from a LoRA of one text encoder alone.
        own = {name: textual_inversion.collapsed(words)}
        bundle = own if to == "webui" and widths is None else None
        kohya.write_lora(concept.deltas, lora, told, bundle)
    if to == "diffusers" and widths is None:
        save_file({f"<{name}>": textual_inversion.collapsed(words)}, beside, of_words)
    else:
        textual_inversion.write_words(words, beside, of_words, widths)
    return Exported((lora, beside), uses[to], lost)


def _widths(concept: Concept) -> tuple[int, int] | None:
    """Each text encoder's part of a word, of two of them; None for one."""
    whole = concept.tokens.words.shape[-1]
    if not any(name.startswith("text_encoder_2.") for name in concept.deltas):
        return _CLIPS if whole == sum(_CLIPS) else None
    readers = (d for n, d in concept.deltas.items() if re.match(r"text_encoder\..+q_proj", n))
    first = next((delta.down.shape[1] for delta in readers), _CLIPS[0])
    return first, whole - first


_CLIPS: Final = (768, 1280)
"""Widths of SDXL's two text encoders."""


def _metadata(concept: Concept, what: str, call: str) -> dict[str, str]:
    """ModelSpec's fields and kohya's, the licence among them; nothing of what nothing tells.

    call  what is written in a prompt to have the concept
    """
    architecture = concept.architecture
    told = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/{what}" if architecture else "",
        "modelspec.implementation": "storyforge",
        "modelspec.title": concept.name,
        "modelspec.trigger_phrase": call,
        "modelspec.license": concept.licence or "",
        "ss_output_name": concept.name,
        "ss_base_model_version": _VERSIONS.get(architecture or "", ""),
        "ss_sd_model_name": concept.base,
        "ss_training_comment": f"{concept.class_phrase}, exported by storyforge",
        "storyforge.base_hash": concept.base_hash,
    }
    return {key: value for key, value in told.items() if value}


def halved(concept: Concept) -> Concept:
    """The concept as an exported file has it: one vector a word, changes in half precision."""
    one = textual_inversion.collapsed(concept.tokens.words)[:, None]
    deltas = {
        name: Delta((d.scale * d.up).half().float(), d.down.half().float())
        for name, d in concept.deltas.items()
    }
    return replace(concept, tokens=ConceptTokens(concept.name, one), deltas=deltas)
