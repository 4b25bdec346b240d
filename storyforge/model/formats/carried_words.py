"""A concept's words in the metadata of a LoRA, where no other program looks.

LoRAs have no place for words, and what lies beside a file gets lost: what storyforge exported comes
back whole, every layer's words with it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch

WORDS: Final = "storyforge.words"


def written(words: torch.Tensor) -> dict[str, str]:
    """The field of metadata that holds (n, G, d) words, in half precision."""
    half = words.detach().cpu().numpy().astype("<f2")
    content = base64.b64encode(half.tobytes()).decode()
    return {WORDS: json.dumps({"shape": half.shape, "float16": content})}


def read(metadata: Mapping[str, str]) -> torch.Tensor | None:
    """(n, G, d) words; None where a file brings none. Raises ValueError for broken ones."""
    if WORDS not in metadata:
        return None
    try:
        said = json.loads(metadata[WORDS])
        count, groups, width = (int(each) for each in said["shape"])
        content = base64.b64decode(said["float16"], validate=True)
        found = np.frombuffer(content, "<f2").reshape(count, groups, width)
    except (KeyError, TypeError) as exc:
        raise ValueError(f"no {exc}" if isinstance(exc, KeyError) else str(exc)) from exc
    words = torch.from_numpy(found.astype(np.float32))
    if not words.numel() or not words.isfinite().all():
        raise ValueError("they are no finite numbers")
    return words
