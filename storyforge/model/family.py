"""What differs between base models, asked of the model: attention sites, linears, inputs, stages.

Covers denoisers of the `UNet2DConditionModel` class with one CLIP text encoder (SD 1.x, SD 2.x and
the embedded default) or two (SDXL); what transformers do otherwise is in `dit`. Nothing here is a
number of one model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from transformers.models.clip.modeling_clip import CLIPAttention

from storyforge.errors import EnvironmentProblem

Stage = Literal["text", "kv", "spatial"]

TextEncoder: TypeAlias = CLIPTextModel | CLIPTextModelWithProjection

TEXT_PARTS = ("text_encoder", "text_encoder_2")
"""What diffusers calls a base's text encoders, in their order."""

_TEXT_LINEARS = ("q_proj", "k_proj", "v_proj", "out_proj")
_UNET_LINEARS = ("to_q", "to_k", "to_v", "to_out.0")


def text_core(text_encoder: TextEncoder) -> nn.Module:
    """The part of a CLIP text model that holds `embeddings` and `encoder`, in every version."""
    core: nn.Module = getattr(text_encoder, "text_model", text_encoder)
    return core


def text_embeddings(text_encoder: TextEncoder) -> nn.Module:
    """The module whose `token_embedding` turns ids into vectors."""
    embeddings = text_core(text_encoder).embeddings
    assert isinstance(embeddings, nn.Module)
    return embeddings


def token_table(text_encoder: TextEncoder) -> torch.Tensor:
    """(vocabulary, d): one embedding per token."""
    weight: torch.Tensor = text_encoder.get_input_embeddings().weight
    return weight.detach()


def _ordered_attention(unet: UNet2DConditionModel) -> Iterator[tuple[str, Attention]]:
    """Attention modules in the order in which the data passes them: down, mid, up."""
    for root in ("down_blocks", "mid_block", "up_blocks"):
        for name, module in getattr(unet, root).named_modules():
            if isinstance(module, Attention):
                yield f"{root}.{name}", module


def _block(site: str) -> str:
    """The block of the U-Net that a site belongs to; SDXL has several sites in one."""
    return site.split(".transformer_blocks.")[0]


@dataclass(frozen=True, slots=True)
class Family:
    """Names of a base model's parts.

    cross_sites  cross-attention modules of the U-Net in forward order
    site_groups  of each of them, which group of the text it reads: sites of one block read one
    self_sites   self-attention modules in forward order
    linears      every attention linear, `text_encoder.<path>` or `unet.<path>`
    inputs       distinct input -> the linears that read it
    """

    cross_sites: tuple[str, ...]
    site_groups: tuple[int, ...]
    self_sites: tuple[str, ...]
    linears: tuple[str, ...]
    inputs: dict[str, tuple[str, ...]]

    @property
    def groups(self) -> int:
        """How many embeddings each word of a concept has."""
        return self.site_groups[-1] + 1 if self.site_groups else 1

    @property
    def text_inputs(self) -> tuple[str, ...]:
        """Of each group, the input that is its text."""
        return tuple(name for name in self.inputs if name.endswith(".attn2.kv"))

    @staticmethod
    def of(unet: UNet2DConditionModel, *text_encoders: TextEncoder) -> Family:
        """Read the names off the modules.

        Raises:
          EnvironmentProblem: if the number of linears is not what the architecture implies.
        """
        sites = list(_ordered_attention(unet))
        cross = tuple(name for name, _ in sites if name.endswith("attn2"))
        own = tuple(name for name, _ in sites if name.endswith("attn1"))
        blocks = list(dict.fromkeys(map(_block, cross)))
        groups = tuple(blocks.index(_block(name)) for name in cross)
        inputs = _text_inputs(text_encoders) | _own_inputs(own) | _cross_inputs(cross, groups)
        linears = tuple(linear for readers in inputs.values() for linear in readers)
        depth = sum(each.config.num_hidden_layers for each in text_encoders)
        wanted = 8 * sum(isinstance(m, BasicTransformerBlock) for m in unet.modules()) + 4 * depth
        if len(linears) != wanted or not cross or len(set(linears)) != len(linears):
            raise EnvironmentProblem(
                f"found {len(linears)} attention layers where this kind of model has {wanted}",
                hint="is this a Stable Diffusion 1.x, 2.x or XL model, and are diffusers and "
                "transformers of the versions in constraints.txt?",
            )
        return Family(cross, groups, own, linears, inputs)

    @staticmethod
    def of_inputs(inputs: dict[str, tuple[str, ...]]) -> Family:
        """A transformer's, by the paths of what its attention reads; it has one group."""
        named = {
            f"transformer.{name}": tuple(f"transformer.{linear}" for linear in readers)
            for name, readers in inputs.items()
        }
        linears = tuple(linear for readers in named.values() for linear in readers)
        return Family((), (), (), linears, named)

    @staticmethod
    def stage(linear: str) -> Stage:
        """Which part of fusion a linear or an input belongs to."""
        if linear.startswith(TEXT_PARTS):
            return "text"
        return "kv" if linear.endswith(("attn2.to_k", "attn2.to_v", "attn2.kv")) else "spatial"


Inputs = dict[str, tuple[str, ...]]


def _text_inputs(text_encoders: Sequence[TextEncoder]) -> Inputs:
    inputs: Inputs = {}
    for part, text_encoder in zip(TEXT_PARTS, text_encoders, strict=False):
        core = text_core(text_encoder)
        for layer in [n for n, m in core.named_modules() if isinstance(m, CLIPAttention)]:
            path = f"{part}.{layer}"
            inputs[f"{path}.qkv"] = tuple(f"{path}.{each}" for each in _TEXT_LINEARS[:3])
            inputs[f"{path}.out"] = (f"{path}.{_TEXT_LINEARS[3]}",)
    return inputs


def _own_inputs(sites: Sequence[str]) -> Inputs:
    inputs: Inputs = {}
    for name in sites:
        inputs[f"unet.{name}.qkv"] = tuple(f"unet.{name}.{p}" for p in _UNET_LINEARS[:3])
        inputs[f"unet.{name}.out"] = (f"unet.{name}.{_UNET_LINEARS[3]}",)
    return inputs


def _cross_inputs(sites: Sequence[str], groups: Sequence[int]) -> Inputs:
    """The text of a group is one input, called by the first site that reads it."""
    inputs: Inputs = {}
    for index, (name, group) in enumerate(zip(sites, groups, strict=True)):
        inputs[f"unet.{name}.q"] = (f"unet.{name}.to_q",)
        if group not in groups[:index]:
            readers = [site for site, own in zip(sites, groups, strict=True) if own == group]
            parts = [f"unet.{site}.{part}" for site in readers for part in ("to_k", "to_v")]
            inputs[f"unet.{name}.kv"] = tuple(parts)
        inputs[f"unet.{name}.out"] = (f"unet.{name}.{_UNET_LINEARS[3]}",)
    return inputs


def linear_modules(
    family: Family, unet: UNet2DConditionModel, *text_encoders: TextEncoder
) -> dict[str, nn.Linear]:
    """The modules behind `family.linears`."""
    roots: dict[str, nn.Module] = {"unet": unet, "transformer": unet}
    roots |= zip(TEXT_PARTS, map(text_core, text_encoders), strict=False)
    found = {}
    for name in family.linears:
        part, path = name.split(".", 1)
        module = roots[part].get_submodule(path)
        if not isinstance(module, nn.Linear):
            raise EnvironmentProblem(f"`{name}` is not a plain linear layer")
        found[name] = module
    return found
