"""The judge: a classifier that says what is to be seen in a picture of the embedded model's world.

It learns from drawings alone, never sees what the model draws until it judges it, and has no part
in training the model. `python -m benchmarks.judge --minutes 20` trains it, or goes on from
`benchmarks/judge.safetensors`; its accuracy is measured on drawings of seeds it never saw.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from storyforge.pocket import world
from storyforge.pocket.pretrain.run import narrowly
from storyforge.pocket.world.looks import CROWNS, DYES, HEADGEAR, MARKS, PEOPLE, SPECIES
from storyforge.pocket.world.places import PLACES

WEIGHTS = Path(__file__).with_name("judge.safetensors")
SIZE = 128
"""Pixels a side that the judge looks at."""

HELD_OUT = 1 << 41
"""Seeds from here on are for measuring only; training draws below."""

WHOLE = {name: world.LABELS[name] for name in ("place", "time", "weather", "sky", "tint")}
EACH = {name: values for name, values in world.EACH.items() if name != "side"}
"""What is asked of the whole picture, and of its left, middle and right."""

WIDTHS = (24, 48, 96, 160)
HARD = ("kind", "accessory", "weather", "pattern", "crown", "marks")
"""Questions whose answers are small in the picture or seldom: they count twice."""

COLUMNS = {"left": slice(0, 4), "middle": slice(2, 6), "right": slice(4, 8)}
"""Which of the eight columns of features a side's questions look at."""

Answers = dict[str, NDArray[np.int64]]
"""Question -> class per picture; −1 where it does not apply. Sides' questions are `left.kind` …"""


class Block(nn.Module):
    """Halve the size, then a residual pair of convolutions."""

    def __init__(self, before: int, width: int) -> None:
        """`before` channels become `width`."""
        super().__init__()
        self.down = nn.Conv2d(before, width, 3, 2, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(3)])
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, 1, 1, bias=False) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, before, h, w) to (n, width, h/2, w/2)."""
        x = F.relu(self.norms[0](self.down(x)))
        y = F.relu(self.norms[1](self.convs[0](x)))
        return F.relu(x + self.norms[2](self.convs[1](y)))


class Judge(nn.Module):
    """Four blocks and linear answers; the three sides share theirs."""

    def __init__(self) -> None:
        """Untrained."""
        super().__init__()
        self.blocks = nn.Sequential(
            *(Block(a, b) for a, b in zip((3, *WIDTHS), WIDTHS, strict=False))
        )
        self.mix = nn.Conv2d(WIDTHS[-1], WIDTHS[-1], 3, 1, 1)
        wide = 2 * WIDTHS[-1]
        self.whole = nn.ModuleDict({k: nn.Linear(wide, len(v)) for k, v in WHOLE.items()})
        self.side = nn.Linear(wide + 3, wide)
        self.each = nn.ModuleDict({k: nn.Linear(wide, len(v)) for k, v in EACH.items()})

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, 3, 128, 128) in [−1, 1] to the logits of every question."""
        x = self.blocks(pictures)
        x = x + F.relu(self.mix(x))
        made = {name: head(_pooled(x)) for name, head in self.whole.items()}
        for index, (side, columns) in enumerate(COLUMNS.items()):
            where = F.one_hot(torch.full((len(x),), index), 3).to(x)
            seen = F.relu(self.side(torch.cat([_pooled(x[..., columns]), where], 1)))
            made |= {f"{side}.{name}": head(seen) for name, head in self.each.items()}
        return made


def _pooled(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


def open_judge(path: Path = WEIGHTS) -> Judge:
    """The trained judge, ready to answer; ends the program if it was never trained."""
    if not path.is_file():
        raise SystemExit(f"no judge at {path}; train it: python -m benchmarks.judge --minutes 25")
    judge = Judge()
    kept = judge.state_dict()
    for name, value in load_file(path).items():
        # A head that has got more classes since keeps what it knows of the first ones.
        if value.dim():
            kept[name][: len(value)] = value.to(kept[name].dtype)
        else:
            kept[name].copy_(value)
    judge.load_state_dict(kept)
    return judge.eval()


def pixels(pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
    """(h, w, 3) pictures of any size as (n, 3, 128, 128) in [−1, 1]."""
    small = [
        np.asarray(Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BOX))
        for picture in pictures
    ]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def answers(judge: Judge, pictures: torch.Tensor) -> Answers:
    """The judge's choice for every question."""
    made = [judge(part) for part in torch.split(pictures, 32)]
    return {k: torch.cat([m[k] for m in made]).argmax(1).numpy() for k in made[0]}


def truth(pictures: Sequence[world.Picture]) -> Answers:
    """The right answers; pictures with two subjects on one side are not for the judge."""
    found: dict[str, list[int]] = {name: [] for name in questions()}
    for picture in pictures:
        said = world.labels(picture)
        row = dict.fromkeys(questions(), -1)
        row |= {name: said[name] for name in WHOLE}
        row |= {f"{side}.kind": 0 for side in COLUMNS}
        for slot, subject in enumerate(picture.subjects):
            row |= {f"{subject.side}.{name}": said[f"{name}{slot}"] for name in EACH}
        for name, value in row.items():
            found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


def questions() -> tuple[str, ...]:
    """The name of every question."""
    return (*WHOLE, *(f"{side}.{name}" for side in COLUMNS for name in EACH))


def one_a_side(generator: np.random.Generator) -> world.Picture:
    """A random picture with at most one subject on each side."""
    while True:
        picture = world.imagine(generator)
        sides = [subject.side for subject in picture.subjects]
        if len(set(sides)) == len(sides):
            return picture


def _blurred(pictures: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Soften and dirty some of them: what is judged later is not as crisp as a drawing."""
    if generator.random() < 0.4:
        scale = float(generator.uniform(0.4, 0.9))
        small = F.interpolate(pictures, scale_factor=scale, mode="area")
        pictures = F.interpolate(small, size=(SIZE, SIZE), mode="bilinear")
    if generator.random() < 0.4:
        pictures = pictures + float(generator.uniform(0, 0.1)) * torch.randn_like(pictures)
    return pictures * float(generator.uniform(0.92, 1.08)) + float(generator.uniform(-0.05, 0.05))


def wetter(picture: world.Picture, generator: np.random.Generator) -> world.Picture:
    """The same with rain or snow in half of the places under the sky, which it seldom has."""
    _, outdoors = PLACES[picture.place]
    if not outdoors or generator.random() < 0.5:
        return picture
    return replace(picture, weather=str(generator.choice(world.LABELS["weather"][1:])))


def stranger(picture: world.Picture, generator: np.random.Generator) -> world.Picture:
    """The same with some looks that the world never has, as concepts are: what is judged later.

    Animals change their species, features their shade, and some get one more feature.
    """
    subjects = []
    for subject in picture.subjects:
        look = subject.what
        if isinstance(look, world.Look) and look.species not in PEOPLE and generator.random() < 0.4:
            extras = {name: _shade(dye, generator) for name, dye in look.extras}
            barred = look.accessory in HEADGEAR or set(extras) & set(CROWNS)
            more = [name for name in (*MARKS, *CROWNS, "wings", "glow") if name not in extras]
            more = [name for name in more if not (barred and name in CROWNS)]
            if generator.random() < 0.6:
                extras[str(generator.choice(more))] = str(generator.choice(list(DYES.values())))
            species = str(generator.choice([name for name in SPECIES if name not in PEOPLE]))
            look = replace(look, species=species, extras=tuple(extras.items()))
            subject = replace(subject, what=look)
        subjects.append(subject)
    return replace(picture, subjects=tuple(subjects))


def _shade(dye: str, generator: np.random.Generator) -> str:
    near = [
        int(np.clip(int(DYES[dye][i : i + 2], 16) + generator.integers(-22, 23), 0, 255))
        for i in (1, 3, 5)
    ]
    return "#" + "".join(f"{value:02x}" for value in near)


def _batches(size: int, first: int) -> Iterator[tuple[torch.Tensor, Answers]]:
    seed = first
    while True:
        generator = np.random.default_rng((7, seed))
        pictures = [
            stranger(wetter(one_a_side(generator), generator), generator) for _ in range(size)
        ]
        drawn, right = pixels([world.draw(p, SIZE)[0] for p in pictures]), truth(pictures)
        yield drawn, right
        yield drawn.flip(-1), mirrored(right)
        seed += 1


def mirrored(right: Answers) -> Answers:
    """The answers about pictures whose left is their right."""
    swap = {"left": "right", "right": "left"}
    sides = {name: name.split(".") for name in right}
    return {
        ".".join([swap.get(side, side), *rest]): right[name]
        for name, (side, *rest) in sides.items()
    }


def _loss(made: dict[str, torch.Tensor], right: Answers) -> torch.Tensor:
    losses = []
    for name, logits in made.items():
        wanted = torch.from_numpy(right[name])
        if (wanted >= 0).any():
            weight = 2.0 if name.endswith(HARD) else 1.0
            losses.append(weight * F.cross_entropy(logits.float(), wanted, ignore_index=-1))
    return torch.stack(losses).sum()


def accuracy(made: Answers, right: Answers) -> dict[str, float]:
    """Share of right answers per attribute, the sides taken together.

    `kind` counts every side, empty ones too; `subject` only those where there is one.
    """
    hits: dict[str, list[bool]] = {}
    for name, wanted in right.items():
        attribute = name.split(".")[-1]
        asked = wanted >= 0
        same = made[name] == wanted
        hits.setdefault(attribute, []).extend(same[asked])
        if attribute == "kind":
            hits.setdefault("subject", []).extend(same[asked & (wanted > 0)])
    return {name: float(np.mean(values)) for name, values in hits.items()}


def examine(judge: Judge, count: int, first: int = HELD_OUT) -> dict[str, float]:
    """Accuracy on `count` drawings of seeds from `first` on."""
    pictures = [one_a_side(np.random.default_rng(first + i)) for i in range(count)]
    drawn = pixels([world.draw(p, SIZE)[0] for p in pictures])
    return accuracy(answers(judge, drawn), truth(pictures))


def train(minutes: float, batch: int, peak: float) -> None:
    """Train from scratch, or on from the shipped weights; the averaged weights are kept."""
    torch.manual_seed(0)
    judge = open_judge().train() if WEIGHTS.is_file() else Judge()
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {k: v.clone() for k, v in judge.state_dict().items()}
    optimizer = torch.optim.AdamW(judge.parameters(), lr=peak, weight_decay=0.02)
    started, recent = time.process_time(), 0.0
    generator = np.random.default_rng(int(time.time()))
    for step, (drawn, right) in enumerate(_batches(batch, int(generator.integers(2**40)))):
        spent = (time.process_time() - started) / (60 * minutes)
        if spent >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1, (step + 1) / 100, max(0.01, 1.2 * (1 - spent)))
        seen = _blurred(drawn, generator).contiguous(memory_format=torch.channels_last)
        with narrowly("cpu"):
            loss = _loss(judge(seen), right)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(judge.parameters(), 5.0)
        optimizer.step()
        keep = min(0.99, (1 + step) / (10 + step))
        for name, value in judge.state_dict().items():
            if value.is_floating_point():
                average[name].lerp_(value, 1 - keep)
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if step % 100 == 0:
            sys.stderr.write(f"step {step} spent {spent:.2f} loss {recent:.3f}\n")
        if step % 200 == 199:
            _keep(average)
    _keep(average)


def _keep(average: dict[str, torch.Tensor]) -> None:
    whole = {k: v.half() if v.is_floating_point() else v for k, v in average.items()}
    part = WEIGHTS.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in whole.items()}, part)
    part.replace(WEIGHTS)
    WEIGHTS.chmod(0o644)


def main() -> None:
    """Train, then print the accuracy on held-out drawings."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="of the processor, of training; 0 only measures"
    )
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--pictures", type=int, default=1000, help="held-out drawings")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.minutes:
        train(args.minutes, args.batch_size, args.lr)
    found = examine(open_judge(), args.pictures)
    print(json.dumps({"pictures": args.pictures, "judge_on_drawings": found}))


if __name__ == "__main__":
    main()
