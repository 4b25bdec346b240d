"""How well the embedded model draws what it is told, by a judge that is not part of it.

`python -m benchmarks.pocket --json` draws fresh prompts with fresh seeds. The judge is
`benchmarks/redrawn.py`, which draws again what it sees and reads off that what is there, beginning
with what was asked for. What it says of drawings when it is told much that is not in them stands
beside what it says of the model's pictures. It takes hours on two cores; with `--keep FOLDER` it
goes on where it was stopped. What is not there to be measured is null.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import control as controls
from benchmarks import judge as judges
from benchmarks import kept, redrawn
from storyforge import __version__
from storyforge.metrics.clip import open_clip
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel, open_base
from storyforge.model.denoising import denoise, start_latents
from storyforge.model.tokens import encode
from storyforge.modelref import POCKET, POCKET_CLIP
from storyforge.pocket import world
from storyforge.pocket.pretrain import clip as clips
from storyforge.pocket.pretrain.fidelity import HELD_OUT_SEED, Through, psnr

FIRST_SEED = 1 << 42
"""Prompts and noise from here on are used for nothing else."""

BATCH = 8
CROWD = 100
"""Pictures among which a caption has to find its own."""

Pixels = NDArray[np.uint8]
Code = Callable[[torch.Tensor], torch.Tensor]
"""(n, 3, h, w) in [−1, 1] to what an autoencoder makes of it."""


def subjects_of(count: int, pictures: int, first: int) -> list[world.Picture]:
    """Random pictures with `count` subjects, at most one a side."""
    found: list[world.Picture] = []
    seed = first
    while len(found) < pictures:
        picture = judges.one_a_side(np.random.default_rng(seed))
        seed += 1
        if len(picture.subjects) == count:
            found.append(picture)
    return found


@torch.no_grad()
def drawn(
    base: BaseModel, prompts: Sequence[str], first: int, folder: Path | None = None
) -> list[Pixels]:
    """The model's pictures of the prompts, at its own habits.

    folder  where they are kept, and found again
    """
    made: list[Pixels] = []
    for start in range(0, len(prompts), BATCH):
        part, seed = list(prompts[start : start + BATCH]), first + start
        if folder is None:
            made += _drawn(base, part, seed)
        else:
            made_by = [
                base.hash,
                __version__,
                repr(base.defaults),
                str(base.side),
                *part,
                str(seed),
            ]
            made += kept.pictures(folder, made_by, lambda: _drawn(base, part, seed))  # noqa: B023
        sys.stderr.write(f"{len(made)} of {len(prompts)}\n")
    return made


def _drawn(base: BaseModel, prompts: list[str], first: int) -> list[Pixels]:
    attention = AttentionContext(encode(base, [*[""] * len(prompts), *prompts], {}))
    noise = start_latents(base, [first + i for i in range(len(prompts))])
    pixels = base.decode(denoise(base, attention, noise)).permute(0, 2, 3, 1)
    return list((pixels * 255).round().to(torch.uint8).cpu().numpy())


def obeyed(
    base: BaseModel,
    judge: redrawn.Judge,
    asked: Sequence[world.Picture],
    first: int,
    folder: Path | None = None,
) -> tuple[dict[str, float], list[Pixels]]:
    """Share of what was asked that the judge finds in the model's pictures, and the pictures.

    `species` counts the subjects, objects among them; `place` the sides with nobody, too.
    """
    made = drawn(base, [world.tell(picture) for picture in asked], first, folder)
    return shares(judge(made, asked), asked), made


def shares(found: judges.Answers, asked: Sequence[world.Picture]) -> dict[str, float]:
    """Share of what was asked that a judge's answers say is there."""
    right = judges.truth(asked)
    scores = judges.accuracy(found, right)
    occupied = [
        (found[f"{side}.kind"] > 0) == (right[f"{side}.kind"] > 0) for side in judges.COLUMNS
    ]
    return {
        "species": scores["subject"],
        "colour": scores["colour"],
        "scene": scores["place"],
        "time": scores["time"],
        "accessory": scores["accessory"],
        "pose": scores["pose"],
        "fur": scores["fur"],
        "place": float(np.mean(np.all(occupied, axis=0))),
    }


@torch.no_grad()
def clip_figures(count: int) -> dict[str, float] | None:
    """Retrieval and telling characters apart, on held-out drawings; None without a CLIP."""
    if not POCKET_CLIP.is_dir():
        return None
    clip, hits = open_clip("pocket"), []
    for start in range(0, count, CROWD):
        generator = np.random.default_rng(FIRST_SEED + start)
        shown = [world.imagine(generator) for _ in range(CROWD)]
        seen = clip.pictures([Image.fromarray(world.draw(picture)[0]) for picture in shown])
        said = clip.words([world.tell(picture) for picture in shown])
        hits.extend((said @ seen.T).argmax(1) == np.arange(CROWD))
    generator = np.random.default_rng(FIRST_SEED - 1)
    looks = [clips.random_character(generator) for _ in range(count)]
    one, two, double = (
        clip.pictures([Image.fromarray(clips.view(look, generator).picture) for look in chosen])
        for chosen in (looks, looks, [clips.nearly(look, generator) for look in looks])
    )
    same = (one * two).sum(1)
    other = np.concatenate([(one * np.roll(two, 1, 0)).sum(1), (one * double).sum(1)])
    return {
        "retrieval_at_1_of_100": float(np.mean(hits)),
        "same_vs_other_concept_auc": _auc(same, other[: len(same)]),
        "same_vs_near_double_auc": _auc(same, other[len(same) :]),
    }


def _auc(higher: NDArray[np.float32], lower: NDArray[np.float32]) -> float:
    """Chance that a value of `higher` exceeds one of `lower`."""
    return float((higher[:, None] > lower[None]).mean())


@torch.no_grad()
def through(code: Code, judge: redrawn.Judge, shown: Sequence[world.Picture]) -> dict[str, float]:
    """What the judge still finds in drawings that went through the VAE: no model can do better."""
    made: list[Pixels] = []
    for start in range(0, len(shown), BATCH):
        part = np.stack([world.draw(picture)[0] for picture in shown[start : start + BATCH]])
        rows = torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1
        seen = code(rows).clamp(-1, 1)
        made.extend(((seen + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return judges.accuracy(judge(made, shown), judges.truth(shown))


def code_figures(
    base: BaseModel,
    judge: redrawn.Judge,
    shown: Sequence[world.Picture],
    lost: Callable[[Through, list[int]], tuple[float, float]] = psnr,
) -> dict[str, object]:
    """What drawings lose in the base's latents, in the size that its encoder sees.

    lost  measures it, of whole pictures and of heads
    """

    def code(pictures: torch.Tensor) -> torch.Tensor:
        return 2 * base.decode(base.encode(pictures / 2 + 0.5)) - 1

    with base.sized(base.sides[0]):
        whole, heads = lost(
            lambda _, drawn: code(drawn), [HELD_OUT_SEED + 100 + i for i in range(32)]
        )
        return {
            "judge_through_vae": through(code, judge, shown),
            "vae_psnr": whole,
            "vae_psnr_heads": heads,
        }


def seconds_per_picture(base: BaseModel) -> float:
    """Median of five single pictures, decoded, after one to warm up."""
    taken = []
    for index in range(6):
        started = time.perf_counter()
        drawn(base, ["a fox in a red coat waving on the left, in a forest at night"], index)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))


def main() -> None:
    """Measure, and show drawings beside the model's pictures of the same captions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pocket", description=__doc__)
    parser.add_argument("--json", action="store_true", help="understood; there is no other form")
    parser.add_argument("--pictures", type=int, default=200, help="with one subject; half of two")
    parser.add_argument("--sheet", type=Path, help="a PNG of 32 drawings beside 32 pictures")
    parser.add_argument("--keep", type=Path, help="where pictures and answers are kept, to go on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="processes that judge side by side [2]")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base, judge = open_base("pocket", ""), redrawn.judge_of(judges.open_judge(), args.jobs)
    one = subjects_of(1, args.pictures, FIRST_SEED)
    two = subjects_of(2, args.pictures // 2, FIRST_SEED + 10**6)
    if args.keep:
        judge = kept.remembering(judge, args.keep / "answers")
    folder = args.keep and args.keep / "pictures"
    alone, made = obeyed(base, judge, one, 1, folder)
    crowd, _ = obeyed(base, judge, two, 10**6, folder)
    files = [file for file in POCKET.rglob("*") if file.is_file()]
    figures = {
        "pictures": {"one_subject": len(one), "two_subjects": len(two), "judge": args.pictures},
        "judge_on_drawings": redrawn.examine(judge, args.pictures),
        **code_figures(base, judge, one),
        "one_subject": alone,
        "two_subjects_plain": crowd,
        "picture_size": base.side,
        "seconds_per_picture": seconds_per_picture(base),
        "pipeline_mb": sum(file.stat().st_size for file in files) / 1e6,
        "control": controls.measure(base, judge, controls.asked_for(64, FIRST_SEED), 1)[0],
        "clip": clip_figures(4 * CROWD),
    }
    if args.sheet:
        pairs = [x for p, m in zip(one[:32], made, strict=False) for x in (world.draw(p)[0], m)]
        Image.fromarray(world.sheet(pairs, 8)).save(args.sheet)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
