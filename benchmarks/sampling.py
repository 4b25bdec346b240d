"""What regions cost: our sampler beside the stock pipeline of diffusers, on the same weights.

`python -m benchmarks.sampling --json` draws the same picture with stock `StableDiffusionPipeline`
and with our sampler, with 0, 1, 3 and 6 regions: on the embedded model, and on the shapes of Stable
Diffusion 1.5 with random weights. Then three regions each name a concept of random weights: read by
one fused model (`fused`), and each by its concept's own text weights (`exact-text`, the usual way).
Each picture of ours is drawn next to a stock one, in turns first and second, after a round to warm
up. A ratio is the median of the rounds, of the processor's seconds, on one thread, so that what
else the machine does hits both; `wall_ratio` is the same by the clock. Prompts are read once a
picture: the fewer steps, the more their number shows. Peak memory is that of a process of its own
for each contender, from when the model is opened. Guidance is what LoRA-Composer adds to regions: a
gradient step before a denoising step.

Not covered: accelerators, and what the pictures look like (random weights draw nothing).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Final, Literal

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from storyforge.executor import processors
from storyforge.geometry.box import Box
from storyforge.model.base import BaseModel, open_base
from storyforge.model.card import WORDS as CONCEPT_WORDS
from storyforge.model.concept import Concept, FusedModel, plain
from storyforge.model.denoising import make_scheduler, start_latents
from storyforge.model.family import token_table
from storyforge.model.lora import Delta, joined
from storyforge.model.tokens import ConceptTokens
from storyforge.sample.sampler import SamplingContext, picture, pictures
from storyforge.settings import RegionModel
from storyforge.tasks import Method, PanelTask, RegionTask

Shapes = Literal["pocket", "sd15"]

REGIONS: Final = (0, 1, 3, 6)
ONE: Final = Box(x0=0.25, y0=0.2, x1=0.75, y1=1.0)
WORDS: Final = ("a fox in a coat", "an owl", "a cat with a hat", "a red ball", "a bear", "a frog")
WHOLE: Final = "a fox on the left and an owl on the right, in a forest by night"

READ_BY: Final[tuple[RegionModel, ...]] = ("fused", "exact-text")
"""Weights that concepts' prompts are read with."""

CONTENDERS: Final = (*map(str, REGIONS), *READ_BY)
"""Each is timed beside the stock pipeline."""

RANK: Final = 4
"""Of each concept's changes."""

_PEAK: Final = "VmHWM:"
"""The line of /proc/self/status with the most memory that was resident, in KiB."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One model and how much is drawn with it; `size` in pixels, None for the model's own."""

    shapes: Shapes
    size: int | None
    steps: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds: of the processor, and by the clock."""

    processor: float
    clock: float


def opened(shapes: Shapes) -> BaseModel:
    """The embedded model, or one of Stable Diffusion 1.5's shapes with random weights."""
    torch.set_num_threads(1)
    pocket = open_base("pocket", "0" * 64)
    if shapes == "pocket":
        return pocket
    torch.manual_seed(0)
    channels = (128, 256, 512, 512)
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
    )
    return BaseModel(
        reference=shapes,
        hash="0" * 64,
        unet=UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            block_out_channels=channels,
            layers_per_block=2,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=pocket.tokenizer,
        scheduler_config=pocket.scheduler_config,
        defaults=replace(pocket.defaults, scheduler="dpm++2m"),
    )


def asked(base: BaseModel, bench: Bench, regions: int) -> PanelTask:
    """The panel that is drawn: subjects in a row, or one in the middle."""
    edges = np.linspace(0, 1, regions + 1).round(4)
    row = [Box(x0=x0, y0=0.25, x1=x1, y1=1.0) for x0, x1 in zip(edges, edges[1:], strict=False)]
    boxes = [ONE] if regions == 1 else row
    side = bench.size or base.side
    return PanelTask(
        key="",
        panel="asked",
        page=1,
        base=base.reference,
        base_hash=base.hash,
        fused=None,
        prompt=WHOLE,
        negative="",
        regions=tuple(
            RegionTask(str(i), box, words, "", 1.0, 0, None)
            for i, (box, words) in enumerate(zip(boxes, WORDS, strict=False))
        ),
        size=(side, side),
        steps=bench.steps,
        guidance_scale=base.defaults.guidance_scale,
        guidance_rescale=0.0,
        scheduler=None,
        region_blend=1.0,
        seed=1,
        alt=None,
    )


def stock(base: BaseModel, bench: Bench) -> Callable[[], np.ndarray]:
    """The stock pipeline around the base's own modules, drawing the same panel without regions."""
    pipe = StableDiffusionPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=base.unet,
        scheduler=make_scheduler(base, None),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    task = asked(base, bench, 0)

    def draw() -> np.ndarray:
        made = pipe(
            task.prompt,
            negative_prompt=task.negative,
            latents=start_latents(base, [task.seed], task.size),
            num_inference_steps=task.steps,
            guidance_scale=task.guidance_scale,
            output_type="np",
        ).images[0]
        picture: np.ndarray = np.rint(255 * made).astype(np.uint8)
        return picture

    return draw


def ours(base: BaseModel, bench: Bench, regions: int) -> Callable[[], np.ndarray]:
    """Our sampler, drawing the panel with so many regions."""
    task, model = asked(base, bench, regions), plain(base)
    return lambda: picture(base, model, task)


def cast_of(base: BaseModel) -> dict[str, Concept]:
    """Three concepts of random weights, with words of their own for every layer."""
    torch.manual_seed(1)
    wide = token_table(base.text_encoder).shape[1]
    cast = {}
    for name in ("pip", "juna", "ball"):
        words = torch.randn(CONCEPT_WORDS, base.family.groups, wide)
        deltas = {
            linear: Delta(
                0.01 * torch.randn(module.out_features, RANK),
                0.01 * torch.randn(RANK, module.in_features),
            )
            for linear, module in base.linears.items()
        }
        tokens = ConceptTokens(name, 0.01 * words)
        cast[name] = Concept(name, "character", "fox", tokens, deltas, base.reference, base.hash)
    return cast


def named(base: BaseModel, bench: Bench, regions: RegionModel) -> Callable[[], np.ndarray]:
    """Our sampler, drawing three concepts of one fused model, a region each."""
    cast = cast_of(base)
    task = asked(base, bench, len(cast))
    own = tuple(
        replace(region, concept=name, prompt=f"{region.prompt} and <{name}>")
        for region, name in zip(task.regions, cast, strict=True)
    )
    task = replace(task, regions=own, method=Method(regions=regions))
    deltas = {
        linear: joined([concept.deltas[linear] for concept in cast.values()])
        for linear in base.linears
    }
    tokens = {name: concept.tokens for name, concept in cast.items()}
    studio = SamplingContext(base, FusedModel(base.reference, base.hash, tokens, deltas), cast)

    def draw() -> np.ndarray:
        (made,) = pictures(studio, [task])
        return made.pixels

    return draw


def guided(base: BaseModel, bench: Bench, *, guidance: bool) -> Callable[[], list[Spent]]:
    """Three regions with LoRA-Composer's guidance or without, telling what every step takes."""
    method = Method(enhancement=guidance, isolation=guidance)
    task = replace(asked(base, bench, 3), method=method)

    def draw() -> list[Spent]:
        at = [Spent(process_time(), perf_counter())]

        def on_progress(what: str, done: int, total: int) -> None:
            at.append(Spent(process_time(), perf_counter()))

        pictures(SamplingContext(base, plain(base), on_progress=on_progress), [task])
        return [
            Spent(b.processor - a.processor, b.clock - a.clock)
            for a, b in zip(at, at[1:], strict=False)
        ]

    return draw


def drawing(base: BaseModel, bench: Bench, contender: str) -> Callable[[], object]:
    """What draws a picture in one of the ways that are compared."""
    if contender == "stock":
        return stock(base, bench)
    if contender == "guidance":
        return guided(base, bench, guidance=True)
    for regions in READ_BY:
        if contender == regions:
            return named(base, bench, regions)
    return ours(base, bench, int(contender))


def timed(draw: Callable[[], object]) -> Spent:
    """What one picture takes."""
    processor, clock = process_time(), perf_counter()
    draw()
    return Spent(process_time() - processor, perf_counter() - clock)


def times(bench: Bench) -> dict[str, object]:
    """Seconds per picture of all contenders, and their ratios to the stock pipeline."""
    base = opened(bench.shapes)
    whole = stock(base, bench)
    ratios: dict[str, float] = {}
    clocks: dict[str, float] = {}
    seconds: dict[str, float] = {}
    beside: list[Spent] = []
    warmed = whole()
    if not np.abs(warmed.astype(int) - ours(base, bench, 0)()).max() <= 1:
        raise SystemExit("our sampler and the stock pipeline do not draw the same picture")
    for contender in CONTENDERS:
        draw, pairs = drawing(base, bench, contender), []
        draw()
        for number in range(bench.rounds):
            first, second = (whole, draw) if number % 2 else (draw, whole)
            spent = timed(first), timed(second)
            pairs.append(spent if number % 2 else spent[::-1])
        told(f"{bench.shapes}, {contender}: {bench.rounds} rounds")
        ratios[contender] = median(own.processor / them.processor for them, own in pairs)
        clocks[contender] = median(own.clock / them.clock for them, own in pairs)
        seconds[contender] = median(own.processor for _, own in pairs)
        beside += [them for them, _ in pairs]
    return {
        "ratio": rounded(ratios),
        "wall_ratio": rounded(clocks),
        "seconds": rounded({"stock": median(each.processor for each in beside)} | seconds),
        "size": bench.size or base.side,
        "steps": bench.steps,
        "rounds": bench.rounds,
    }


def guidance_times(bench: Bench) -> dict[str, object]:
    """What a step with guidance takes beside one without, and a picture beside a picture.

    The second step is compared: guidance always works before it, and nothing is prepared in it.
    """
    base = opened(bench.shapes)
    without, with_it = (guided(base, bench, guidance=on) for on in (False, True))
    without()
    with_it()
    steps, whole = [], []
    for _ in range(bench.rounds):
        usual, more = without(), with_it()
        plain_step = median(step.processor for step in usual[1:])
        steps.append(more[1].processor / plain_step)
        whole.append(sum(step.processor for step in more) / sum(step.processor for step in usual))
    return rounded({"seconds_ratio_per_step": median(steps), "seconds_ratio": median(whole)})


def peak(bench: Bench, contender: str) -> tuple[int, int]:
    """KiB that drawing has at most in this process, and how much of it was there before."""
    base = opened(bench.shapes)
    draw = drawing(base, bench, contender)
    # From here on the kernel counts anew, where it lets us; else opening counts for all alike.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _resident()
    draw()
    return _resident(), before


def _resident() -> int:
    """The most KiB that were resident since the count began."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(_PEAK))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory(bench: Bench, contenders: Sequence[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """`peak` of each, in a process of its own."""
    for contender in contenders:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            yield contender, pool.submit(peak, bench, contender).result()
        told(f"{bench.shapes}: memory of {contender}")


def memory_ratios(bench: Bench) -> tuple[dict[str, object], dict[str, object]]:
    """Of three regions to the stock pipeline, and of guidance to three regions."""
    found = dict(memory(bench, ("stock", "3", "exact-text", "guidance")))
    added = {name: most - before for name, (most, before) in found.items()}
    mib = {name: round(most / 1024) for name, (most, _) in found.items()}
    regional = {
        "memory_ratio": round(found["3"][0] / found["stock"][0], 4),
        "memory_above_model_ratio": round(added["3"] / max(1, added["stock"]), 4),
        "memory_ratio_exact_text": round(found["exact-text"][0] / found["stock"][0], 4),
        "memory_mib": {name: mib[name] for name in ("stock", "3", "exact-text")},
    }
    guiding = {
        "memory_ratio": round(found["guidance"][0] / found["3"][0], 4),
        "memory_above_model_ratio": round(added["guidance"] / max(1, added["3"]), 4),
        "memory_mib": {"3": mib["3"], "guidance": mib["guidance"]},
    }
    return regional, guiding


def measured(benches: Sequence[Bench]) -> dict[str, object]:
    """All figures."""
    found: dict[str, object] = {}
    guiding: dict[str, object] = {}
    for bench in benches:
        regional, own = memory_ratios(bench)
        # The second step must be one of guidance, which ends at half of the steps.
        longer = replace(bench, steps=max(4, bench.steps))
        found[bench.shapes] = times(bench) | regional
        guiding[bench.shapes] = guidance_times(longer) | own
        told(f"{bench.shapes}: guidance")
    first = guiding[benches[0].shapes]
    assert isinstance(first, dict)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
    return {
        **found,
        "guidance": {**first, "by_model": guiding},
        "ratio_of": "seconds of the processor, on one thread; median of the rounds",
        "machine": {"processors": processors(), "machine": platform.machine()},
        "versions": versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "benchmarks.sampling", *sys.argv[1:]]),
    }


def rounded(numbers: Mapping[str, float]) -> dict[str, object]:
    """Four digits after the point."""
    return {name: round(value, 4) for name, value in numbers.items()}


def told(words: str) -> None:
    """Progress, beside the data."""
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="on the embedded model [9]")
    parser.add_argument("--steps", type=int, default=20, help="on the embedded model [20]")
    parser.add_argument("--sd15-rounds", type=int, default=2, help="[2]")
    parser.add_argument("--sd15-steps", type=int, default=10, help="[10]")
    parser.add_argument("--sd15-size", type=int, default=256, help="in pixels [256]")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    wanted = parser.parse_args()
    found = measured(
        [
            Bench("pocket", None, wanted.steps, wanted.rounds),
            Bench("sd15", wanted.sd15_size, wanted.sd15_steps, wanted.sd15_rounds),
        ]
    )
    if wanted.json:
        print(json.dumps(found, indent=1))
    else:
        for name, value in found.items():
            print(f"{name}: {json.dumps(value)}")


if __name__ == "__main__":
    main()
