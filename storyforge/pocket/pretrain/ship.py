"""Stages `keep-start`, `ship`, `ship-clip`, `ship-adapters`: what was trained goes to its place."""

import json
import shutil
from pathlib import Path

import numpy as np
from diffusers import T2IAdapter
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from storyforge.pocket import world
from storyforge.pocket.pretrain import parts
from storyforge.pocket.pretrain.adapters import PEAK, new_adapter, widened
from storyforge.pocket.pretrain.denoiser import SHIPPED, assemble
from storyforge.pocket.pretrain.run import Average, Job, Team, under

PARTS = ("unet", "vae", "text_encoder", "tokenizer")
PRIOR_PICTURES = 48
HABITS: dict[str, object] = {
    "steps": 20,
    "guidance_scale": 1.7,
    "guidance_rescale": 0.7,
    "company": True,
    "scheduler": "dpm++2m",
    "train_steps": 120,
    "train_batch": 5,
    "embedding_lr": 6e-3,
    "text_lr": 1e-3,
    "unet_lr": 3e-3,
    "noise_offset": 0.0,
    "prior_share": 0.4,
    "masked_prior": 0.6,
    "unmasked_pace": 0.67,
    "prior_pictures": PRIOR_PICTURES,
}
"""Measured on this model; written beside the weights as `storyforge.json`."""


def keep_start(job: Job, team: Team) -> None:
    """Copy what was trained so far to where the next training starts, in fp16."""
    assemble_averages(job)
    _copy_parts(job.folder / "pipeline", parts.start_folder(), PARTS)
    _keep_heads(job)


def _keep_heads(job: Job) -> None:
    """What text says by its features is learnt beside it, and no picture needs it."""
    target = parts.start_folder() / "heads.safetensors"
    heads = under(load_file(job.folder / "unet.safetensors"), "model.heads.")
    save_file({name: weight.half() for name, weight in heads.items()}, target)
    target.chmod(0o644)


def ship(job: Job, team: Team) -> None:
    """Assemble the pipeline from the checkpoint and copy it into the package.

    The next training starts from there: what `keep-start` kept is gone.
    """
    assemble_averages(job)
    target = parts.weights_folder()
    _copy_parts(job.folder / "pipeline", target, (*PARTS, "scheduler"))
    shutil.copy(job.folder / "pipeline" / "model_index.json", target / "model_index.json")
    generator = np.random.default_rng(2024)
    prompts = [world.describe(world.imagine(generator), generator) for _ in range(PRIOR_PICTURES)]
    habits = {**HABITS, "prior_prompts": prompts}
    (target / "storyforge.json").write_text(json.dumps(habits, indent=1) + "\n", encoding="utf-8")
    _keep_heads(job)
    for part in PARTS:
        shutil.rmtree(parts.start_folder() / part, ignore_errors=True)


def assemble_averages(job: Job) -> None:
    """Write `<folder>/pipeline` from the averages in the checkpoint."""
    tokenizer = CLIPTokenizer.from_pretrained(parts.part_folder(job.folder, "tokenizer"))
    tensors = load_file(job.folder / "unet.safetensors")
    averages = {}
    for name, module in (("unet", parts.new_unet()), ("text", parts.new_text_encoder(tokenizer))):
        averages[name] = Average(module, 1.0)
        averages[name].values = under(tensors, f"ema.{name}{SHIPPED}.")
    assemble(job.folder, averages, tokenizer)


def _copy_parts(source: Path, target: Path, names: tuple[str, ...]) -> None:
    for name in names:
        shutil.rmtree(target / name, ignore_errors=True)
        shutil.copytree(source / name, target / name)
    for file in target.rglob("*.safetensors"):
        file.chmod(0o644)


def ship_clip(job: Job, team: Team) -> None:
    """Copy the trained CLIP into the package, beside the weights; no base changes by it."""
    target = parts.clip_folder()
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(job.folder / "clip", target)
    for file in target.iterdir():
        file.chmod(0o644)


def ship_adapters(job: Job, team: Team) -> None:
    """Write the averaged weights of every adapter that was trained, in fp16, into the package."""
    for name in PEAK:
        checkpoint = job.folder / f"{name}.safetensors"
        if not checkpoint.is_file():
            continue
        weights = under(load_file(checkpoint), "ema.adapter.")
        adapter = new_adapter(name, parts.part_folder(job.folder, "unet"))
        if isinstance(adapter, T2IAdapter):
            colours = adapter.config.in_channels
            adapter = T2IAdapter(colours, list(parts.WIDTHS), 2, 2 * parts.DOWNSCALE)
            weights = widened(weights)
        adapter.load_state_dict(weights)
        target = parts.adapters_folder() / name
        shutil.rmtree(target, ignore_errors=True)
        adapter.half().save_pretrained(target)
        for file in target.iterdir():
            file.chmod(0o644)
