"""How long real bases take to open, and how much memory they need, on their true shapes.

`python -m benchmarks.bases --json`. Weights are random, and each measurement is a process of its
own: only time and memory mean anything here. A base lies where `storyforge` itself would put it.

    …_gb          the most that the process had in use, in GiB
    …_tensors_gb  with `--count` instead: the most that its tensors were, by their shapes, which is
                  what a GPU has to hold of the same work, without its own context and the
                  workspaces of its kernels. Counting holds memory up, and is a run of its own
    precision     what the weights were computed in: a processor without units for half precision
                  computes in full, and needs twice the memory for weights

Not covered: pictures, and speed on a GPU (`benchmarks.sampling` has the sampler's).
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final
from weakref import WeakSet, finalize

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from storyforge.executor import peak_memory, processors, silent
from storyforge.fuse import statistics
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.components import clip_tokenizer
from storyforge.model.concept import plain
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.placement import asked_placement, open_placed, weights_of
from storyforge.model.tokens import encode
from storyforge.model.vocabulary import CONFIGS
from storyforge.settings import TrainSettings
from storyforge.tasks import TrainTask
from storyforge.train.config import config_of
from storyforge.train.dataset import Example
from storyforge.train.edlora import learn
from storyforge.train.trainable import TrainableConcept
from storyforge.train.training_set import training_set

FAMILIES: Final[Mapping[str, str]] = {"sd15": "sd1", "sdxl": "sdxl"}
"""What a family is called here, and what its configurations are called."""

_SPREAD: Final = 0.02
"""Deviation of the random weights."""

GIB: Final = 1 << 30


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are there at once, while it is on."""

    def __init__(self, there: Iterable[torch.Tensor] = ()) -> None:
        """Begin with those that are there already."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: WeakSet[torch.UntypedStorage] = WeakSet()
        for each in there:
            self._count(each.untyped_storage())

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run an operation, and count what it made."""
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, torch.Tensor):
                self._count(each.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.now -= size


def write_random(family: str, folder: Path) -> None:
    """A base of random weights in half precision, as diffusers saves it."""
    configs = CONFIGS / FAMILIES[family]
    generator = torch.Generator().manual_seed(0)
    for file in configs.rglob("*.json"):
        there = folder / file.relative_to(configs)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(file.read_bytes())
    for part, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        if part == "tokenizer" or family == "sdxl":
            clip_tokenizer(pad).save_pretrained(folder / part)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if (configs / part).is_dir():
            with torch.device("meta"):
                shapes = _model(configs / part, part).state_dict()
            tensors = {
                name: (_SPREAD * torch.randn(like.shape, generator=generator)).half()
                for name, like in shapes.items()
                if like.is_floating_point()
            }
            for name, made in tensors.items():
                if "norm" in name and name.endswith("weight"):
                    made += 1
            name = "model" if part.startswith("text") else "diffusion_pytorch_model"
            save_file(tensors, folder / part / f"{name}.safetensors", {"format": "pt"})


def _model(folder: Path, part: str) -> torch.nn.Module:
    made: torch.nn.Module
    if part == "unet":
        made = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder))
    elif part == "vae":
        made = AutoencoderKL.from_config(AutoencoderKL.load_config(folder))
    else:
        kind = CLIPTextModelWithProjection if part.endswith("2") else CLIPTextModel
        made = kind(CLIPTextConfig.from_pretrained(folder))
    return made


def _train(base: BaseModel, folder: Path) -> None:
    """One step of ED-LoRA with one picture of the base's own size."""
    asked = TrainSettings(batch_size=1, prior_share=0.0, steps=1)
    task = TrainTask("key", "pip", "object", "fox", folder, (), base.reference, base.hash, asked)
    config = config_of(task, base)
    pixels = torch.rand(3, base.side, base.side, generator=torch.Generator().manual_seed(0))
    seen = training_set(base, [Example("a.png", pixels, None, ("a <pip>",))], None)
    learn(base, TrainableConcept(base, "pip", "fox", config), seen, config, folder, silent)


@torch.no_grad()
def _draw(base: BaseModel, folder: Path) -> None:
    """One step of one picture, and the picture."""
    text = encode(base, ["", "a red fox"], {})
    base.decode(denoise(base, AttentionContext(text), start_latents(base, [0]), steps=1))


def _watch(base: BaseModel, folder: Path) -> None:
    """One step of one prompt, with what every layer sees."""
    statistics.watch(base, plain(base), ["a red fox"], lambda gram: None, steps=1)


def _open(base: BaseModel, folder: Path) -> None:
    """Nothing more than opening."""


STAGES: Final[Mapping[str, Callable[[BaseModel, Path], None]]] = {
    "open": _open,
    "draw": _draw,
    "train": _train,
    "watch": _watch,
}


def counted(folder: Path, stage: str) -> dict[str, float]:
    """One stage in this process: what its tensors were at most, in GiB."""
    base = _opened(folder)
    with TemporaryDirectory() as scratch, LiveTensors(_weights(base)) as live:
        STAGES[stage](base, Path(scratch))
    return {f"{stage}_tensors_gb": live.peak / GIB}


def measure(folder: Path, stage: str) -> dict[str, float]:
    """One stage in this process: seconds to open, seconds for the rest, GiB at most."""
    started = perf_counter()
    base = _opened(folder)
    opened = perf_counter() - started
    with TemporaryDirectory() as scratch:
        STAGES[stage](base, Path(scratch))
    rest = {} if stage == "open" else {f"{stage}_seconds": perf_counter() - started - opened}
    return {"open_seconds": opened, **rest, f"{stage}_gb": peak_memory() / GIB}


def _opened(folder: Path) -> BaseModel:
    base = open_placed(str(folder), "0" * 64)
    base.defaults = replace(base.defaults, train_steps=1)
    return base


def _weights(base: BaseModel) -> Iterator[torch.Tensor]:
    for part in (base.unet, base.vae, *(each.model for each in base.encoders)):
        yield from part.state_dict().values()


def measured(folder: Path, stages: Sequence[str], more: Sequence[str]) -> dict[str, object]:
    """Every stage in a process of its own, which is asked for `more` as well."""
    precision = str(asked_placement(str(folder)).dtype).removeprefix("torch.")
    found: dict[str, object] = {"weights": weights_of(str(folder)), "precision": precision}
    for stage in stages:
        command = [sys.executable, "-m", "benchmarks.bases", "--folder", str(folder)]
        done = subprocess.run(
            [*command, "--stage", stage, *more], check=True, stdout=subprocess.PIPE, text=True
        )
        found |= json.loads(done.stdout)
        print(f"{stage}: {done.stdout.strip()}", file=sys.stderr)
    return found


def _about() -> dict[str, object]:
    """Where, when and how it was measured."""
    return {
        "machine": {
            "processors": processors(),
            "machine": platform.machine(),
            "units": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "transformers": transformers.__version__,
        },
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks.bases", *sys.argv[1:]]),
    }


def main() -> None:
    """Measure what is asked for, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="for company: it is all there is")
    parser.add_argument("--families", default="sd15,sdxl", help="such as `sd15`")
    parser.add_argument("--stages", default=",".join(STAGES), help="such as `open,draw`")
    parser.add_argument("--count", action="store_true", help="count tensors instead")
    parser.add_argument("--folder", type=Path, help="where a base lies already")
    parser.add_argument("--stage", choices=STAGES, help="measure that alone, in this process")
    args = parser.parse_args()
    if args.stage is not None:
        found = (counted if args.count else measure)(args.folder, args.stage)
        print(json.dumps({name: round(value, 2) for name, value in found.items()}))
        return
    told: dict[str, object] = {}
    for family in args.families.split(","):
        with TemporaryDirectory() as made:
            folder = args.folder or Path(made)
            if not (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file():
                write_random(family, folder)
            more = ["--count"] if args.count else []
            told[family] = measured(folder, args.stages.split(","), more)
    print(json.dumps(told | _about(), indent=1))


if __name__ == "__main__":
    main()
