"""What sketch and pose control add to the embedded model, on fresh drawings of one character each.

`python -m benchmarks.control` draws every prompt from the same noise without control, and with each
of the shipped adapters at weight 1; prompts say all but the pose.

- `sketch_iou`: overlap of edges between the model's picture and the drawing whose sketch it was
  given, looked for on the character and within 8 pixels of it. Edges are the pixels with the
  strongest change of lightness, as many as the drawing has above a fixed threshold, grown by 2.
  `ceiling` is what a drawing scores that only went through the autoencoder.
- `pose_error`: share of pictures in which the judge (`benchmarks/redrawn.py`) names another pose
  than that of the stick figure, at its side. Holding is left out: its object would have to be told.
- `off_vs_on`: both without control, with each adapter, and of the drawings themselves.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks import judge as judges
from benchmarks import kept, redrawn
from storyforge.geometry.pose import keypoint_picture
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel, open_base
from storyforge.model.denoising import Extras, denoise, start_latents
from storyforge.model.tokens import encode
from storyforge.modelref import ADAPTERS
from storyforge.pictures import with_articles
from storyforge.pocket import world
from storyforge.pocket.pretrain.conditions import SIDE, stand_of
from storyforge.pocket.world import pencil
from storyforge.pocket.world.looks import Look
from storyforge.sample.control import Controls, OpenControl, open_adapter
from storyforge.tasks import ControlTask

Pixels = NDArray[np.uint8]

BATCH = 8
STEEP: Final = 60
"""Change of lightness per pixel, of 255, from which a drawing has an edge."""

NEAR: Final = 8
"""Pixels around a character in which edges are looked for."""

ARMS: Final = ("off", "keypose", "sketch", "controlnet-sketch")


def asked_for(count: int, first: int) -> list[world.Picture]:
    """Drawings of one character in any pose but holding, of seeds from `first` on."""
    found: list[world.Picture] = []
    while len(found) < count:
        picture = world.imagine(np.random.default_rng(first))
        first += 1
        looks = [s.what for s in picture.subjects if isinstance(s.what, Look)]
        if len(picture.subjects) == len(looks) == 1 and looks[0].pose != "holding":
            found.append(picture)
    return found


def unposed(picture: world.Picture) -> str:
    """A caption that says who, dressed how, on which side, where and when; not doing what."""
    subject = picture.subjects[0]
    look = subject.what
    assert isinstance(look, Look)
    words = f"a {look.fur} {look.species}"
    if look.species in {"girl", "boy"}:
        words = f"a {look.species} with {look.hair} hair"
    words += f" in a {look.garment_colour} {look.garment}" if look.garment else ""
    side = world.SAID["side"][subject.side][0]
    place, time = world.SAID["place"][picture.place][0], world.SAID["time"][picture.time][0]
    return with_articles(f"{words} {side}, {place} {time}")


def conditions(name: str, pictures: Sequence[world.Picture], side: int = SIDE) -> torch.Tensor:
    """(n, channels, side, side) in [0, 1]: what the adapter reads of each drawing."""
    if name == "keypose":
        stands = [[stand_of(picture.subjects[0])] for picture in pictures]
        made = [np.asarray(keypoint_picture(each, side, side)) for each in stands]
    else:
        lines = [pencil.sketch(picture, side)[..., None] for picture in pictures]
        made = [np.repeat(x, 1 if name == "sketch" else 3, 2) for x in lines]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def drawn(
    base: BaseModel,
    name: str,
    asked: Sequence[world.Picture],
    first: int,
    steps: int | None = None,
) -> list[Pixels]:
    """The model's pictures under one adapter, or without (`off`); noise from seeds `first` on."""
    adapter = None if name == "off" else open_adapter(ADAPTERS / name, base)
    made: list[Pixels] = []
    for start in range(0, len(asked), BATCH):
        part = asked[start : start + BATCH]
        attention = AttentionContext(encode(base, [*[""] * len(part), *map(unposed, part)], {}))
        extras = Extras()
        if adapter is not None:
            seen = conditions(name, part, base.side).to(base.device, base.dtype)
            task = ControlTask(ADAPTERS / name, None)
            whole = torch.ones(1, 1, 1, 1, device=base.device)
            control = OpenControl(task, adapter, torch.cat([seen, seen]), whole)
            extras = Extras(conditions=Controls(base, attention.text, [control]))
        noise = start_latents(base, [first + start + i for i in range(len(part))])
        clean = denoise(base, attention, noise, steps=steps, extras=extras)
        # Pictures are compared in the size of drawings.
        pixels = F.interpolate(base.decode(clean), size=(SIDE, SIDE), mode="area")
        pixels = pixels.permute(0, 2, 3, 1)
        made.extend((pixels * 255).round().to(torch.uint8).cpu().numpy())
        sys.stderr.write(f"{name}: {len(made)} of {len(asked)}\n")
    return made


def edge_overlap(made: Pixels, drawing: Pixels, mask: Pixels) -> float:
    """Intersection over union of edges on and near what the mask shows, in [0, 1]."""
    near = np.asarray(Image.fromarray(mask).filter(ImageFilter.MaxFilter(2 * NEAR + 1))) > 127
    steep = [np.where(near, _steepness(picture), -1.0) for picture in (made, drawing)]
    count = max(1, int((steep[1] >= STEEP).sum()))
    one, other = (_grown((s > 0) & (s >= np.partition(s.ravel(), -count)[-count])) for s in steep)
    return float((one & other & near).sum() / max(1, ((one | other) & near).sum()))


def _steepness(picture: Pixels) -> NDArray[np.float64]:
    light = np.asarray(Image.fromarray(picture).convert("L"), dtype=np.float64)
    down, across = np.gradient(light)
    steepness: NDArray[np.float64] = np.hypot(down, across)
    return steepness


def _grown(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = Image.fromarray(edges.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(5))
    return np.asarray(wide) > 127


@torch.no_grad()
def reconstructed(base: BaseModel, drawing: Pixels) -> Pixels:
    """A drawing that went through the autoencoder."""
    pixels = torch.from_numpy(drawing).permute(2, 0, 1)[None].float() / 255
    large = F.interpolate(pixels.to(base.device), size=(base.side, base.side))
    made = F.interpolate(base.decode(base.encode(large)), size=(SIDE, SIDE), mode="area")
    back = made[0].permute(1, 2, 0)
    return (back * 255).round().to(torch.uint8).cpu().numpy()


def measure(
    base: BaseModel,
    judge: redrawn.Judge,
    asked: Sequence[world.Picture],
    first: int,
    steps: int | None = None,
) -> tuple[dict[str, object], dict[str, list[Pixels]]]:
    """The figures, and the pictures of every arm."""
    arms = [name for name in ARMS if name == "off" or (ADAPTERS / name).is_dir()]
    made = {name: drawn(base, name, asked, first, steps) for name in arms}
    drawings = [world.draw(picture) for picture in asked]

    def overlap(pictures: Sequence[Pixels]) -> float:
        rows = zip(pictures, drawings, strict=True)
        return float(np.mean([edge_overlap(p, d, masks[0]) for p, (d, masks) in rows]))

    def wrong(pictures: Sequence[Pixels]) -> float:
        return 1 - judges.accuracy(judge(pictures, asked), judges.truth(asked))["pose"]

    overlaps = {name: overlap(made[name]) for name in arms if name != "keypose"}
    overlaps["ceiling"] = overlap([reconstructed(base, drawing) for drawing, _ in drawings])
    errors = {name: wrong(made[name]) for name in arms}
    errors["drawings"] = wrong([drawing for drawing, _ in drawings])
    figures: dict[str, object] = {
        "pictures": len(asked),
        "steps": steps or base.defaults.steps,
        "sketch_iou": overlaps.get("sketch"),
        "pose_error": errors.get("keypose"),
        "off_vs_on": {"sketch_iou": overlaps, "pose_error": errors},
    }
    return figures, made


def sheet(asked: Sequence[world.Picture], made: dict[str, list[Pixels]]) -> Pixels:
    """Each row: the drawing, without control, then each condition and the picture made with it."""
    tiles: list[Pixels] = []
    for index, picture in enumerate(asked):
        tiles += [world.draw(picture)[0], made["off"][index]]
        for name in ("keypose", "sketch"):
            seen = (conditions(name, [picture])[0] * 255).byte().permute(1, 2, 0).numpy()
            tiles += [np.broadcast_to(seen, (SIDE, SIDE, 3)).copy(), made[name][index]]
        tiles.append(made["controlnet-sketch"][index])
    return world.sheet(tiles, len(tiles) // len(asked))


def main() -> None:
    """Measure, and show conditions beside pictures with and without them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control", description=__doc__)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--steps", type=int, help="denoising steps; the model's habit if left out")
    parser.add_argument("--sheet", type=Path, help="a PNG of the first twelve")
    parser.add_argument("--keep", type=Path, help="where answers are kept, to go on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="processes that judge side by side [2]")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    asked = asked_for(args.pictures, 1 << 43)
    judge = redrawn.judge_of(judges.open_judge(), args.jobs)
    if args.keep:
        judge = kept.remembering(judge, args.keep / "answers")
    figures, made = measure(open_base("pocket", ""), judge, asked, 1, args.steps)
    if args.sheet:
        Image.fromarray(sheet(asked[:12], made)).save(args.sheet)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
