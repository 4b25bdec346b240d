"""Which layer of which model a tensor of an adapter changes, and what part of the change it is.

Every tool has names of its own: kohya's and LyCORIS' (`lora_unet_…`, `lora_te_…`), diffusers'
(`unet.….lora.down.weight`, `text_encoder.….lora_linear_layer.up.weight`), those of 2023
(`….processor.to_k_lora.up.weight`) and PEFT's (`base_model.model.….lora_A.weight`); and those who
made a model call its layers otherwise than diffusers does. All come down to one: the path in
diffusers' model, with `_` for every dot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

T = TypeVar("T")

Model = Literal["unet", "text", "text_2", "transformer", "unknown"]

_ROLES: Final = (
    # what follows the layer in the key -> the part that the tensor is
    (r"\.lora_down\.weight", "down"),
    (r"\.lora_up\.weight", "up"),
    (r"\.lora_mid\.weight", "mid"),
    (r"\.lora_A(?:\.[^.]+)?\.weight", "down"),
    (r"\.lora_B(?:\.[^.]+)?\.weight", "up"),
    (r"\.lora\.down\.weight", "down"),
    (r"\.lora\.up\.weight", "up"),
    (r"\.lora_linear_layer\.down\.weight", "down"),
    (r"\.lora_linear_layer\.up\.weight", "up"),
    (r"_lora\.down\.weight", "down"),
    (r"_lora\.up\.weight", "up"),
    (r"\.alpha", "alpha"),
    (r"\.dora_scale", "dora_scale"),
    (r"\.lora_magnitude_vector(?:\.[^.]+)?(?:\.weight)?", "magnitude"),
    (r"\.(hada_w1_a|hada_w1_b|hada_w2_a|hada_w2_b|hada_t1|hada_t2)", ""),
    (r"\.(lokr_w1_a|lokr_w1_b|lokr_w1|lokr_w2_a|lokr_w2_b|lokr_w2|lokr_t1|lokr_t2)", ""),
    (r"\.(?:diff|w_norm)", "diff"),
    (r"\.(?:diff_b|b_norm)", "bias"),
    (r"\.ia3_l", "ia3"),
    (r"\.on_input", "on_input"),
    (r"\.scalar", "scalar"),
    (r"\.(oft_blocks|oft_diag|oft_R)(?:\.[^.]+)*", "oft"),
    (r"\.(a1|a2|b1|b2)\.weight", "glora"),
    (r"\.weight", "ia3"),
)
_KEY: Final = re.compile(
    "(?P<layer>.+?)(?:" + "|".join(f"(?P<r{i}>{e})" for i, (e, _) in enumerate(_ROLES)) + ")"
)

_PREFIXES: Final[tuple[tuple[str, Model], ...]] = (
    ("lora_unet_", "unet"),
    ("lora_te1_", "text"),
    ("lora_te2_", "text_2"),
    ("lora_te_", "text"),
    ("lora_transformer_", "transformer"),
    ("diffusion_model_", "unet"),
    ("unet_", "unet"),
    ("text_encoder_2_", "text_2"),
    ("text_encoder_", "text"),
    ("transformer_", "transformer"),
)
_BARE: Final[tuple[tuple[str, Model], ...]] = (
    ("text_model_", "text"),
    ("encoder_layers_", "text"),
    ("down_blocks_", "unet"),
    ("mid_block_", "unet"),
    ("up_blocks_", "unet"),
    ("conv_in", "unet"),
    ("conv_out", "unet"),
    ("time_embedding_", "unet"),
)
"""How layers begin where PEFT, or a U-Net by itself, saves them."""

_OLDER_TEXT: Final = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}

BUNDLE: Final = "bundle_emb."
"""How the words begin that a LoRA brings along."""


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of an adapter.

    layer   path in the model as diffusers has it, `_` for every dot, without `text_model`
    role    which part of the change: `down`, `up`, `alpha`, `hada_w1_a` …
    dotted  the path as the file has it, for PEFT's patterns
    """

    model: Model
    layer: str
    role: str
    dotted: str

    @property
    def name(self) -> str:
        """The layer, with the model that it is of."""
        return f"{self.model} {self.layer}"


def part_of(key: str) -> Part | None:
    """The part that a tensor is by its name; None if it is of no adapter."""
    match = _KEY.fullmatch(key.removeprefix("base_model.model."))
    if match is None or key.startswith(BUNDLE):
        return None
    which = next(i for i in range(len(_ROLES)) if match[f"r{i}"])
    ending, role = _ROLES[which]
    if not role:
        role = match[f"r{which}"].removeprefix(".")
    dotted = match["layer"]
    model, layer = _located(dotted)
    if model == "unknown" and role in {"ia3", "diff", "bias"} and "lora" not in key:
        return None  # any tensor's name ends so
    tail = layer.rsplit("_to_", 1)[-1] if "_to_" in layer else ""
    if model.startswith("text") and f"to_{tail}" in _OLDER_TEXT:
        layer = f"{layer.removesuffix(f'to_{tail}')}{_OLDER_TEXT[f'to_{tail}']}"
    elif tail == "out" and model != "transformer":
        layer += "_0"
    return Part(model, layer, role, dotted)


def _located(dotted: str) -> tuple[Model, str]:
    name = dotted.replace(".", "_").replace("_processor_", "_")
    if match := _JOINT.fullmatch(name):
        return "transformer", _of_makers(match[1])
    for prefix, model in (*_PREFIXES, *_BARE):
        if name.startswith(prefix):
            rest = name if (prefix, model) in _BARE else name.removeprefix(prefix)
            return model, _of_original(rest.removeprefix("text_model_"))
    return "unknown", name


_JOINT: Final = re.compile(
    r"(?:lora_unet_|lora_transformer_|diffusion_model_|transformer_)?"
    r"((?:single_|double_)blocks_\d+_.+|(?:single_)?transformer_blocks_\d+_.+"
    r"|(?:layers|noise_refiner|context_refiner)_\d+_(?:attention|feed_forward|adaLN)_.+)"
)
"""Layers of a transformer: as diffusers calls them, or as its makers do."""

_MAKERS: Final = (
    # FLUX.2's own names, and diffusers'; then Z-Image's
    (r"single_blocks_(\d+)_linear1", r"single_transformer_blocks_\1_attn_to_qkv_mlp_proj"),
    (r"single_blocks_(\d+)_linear2", r"single_transformer_blocks_\1_attn_to_out"),
    (r"double_blocks_(\d+)_img_attn_to_([qkv])", r"transformer_blocks_\1_attn_to_\2"),
    (r"double_blocks_(\d+)_txt_attn_to_([qkv])", r"transformer_blocks_\1_attn_add_\2_proj"),
    (r"double_blocks_(\d+)_img_attn_proj", r"transformer_blocks_\1_attn_to_out_0"),
    (r"double_blocks_(\d+)_txt_attn_proj", r"transformer_blocks_\1_attn_to_add_out"),
    (r"double_blocks_(\d+)_img_mlp_0", r"transformer_blocks_\1_ff_linear_in"),
    (r"double_blocks_(\d+)_img_mlp_2", r"transformer_blocks_\1_ff_linear_out"),
    (r"double_blocks_(\d+)_txt_mlp_0", r"transformer_blocks_\1_ff_context_linear_in"),
    (r"double_blocks_(\d+)_txt_mlp_2", r"transformer_blocks_\1_ff_context_linear_out"),
    (r"(.+_attention)_out", r"\1_to_out_0"),
)


def _of_makers(layer: str) -> str:
    for theirs, ours in _MAKERS:
        if match := re.fullmatch(theirs, layer):
            return match.expand(ours)
    return layer


_FUSED: Final = re.compile(
    r"(.*(?:double_blocks[._]\d+[._](?:img|txt)_attn|(?:layers|refiner)[._]\d+[._]attention)[._])"
    r"qkv(\.(?:lora|alpha).*)"
)
"""Queries, keys and values in one matrix, as makers of transformers have them."""


def unfused(held: Mapping[str, T], third: Callable[[T, int], T]) -> dict[str, T]:
    """What a file holds by its keys, with a layer each for queries, keys and values.

    third  cuts the first, second or last third of the rows out of what makes them: `up`
    """
    made: dict[str, T] = {}
    for key, value in held.items():
        match = _FUSED.fullmatch(key)
        if match is None:
            made[key] = value
            continue
        rows = re.search(r"lora_up|lora_B|lora\.up", match[2]) is not None
        for index, letter in enumerate("qkv"):
            name = f"{match[1]}to_{letter}{match[2]}"
            made[name] = third(value, index) if rows else value
    return made


_ORIGINAL: Final = re.compile(r"(input|middle|output)_blocks?_(\d+)_(?:(\d+)_)?(.+)")
_RESNET: Final = {
    "in_layers_0": "norm1",
    "in_layers_2": "conv1",
    "emb_layers_1": "time_emb_proj",
    "out_layers_0": "norm2",
    "out_layers_3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ROW: Final = 3
"""Blocks of the original U-Net for one of diffusers': on the way down two layers and what halves
the size, on the way up three layers."""


def _of_original(layer: str) -> str:
    """A layer of the U-Net as diffusers calls it, which LoRAs of SDXL call as its makers do."""
    match = _ORIGINAL.fullmatch(layer)
    if match is None:
        return layer
    way, number, sub, rest = match[1], int(match[2]), match[3], match[4]
    if way == "middle":
        kind = "attentions_0" if number == 1 else f"resnets_{number // 2}"
        rest = f"{sub}_{rest}" if sub else rest
        return f"mid_block_{kind}_{_RESNET.get(rest, rest)}"
    if way == "input" and number == 0:
        return "conv_in"
    block, place = divmod(number - (way == "input"), _ROW)
    side = "down_blocks" if way == "input" else "up_blocks"
    if rest in {"op", "conv"}:
        return f"{side}_{block}_{'down' if way == 'input' else 'up'}samplers_0_conv"
    kind = "attentions" if sub == "1" else "resnets"
    return f"{side}_{block}_{kind}_{place}_{_RESNET.get(rest, rest)}"
