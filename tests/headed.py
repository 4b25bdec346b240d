"""Files and folders that say what they are, and hold next to nothing: for tests that open none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

UNET = {"in_channels": 4, "cross_attention_dim": 768}
VAE = {"latent_channels": 4}
SCHEDULER = {"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012}


def shared_concept(path: Path, name: str = "ann", **metadata: str) -> Path:
    """A concept's file, as somebody else might have shared it."""
    told = {"storyforge.format": "1", "name": name, "base_hash": "", **metadata}
    save_file({"concept.words": np.zeros((2, 1, 4), np.float16)}, path, told)
    return path


def base_folder(folder: Path, pipeline: str = "StableDiffusionPipeline", **unet: object) -> Path:
    """A base of diffusers' form, whole, with weights of one number each."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        (folder / part).mkdir(exist_ok=True)
    (folder / "unet" / "config.json").write_text(json.dumps(UNET | unet))
    (folder / "vae" / "config.json").write_text(json.dumps(VAE))
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    for part in ("unet", "vae", "text_encoder"):
        save_file({"one": np.zeros(1, np.float32)}, folder / part / "model.safetensors")
    return folder
