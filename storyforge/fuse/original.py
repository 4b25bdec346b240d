"""The names that weights have in one file of the makers' own, as web UIs and ComfyUI read them.

Covered are U-Net, autoencoder and text encoders of Stable Diffusion 1.x, 2.x and XL; of 2.x the
last layer of the text encoder, which nobody reads, is not in diffusers' folders and so not here.
The other way is diffusers' own `from_single_file`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import torch

from storyforge.model.base import BaseModel, Encoder
from storyforge.model.family import TextEncoder

Weights = Mapping[str, torch.Tensor]

_UNET: Final = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET: Final = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_MIDDLE: Final = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_ATTENTION: Final = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
_BLOCK: Final = re.compile(
    r"(?P<way>down|up)_blocks\.(?P<block>\d+)\."
    r"(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<number>\d+)\.(?P<rest>.+)"
)
_OPEN: Final = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def original(base: BaseModel, encoders: tuple[Encoder, ...]) -> dict[str, torch.Tensor]:
    """All weights of a base, by the makers' names; `encoders` stand in for the base's own."""
    layers, weights = int(base.unet.config.layers_per_block), base.unet.state_dict()
    found = {
        f"model.diffusion_model.{unet_name(name, layers, weights)}": weight
        for name, weight in weights.items()
    }
    blocks = len(base.vae.config.block_out_channels)
    for name, weight in base.vae.state_dict().items():
        there, linear = vae_name(name, blocks)
        # The makers' attention is a convolution of one pixel.
        weight = weight[:, :, None, None] if linear and weight.ndim == 2 else weight
        found[f"first_stage_model.{there}"] = weight
    models = [each.model for each in encoders]
    if len(models) == 2:
        found |= dict(_clip(models[0], "conditioner.embedders.0.transformer."))
        found |= dict(_open_clip(models[1], "conditioner.embedders.1.model."))
    elif models[0].config.hidden_act == "quick_gelu":
        found |= dict(_clip(models[0], "cond_stage_model.transformer."))
    else:
        found |= dict(_open_clip(models[0], "cond_stage_model.model."))
    return found


def unet_name(name: str, layers: int, known: Weights) -> str:
    """What the makers call a weight of a U-Net with so many layers a block."""
    for ours, theirs in _UNET.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    if name.startswith("mid_block."):
        _, kind, number, rest = name.split(".", 3)
        return f"middle_block.{_MIDDLE[f'{kind}.{number}']}.{_inner(kind, rest)}"
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise ValueError(f"`{name}` has no place in a file of the makers' own")
    block, place, kind = int(match["block"]), int(match["number"]), match["kind"]
    first = block * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0.op.{match['rest'].removeprefix('conv.')}"
    if kind == "upsamplers":
        attends = any(each.startswith(f"up_blocks.{block}.attentions.") for each in known)
        return f"output_blocks.{first + layers}.{1 + attends}.{match['rest']}"
    place += first + (match["way"] == "down")
    side = "input_blocks" if match["way"] == "down" else "output_blocks"
    return f"{side}.{place}.{int(kind == 'attentions')}.{_inner(kind, match['rest'])}"


def _inner(kind: str, rest: str) -> str:
    layer, dot, ending = rest.partition(".")
    return f"{_RESNET[layer]}{dot}{ending}" if kind.startswith("resnets") else rest


def vae_name(name: str, blocks: int) -> tuple[str, bool]:
    """What the makers call a weight of an autoencoder, and whether it is one of its attention."""
    side, _, rest = name.partition(".")
    if side not in {"encoder", "decoder"}:
        return name, False
    rest = rest.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if match := re.fullmatch(r"mid_block\.resnets\.(\d+)\.(.+)", rest):
        return f"{side}.mid.block_{int(match[1]) + 1}.{match[2]}", False
    if match := re.fullmatch(r"mid_block\.attentions\.0\.(.+)\.(weight|bias)", rest):
        layer = _ATTENTION[match[1]]
        return f"{side}.mid.attn_1.{layer}.{match[2]}", layer != "norm"
    match = _BLOCK.fullmatch(rest)
    if match is None:
        return f"{side}.{rest}", False
    way, kind = match["way"], match["kind"]
    number = int(match["block"]) if way == "down" else blocks - 1 - int(match["block"])
    if kind.endswith("samplers"):
        return f"{side}.{way}.{number}.{way}sample.{match['rest']}", False
    return f"{side}.{way}.{number}.block.{match['number']}.{match['rest']}", False


def _clip(model: TextEncoder, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in model.state_dict().items():
        yield f"{prefix}text_model.{name.removeprefix('text_model.')}", weight


def _open_clip(model: TextEncoder, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """OpenCLIP has queries, keys and values in one."""
    whole = {
        name.removeprefix("text_model."): weight for name, weight in model.state_dict().items()
    }
    fixed = {
        "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.token_embedding.weight": "token_embedding.weight",
        "final_layer_norm.weight": "ln_final.weight",
        "final_layer_norm.bias": "ln_final.bias",
    }
    for name, weight in whole.items():
        if name in fixed:
            yield prefix + fixed[name], weight
        elif name == "text_projection.weight":
            yield f"{prefix}text_projection", weight.T.contiguous()
        elif match := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name):
            at, ending = f"{prefix}transformer.resblocks.{match[1]}", match[3]
            if match[2] in _OPEN:
                yield f"{at}.{_OPEN[match[2]]}.{ending}", weight
            elif match[2] == "self_attn.q_proj":
                layer = f"encoder.layers.{match[1]}.self_attn"
                three = [whole[f"{layer}.{part}_proj.{ending}"] for part in "qkv"]
                yield f"{at}.attn.in_proj_{ending}", torch.cat(three)
