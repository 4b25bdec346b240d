"""A fused model as a folder that stock diffusers opens: the deltas merged into the base's weights.

A stock tokenizer knows one embedding for a word, not one for every cross-attention layer: each
word gets the mean over its layers. The file in storyforge's own form loses nothing and is smaller.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import save_file
from torch import nn
from transformers import AddedToken

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.fuse.modelspec import modelspec
from storyforge.fuse.older import made_readable, write_vocabulary
from storyforge.fuse.original import original
from storyforge.model.base import BaseModel, Encoder
from storyforge.model.concept import FusedModel
from storyforge.model.denoising import make_scheduler
from storyforge.model.dit.door import Door, stock_pipeline
from storyforge.model.family import TextEncoder, token_table
from storyforge.model.formats.textual_inversion import write_words
from storyforge.model.lora import merged
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.model.tokens import ConceptTokens

_README: Final = """\
# {names}, fused into `{base}`

A {kind} model in diffusers' own form, written by storyforge. It holds the merged weights; the
tokenizer knows the concepts' words.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{folder}")
picture = pipe(
    "{prompt}",
    num_inference_steps={steps},
    guidance_scale={guidance_scale},{rescale}
).images[0]
```

- Write a concept as `<name>`; it stands for two words, and the pipeline writes out both
  (`<name> <name>_1`; other programs may want them written out).
{lost}- Regions, and a prompt for each, are storyforge's own too.
- The licence of the base and those of the concepts' pictures hold for this folder as well.
"""


_LOST: Final = """\
- A concept has its own embedding for each of the {groups} cross-attention layers, and a stock
  text encoder has room for one. Here each word is the mean over its layers: the embeddings of one
  word lie {spread:.0%} of their length from their mean, and the more that is, the more a picture
  shows the class instead of the concept. In storyforge itself nothing of this is lost.
"""


_FILE_README: Final = """\
# {names}, fused into `{base}`

One checkpoint as web UIs and ComfyUI read it, written by storyforge: `model.safetensors` belongs
where checkpoints lie, the files in `embeddings` where textual inversions do. The model predicts
`{said}`.

- A concept is called up by the name of its file: `{first}` in A1111's web UI,
  `embedding:{first}` in ComfyUI.
{lost}- Regions, and a prompt for each, are storyforge's own too.
- The licence of the base and those of the concepts' pictures hold for this folder as well.
"""


def check_vacant(folder: Path) -> None:
    """Raise StoryForgeError if there is something at the path that a checkpoint would replace."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        message = f"`{folder}` is not empty"
        raise StoryForgeError(message, hint="name a new folder for the merged model")


Target = Literal["diffusers", "single-file"]
"""What a merged model is written as."""


def write_checkpoint(
    base: BaseModel,
    fused: FusedModel,
    folder: Path,
    to: Target = "diffusers",
    *,
    half: bool = True,
    licences: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the merged model into a new or empty folder; it appears whole or not at all.

    half      whether its weights are in half precision
    licences  concept -> its licence, as one file states it

    Raises StoryForgeError if the folder holds something, or for a form that the base has not,
    EnvironmentProblem if it cannot be written.
    """
    check_vacant(folder)
    if to == "single-file" and (base.door is not None or isinstance(base.vae, PatchAutoencoder)):
        message = f"`{base.name}` has no form in one file that other programs read"
        raise StoryForgeError(message, hint="leave out `--to`: a folder is written")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    dtype = torch.float16 if half else torch.float32
    try:
        with merged(base, {n: d for n, d in fused.deltas.items() if not n.startswith("text_")}):
            if to == "single-file":
                _write_file(base, fused, partial, dtype, modelspec(base, fused, licences))
            else:
                _write_folder(base, fused, partial, dtype)
        readme = _file_readme if to == "single-file" else _readme
        (partial / "README.md").write_text(readme(base, fused, folder), encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    except OSError as exc:
        message = f"cannot write `{folder}`: {exc.strerror or type(exc).__name__}"
        raise EnvironmentProblem(message) from exc
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_folder(base: BaseModel, fused: FusedModel, folder: Path, dtype: torch.dtype) -> None:
    """The folder of a pipeline, whose tokenizers know the words."""
    taught = _taught(base, fused.tokens)
    _merge_text(base, fused, [each.model for each in taught])
    _pipeline(base, taught).save_pretrained(folder)
    made_readable(folder, dtype)
    if base.door is None:
        for number, each in zip(("", "_2"), taught, strict=False):
            write_vocabulary(each.tokenizer, folder / f"tokenizer{number}")


def _write_file(
    base: BaseModel, fused: FusedModel, folder: Path, dtype: torch.dtype, told: Mapping[str, str]
) -> None:
    """One file of the makers' names, whose vocabulary others expect as it is; words beside it."""
    plain = tuple(Encoder(copy.deepcopy(e.model), e.tokenizer) for e in base.encoders)
    _merge_text(base, fused, [each.model for each in plain])
    folder.mkdir(parents=True)
    tensors = {n: w.detach().to(dtype).contiguous() for n, w in original(base, plain).items()}
    # How trainers of SDXL mark what a file predicts.
    schedule = make_scheduler(base, None).config
    if len(plain) == 2 and schedule.prediction_type == "v_prediction":
        tensors["v_pred"] = torch.zeros(0)
    if len(plain) == 2 and schedule.get("rescale_betas_zero_snr"):
        tensors["ztsnr"] = torch.zeros(0)
    save_file(tensors, folder / "model.safetensors", {"format": "pt", **told})
    widths = base.widths if len(plain) == 2 else None
    for name, words in fused.tokens.items():
        (folder / "embeddings").mkdir(exist_ok=True)
        write_words(words.words, folder / "embeddings" / f"{name}.safetensors", {}, widths)


def _file_readme(base: BaseModel, fused: FusedModel, folder: Path) -> str:
    names = ", ".join(f"`{name}`" for name in fused.tokens)
    said = make_scheduler(base, None).config.prediction_type
    kept = _LOST.format(groups=base.family.groups, spread=_spread(fused.tokens))
    return _FILE_README.format(
        names=names or "Nobody",
        base=base.name,
        said=said,
        first=next(iter(fused.tokens), "name"),
        lost=kept,
    )


def _pipeline(base: BaseModel, taught: Sequence[Encoder]) -> DiffusionPipeline:
    """diffusers' own pipeline of the base, with other text encoders."""
    if base.door is not None:
        return stock_pipeline(base.door)(
            vae=base.vae,
            transformer=base.unet,
            scheduler=FlowMatchEulerDiscreteScheduler.from_config(base.scheduler_config),
            text_encoder=taught[0].model,
            tokenizer=taught[0].tokenizer,
            **base.door.said(base.defaults.guidance_scale),
        )
    parts = {
        "vae": base.vae,
        "unet": base.unet,
        "scheduler": make_scheduler(base, None),
        "text_encoder": taught[0].model,
        "tokenizer": taught[0].tokenizer,
    }
    if len(taught) == 1:
        return StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    return StableDiffusionXLPipeline(
        **parts,
        text_encoder_2=taught[1].model,
        tokenizer_2=taught[1].tokenizer,
        force_zeros_for_empty_prompt=base.empty_is_zero,
    )


def _taught(base: BaseModel, tokens: Mapping[str, ConceptTokens]) -> list[Encoder]:
    """Copies of the base's tokenizers and text encoders that know the concepts' words."""
    own = {name: torch.split(each.words, base.widths, -1) for name, each in tokens.items()}
    return [
        _one_taught(encoder, {name: parts[index] for name, parts in own.items()}, base.door)
        for index, encoder in enumerate(base.encoders)
    ]


def _one_taught(encoder: Encoder, words: Mapping[str, torch.Tensor], door: Door | None) -> Encoder:
    """A copy that knows words; of each (n, G, d) the mean over its layers."""
    tokenizer, text_encoder = copy.deepcopy(encoder.tokenizer), copy.deepcopy(encoder.model)
    # The names that diffusers gives the vectors of one token, which it then writes out itself.
    written = [word for name, own in words.items() for word in _written(name, own)]
    # To a large language model the space before a word is a part of it.
    tokenizer.add_tokens([AddedToken(word, lstrip=door is not None) for word in written])
    # Stock pipelines pad to what the tokenizer says, and not every base's says it.
    tokenizer.model_max_length = int(text_encoder.config.max_position_embeddings)
    rows = max(len(tokenizer), len(token_table(text_encoder)))  # some tables have rows to spare
    text_encoder.resize_token_embeddings(rows, mean_resizing=False)
    # Some configurations look for a prompt's end at the largest id, which is now a concept's.
    text_encoder.config.eos_token_id = tokenizer.eos_token_id
    table: torch.Tensor = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        for name, own in words.items():
            table[tokenizer.convert_tokens_to_ids(_written(name, own))] = own.mean(1).to(table)
    return Encoder(text_encoder, tokenizer)


def _written(name: str, words: torch.Tensor) -> list[str]:
    """The names that diffusers gives the vectors of one token: `<pip>`, `<pip>_1`, …."""
    return [f"<{name}>" + (f"_{n}" if n else "") for n in range(len(words))]


def _merge_text(base: BaseModel, fused: FusedModel, copies: Sequence[TextEncoder]) -> None:
    """Add the text encoders' deltas to the weights of copies of them."""
    copied: dict[int, nn.Module] = {}
    for encoder, other in zip(base.encoders, copies, strict=True):
        copied |= dict(zip(map(id, encoder.model.modules()), other.modules(), strict=True))
    with torch.no_grad():
        for name, delta in fused.deltas.items():
            if name.startswith("text_encoder"):
                weight = copied[id(base.linears[name])].weight
                assert isinstance(weight, torch.Tensor)
                weight += delta.weight().to(weight)


def _readme(base: BaseModel, fused: FusedModel, folder: Path) -> str:
    names = [f"`<{name}>`" for name in fused.tokens]
    defaults = base.defaults
    first = next(iter(fused.tokens), "")
    lost = _LOST.format(groups=base.family.groups, spread=_spread(fused.tokens))
    rescale = f"\n    guidance_rescale={defaults.guidance_rescale},"
    scale = defaults.guidance_scale
    return _README.format(
        names=", ".join(names) or "Nobody",
        kind="Stable Diffusion" if base.door is None else base.door.name,
        base=base.name,
        folder=folder.name,
        prompt=_prompt(base, first, len(fused.tokens[first].words)) if first else "a picture",
        steps=defaults.steps,
        guidance_scale=scale if base.door is None else base.door.stock_scale(scale),
        rescale=rescale if base.door is None else "",
        lost=lost if base.family.groups > 1 else "",
    )


def _prompt(base: BaseModel, name: str, words: int) -> str:
    """A prompt for the stock pipeline; those of transformers do not write words out themselves."""
    written = [f"<{name}>" + (f"_{n}" if n else "") for n in range(words)]
    return f"a picture of {' '.join(written if base.door is not None else written[:1])}"


def _spread(tokens: Mapping[str, ConceptTokens]) -> float:
    """How far a word's embeddings lie from their mean, as a share of their length (RMS)."""
    if not tokens:
        return 0.0
    words = torch.cat([concept.words.float() for concept in tokens.values()])
    apart = words - words.mean(1, keepdim=True)
    return (apart.square().sum() / words.square().sum()).sqrt().item()
