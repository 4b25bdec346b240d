"""What differs between base models, asked of the model: attention sites, linears, inputs, stages.

Covers denoisers of the `UNet2DConditionModel` class with one CLIP text encoder (SD 1.x and the
embedded default). Nothing here is a number of one model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import nn
from transformers import CLIPTextModel
from transformers.models.clip.modeling_clip import CLIPAttention

from storyforge.errors import EnvironmentProblem

Stage = Literal["text", "kv", "spatial"]

_TEXT_LINEARS = ("q_proj", "k_proj", "v_proj", "out_proj")
_UNET_LINEARS = ("to_q", "to_k", "to_v", "to_out.0")


def text_core(text_encoder: CLIPTextModel) -> nn.Module:
    """The part of a CLIP text model that holds `embeddings` and `encoder`, in every version."""
    core: nn.Module = getattr(text_encoder, "text_model", text_encoder)
    return core


def text_embeddings(text_encoder: CLIPTextModel) -> nn.Module:
    """The module whose `token_embedding` turns ids into vectors."""
    embeddings = text_core(text_encoder).embeddings
    assert isinstance(embeddings, nn.Module)
    return embeddings


def token_table(text_encoder: CLIPTextModel) -> torch.Tensor:
    """(vocabulary, d): one embedding per token."""
    weight: torch.Tensor = text_encoder.get_input_embeddings().weight
    return weight.detach()


def _ordered_attention(unet: UNet2DConditionModel) -> Iterator[tuple[str, Attention]]:
    """Attention modules in the order in which the data passes them: down, mid, up."""
    for root in ("down_blocks", "mid_block", "up_blocks"):
        for name, module in getattr(unet, root).named_modules():
            if isinstance(module, Attention):
                yield f"{root}.{name}", module


@dataclass(frozen=True, slots=True)
class Family:
    """Names of a base model's parts.

    cross_sites  cross-attention modules of the U-Net in forward order; one token group each
    self_sites   self-attention modules in forward order
    linears      every attention linear, `text_encoder.<path>` or `unet.<path>`
    inputs       distinct input -> the linears that read it
    """

    cross_sites: tuple[str, ...]
    self_sites: tuple[str, ...]
    linears: tuple[str, ...]
    inputs: dict[str, tuple[str, ...]]

    @property
    def groups(self) -> int:
        """How many embeddings each word of a concept has."""
        return len(self.cross_sites)

    @staticmethod
    def of(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> Family:
        """Read the names off the modules.

        Raises:
          EnvironmentProblem: if the number of linears is not what the architecture implies.
        """
        sites = list(_ordered_attention(unet))
        cross = tuple(name for name, _ in sites if name.endswith("attn2"))
        own = tuple(name for name, _ in sites if name.endswith("attn1"))
        inputs: dict[str, tuple[str, ...]] = {}
        core = text_core(text_encoder)
        layers = [n for n, m in core.named_modules() if isinstance(m, CLIPAttention)]
        for layer in layers:
            path = f"text_encoder.{layer}"
            inputs[f"{path}.qkv"] = tuple(f"{path}.{part}" for part in _TEXT_LINEARS[:3])
            inputs[f"{path}.out"] = (f"{path}.{_TEXT_LINEARS[3]}",)
        for name in own:
            inputs[f"unet.{name}.qkv"] = tuple(f"unet.{name}.{p}" for p in _UNET_LINEARS[:3])
            inputs[f"unet.{name}.out"] = (f"unet.{name}.{_UNET_LINEARS[3]}",)
        for name in cross:
            inputs[f"unet.{name}.q"] = (f"unet.{name}.to_q",)
            inputs[f"unet.{name}.kv"] = (f"unet.{name}.to_k", f"unet.{name}.to_v")
            inputs[f"unet.{name}.out"] = (f"unet.{name}.to_out.0",)
        linears = tuple(linear for readers in inputs.values() for linear in readers)
        blocks = sum(isinstance(m, BasicTransformerBlock) for m in unet.modules())
        depth = text_encoder.config.num_hidden_layers
        wanted = 8 * blocks + 4 * depth
        if len(linears) != wanted or not cross or len(set(linears)) != len(linears):
            raise EnvironmentProblem(
                f"found {len(linears)} attention layers where this kind of model has {wanted}",
                hint="is this a Stable Diffusion 1.x model, and are diffusers and transformers of "
                "the versions in constraints.txt?",
            )
        return Family(cross, own, linears, inputs)

    @staticmethod
    def stage(linear: str) -> Stage:
        """Which part of fusion a linear or an input belongs to."""
        if linear.startswith("text_encoder."):
            return "text"
        return "kv" if linear.endswith(("attn2.to_k", "attn2.to_v", "attn2.kv")) else "spatial"


def linear_modules(
    family: Family, unet: UNet2DConditionModel, text_encoder: CLIPTextModel
) -> dict[str, nn.Linear]:
    """The modules behind `family.linears`."""
    core, found = text_core(text_encoder), {}
    for name in family.linears:
        part, path = name.split(".", 1)
        module = (core if part == "text_encoder" else unet).get_submodule(path)
        if not isinstance(module, nn.Linear):
            raise EnvironmentProblem(f"`{name}` is not a plain linear layer")
        found[name] = module
    return found
