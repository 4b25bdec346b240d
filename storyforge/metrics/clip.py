"""Pictures and words as vectors of one space, by a CLIP (Radford et al. 2021).

Any `transformers.CLIPModel` folder or hub id will do; the embedded base has a small one of its own,
which knows its world and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoTokenizer, CLIPModel
from transformers import logging as transformers_logging
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from storyforge.errors import EnvironmentProblem
from storyforge.modelref import POCKET_CLIP, own_clip

_BATCH: Final = 32

Vectors = NDArray[np.float32]
"""(n, d), each row of length 1"""

TokenIds = dict[str, list[list[int]]]


@dataclass(frozen=True)
class Clip:
    """An opened CLIP; `reference` is how it was asked for."""

    reference: str
    model: CLIPModel
    processor: CLIPImageProcessorPil
    tokenizer: object

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Image.Image]) -> Vectors:
        """One row for each picture of any size; (0, d) for none."""
        made = [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(pictures), _BATCH):
            batch = [picture.convert("RGB") for picture in pictures[start : start + _BATCH]]
            pixels = self.processor(batch, return_tensors="pt")["pixel_values"]
            seen = self.model.vision_model(pixel_values=pixels).pooler_output
            made.append(_unit(self.model.visual_projection(seen)))
        return np.concatenate(made)

    @torch.no_grad()
    def words(self, texts: Sequence[str]) -> Vectors:
        """One row for each text, cut where the CLIP stops reading; (0, d) for none."""
        made = [np.zeros((0, self.width), np.float32)]
        for start in range(0, len(texts), _BATCH):
            assert callable(self.tokenizer)
            ids = self.tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
            read = self.model.text_model(ids.input_ids, attention_mask=ids.attention_mask)
            made.append(_unit(self.model.text_projection(read.pooler_output)))
        return np.concatenate(made)

    @property
    def width(self) -> int:
        """d of its vectors."""
        return int(self.model.config.projection_dim)


def open_clip(reference: str) -> Clip:
    """Open `pocket`, a folder, or a hub id; EnvironmentProblem if it cannot be read."""
    own = own_clip(reference) == reference
    where = str(POCKET_CLIP) if own else reference
    if own and not POCKET_CLIP.is_dir():
        hint = "install storyforge again, or give `--clip` a folder"
        raise EnvironmentProblem("the embedded model's CLIP is not in this installation", hint=hint)
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        model = CLIPModel.from_pretrained(where, dtype=torch.float32, use_safetensors=True).eval()
        processor = CLIPImageProcessorPil.from_pretrained(where)
        tokenizer = AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, KeyError) as exc:
        first = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        hint = "give `--clip` a folder or a hub id of a CLIPModel with its tokenizer"
        raise EnvironmentProblem(f"cannot open the CLIP `{reference}`: {first}", hint=hint) from exc
    finally:
        if bar:
            transformers_logging.enable_progress_bar()
    return Clip(reference, model, processor, tokenizer)


def _unit(rows: torch.Tensor) -> Vectors:
    made: Vectors = torch.nn.functional.normalize(rows.float(), dim=-1).numpy()
    return made
