"""How fast and how large a training step is, on the shapes of Stable Diffusion 1.5.

Weights are random, pictures are noise of 256 px, one thread on the processor: only time and memory
mean anything here. Each loop runs in a process of its own: storyforge's as it is, and that of the
published recipe (`benchmarks.official`). Asked for by `benchmarks.training`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from benchmarks.official import Official
from storyforge.executor import peak_memory
from storyforge.model.base import BaseModel
from storyforge.modelref import POCKET, Defaults
from storyforge.train.config import TrainConfig
from storyforge.train.dataset import Example
from storyforge.train.edlora import learn
from storyforge.train.prior import PriorSet
from storyforge.train.trainable import TrainableConcept
from storyforge.train.training_set import training_set

SIDE = 256
PICTURES = 8
WORDS = "in the snow,on a beach,in a library,in a town,by night,on a hill,at home,in a wood"


def shapes() -> BaseModel:
    """A base of the shapes of Stable Diffusion 1.5 with random weights."""
    unet = UNet2DConditionModel(
        sample_size=SIDE // 8,
        cross_attention_dim=768,
        attention_head_dim=8,
        block_out_channels=(320, 640, 1280, 1280),
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=SIDE,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
        )
    )
    tokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer")
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return BaseModel("random", "0" * 64, unet, vae, text, tokenizer, noise, Defaults())


@dataclass(frozen=True, slots=True)
class Run:
    """One loop to be timed.

    loop   `official` or `ours`
    steps  that are timed, after one that is not
    batch  pictures a step
    share  of the batch that is the base's own pictures
    parts  in which a batch is worked through
    again  whether activations are computed twice (gradient checkpointing); 0 or 1
    """

    loop: str
    steps: int
    batch: int
    share: float = 0.0
    parts: int = 1
    again: int = 0


def recipe(run: Run) -> TrainConfig:
    """What storyforge does on such a base, but for the number of steps and pictures."""
    defaults = Defaults()
    return TrainConfig(
        steps=run.steps + 1,
        batch_size=run.batch,
        rank=4,
        alpha=4.0,
        embedding_lr=defaults.embedding_lr,
        text_lr=defaults.text_lr,
        unet_lr=defaults.unet_lr,
        noise_offset=defaults.noise_offset,
        prior_share=run.share,
        seed=0,
        accumulate=run.parts,
        checkpointing=bool(run.again),
    )


def examples() -> list[Example]:
    """Pictures of noise, each with a caption of its own."""
    generator = torch.Generator().manual_seed(0)
    return [
        Example(
            f"{words}.png",
            torch.rand(3, SIDE, SIDE, generator=generator),
            None,
            (f"a <pip> {words}",),
        )
        for words in WORDS.split(",")[:PICTURES]
    ]


def timed(run: Run) -> dict[str, object]:
    """Do it here: seconds and processor seconds of each step after the first, and bytes."""
    torch.manual_seed(0)
    base, asked = shapes(), recipe(run)
    trainable = TrainableConcept(base, "pip", "fox", asked)
    marks: list[tuple[float, float]] = []

    def mark(*_: object) -> None:
        marks.append((perf_counter(), process_time()))
        sys.stderr.write(f"{run.loop}: step {len(marks) - 1}\n")

    if run.loop == "official":
        official, generator = Official(base, trainable, asked), torch.Generator().manual_seed(0)
        shown = examples()
        for _ in range(asked.steps):
            mark()
            rows = torch.randint(0, len(shown), (run.batch,), generator=generator).tolist()
            official.step([shown[row] for row in rows], generator)
        mark()
    else:
        latents = torch.randn(2, 4, SIDE // 8, SIDE // 8)
        prior = PriorSet(latents, ("a photo", "a landscape")) if run.share else None
        seen = training_set(base, examples(), prior)
        with TemporaryDirectory() as scratch:
            learn(base, trainable, seen, asked, Path(scratch), mark)
    spent = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(marks[1:], marks[2:], strict=False)]
    return {
        "seconds": median(wall for wall, _ in spent),
        "cpu_seconds": median(cpu for _, cpu in spent),
        "steps": len(spent),
        "peak_bytes": peak_memory(),
    }


def compare(steps: int, batch: int) -> dict[str, object]:
    """The loops one after the other, each in its own process, and their ratios."""
    share = Defaults().prior_share
    loops = {
        "official": Run("official", steps, batch),
        "ours": Run("ours", steps, batch, share),
        "ours_in_parts": Run("ours", steps, batch, share, parts=batch),
        "ours_checkpointed": Run("ours", steps, batch, share, parts=batch, again=1),
        "ours_without_prior": Run("ours", steps, batch),
    }
    found: dict[str, dict[str, float]] = {}
    for name, run in loops.items():
        words = [f"--{key}={value}" for key, value in asdict(run).items()]
        command = [sys.executable, "-m", "benchmarks.trainspeed", *words]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout)
    others = {name: ratios(found, name) for name in loops if name.startswith("ours_")}
    return {"batch": batch, "loops": found, **ratios(found, "ours"), **others}


def ratios(found: Mapping[str, Mapping[str, float]], ours: str) -> dict[str, float]:
    """How many steps ours does in the time of one of theirs, and its memory over theirs."""
    one, other = found["official"], found[ours]
    return {
        "steps_ratio": one["seconds"] / other["seconds"],
        "cpu_steps_ratio": one["cpu_seconds"] / other["cpu_seconds"],
        "memory_ratio": other["peak_bytes"] / one["peak_bytes"],
    }


def main() -> None:
    """Time one loop and print it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trainspeed", description=__doc__)
    parser.add_argument("--loop", choices=("official", "ours"), required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=Defaults().train_batch)
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--again", type=int, default=0)
    torch.set_num_threads(1)
    print(json.dumps(timed(Run(**vars(parser.parse_args())))))


if __name__ == "__main__":
    main()
