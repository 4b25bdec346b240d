"""Stage `latents`: drawings turned into latents once, piece by piece, for the U-Net to learn from.

Pieces are files of their own: a training that runs takes in what a drawing process adds.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from storyforge.model.cell_decoder import PATCH
from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.pocket import world
from storyforge.pocket.pretrain.code import fit_code
from storyforge.pocket.pretrain.parts import PICTURE, SPOT, new_autoencoder, part_folder
from storyforge.pocket.pretrain.run import Average, Job, Team, say

FIRST_SEED = 10**6
PIECE = 1000
"""Drawings in a file."""
BATCH = 20
"""Drawings that are encoded at once."""
SEEN = 64
"""From this coverage on, of 255, a cell belongs to a subject."""
KINDS = ("latents", "cover")
"""Files of a piece."""
FINE_WEIGHT = 1.0
"""The power of a channel's spread by which its error is divided. What is seldom told, as the colour
of a bow, is seen no less than what is told everywhere."""
LEAST_SPREAD = 0.1
SPOT_WEIGHT = 2.0
"""How much more it counts where in its subject a cell is."""
ODDS = {0: 1.0, 1: 1.5, 2: 1.0, 3: 0.5, 4: 0.3}
"""How often a drawing with so many subjects comes, beside one with two."""


def autoencoder_of(folder: Path) -> PatchAutoencoder:
    """The autoencoder of this training, or of the last one; fitted in closed form where there is
    none of today's shape yet."""
    model, path = new_autoencoder(), part_folder(folder, "vae")
    weights = path / "diffusion_pytorch_model.safetensors"
    known = load_file(weights) if weights.is_file() else {}
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if {name: value.shape for name, value in known.items()} == shapes:
        model.load_state_dict({name: value.float() for name, value in known.items()})
    else:
        code = fit_code()
        model.set_code(*(torch.tensor(x) for x in (code.mean, code.basis, code.scale)))
    return model


def averaged(folder: Path, part: str, average: Average) -> PatchAutoencoder:
    """The autoencoder that is in the folder now, of which one part is what it was on average.

    Stages that train different parts of it may run side by side: each replaces its own alone.
    """
    made = autoencoder_of(folder)
    made.get_submodule(part).load_state_dict(average.values, strict=False)
    return made


class Layers(nn.Module):
    """Some layers of a decoder, by the names that they have there."""

    def __init__(self, decoder: nn.Module, names: tuple[str, ...]) -> None:
        """They share the decoder's parameters."""
        super().__init__()
        for name in names:
            self.add_module(name, decoder.get_submodule(name))


def keep_autoencoder(model: PatchAutoencoder, folder: Path) -> None:
    """Write it in fp16 to where the next stage finds it."""
    # Where it lay while it learnt is nobody's business.
    model.register_to_config(_name_or_path="")
    path = folder / "vae"
    path.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=folder) as made:
        model.half().save_pretrained(made)
        for file in Path(made).iterdir():
            file.replace(path / file.name)


def draw_latents(job: Job, team: Team) -> None:
    """Write `<folder>/latents/NNNN.*.npy` until there are `job.pictures` drawings."""
    model = autoencoder_of(job.folder)
    if team.rank == 0 and not (job.folder / "vae").is_dir():
        model.save_pretrained(job.folder / "vae")
    folder = job.folder / "latents"
    folder.mkdir(exist_ok=True)
    size = min(PIECE, job.pictures)
    for index in range(team.rank, job.pictures // size, team.size):
        if _whole(folder, index):
            continue
        for name, values in _piece(model, seeds_of(index, size)).items():
            part = folder / f"{index:04d}.{name}.part"
            with part.open("wb") as file:
                np.save(file, values)
            part.replace(folder / f"{index:04d}.{name}.npy")
        say(job, drawings=(index + 1) * size)


def _piece(model: PatchAutoencoder, seeds: range) -> dict[str, NDArray[np.generic]]:
    latents, cover = [], []
    for first in range(seeds.start, seeds.stop, BATCH):
        drawn, told = [], []
        for seed in range(first, min(first + BATCH, seeds.stop)):
            shown = shown_of(world.imagine(np.random.default_rng(seed)))
            drawn.append(shown.pixels)
            told.append(shown.told)
            cover.append(shown.cover)
        latents.append(latents_of(model, np.stack(drawn), np.stack(told)))
    return {"latents": np.concatenate(latents), "cover": np.stack(cover)}


class Shown(NamedTuple):
    """A drawing and what its cells are known to tell.

    pixels  (256, 256, 3)
    told    (t, 16, 16)
    cover   (16, 16)       how much of each cell subjects cover, 0 to 255
    """

    pixels: NDArray[np.uint8]
    told: NDArray[np.float32]
    cover: NDArray[np.uint8]


def shown_of(picture: world.Picture) -> Shown:
    """Draw it in the size that is read."""
    pixels, masks = world.draw(picture, PICTURE)
    who, cover = who_is_where(masks, PATCH)
    return Shown(pixels, world.meanings(picture, who, cover), cover)


@torch.no_grad()
def latents_of(
    model: PatchAutoencoder, drawn: NDArray[np.uint8], told: NDArray[np.float32]
) -> NDArray[np.float16]:
    """(n, c, h/16, w/16) of drawings (n, h, w, 3) of which it is known what they tell."""
    pixels = torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1
    made = model.joined(model.patches.read(pixels), torch.from_numpy(told))
    return made.numpy().astype(np.float16)


def who_is_where(
    masks: NDArray[np.uint8], pixels: int
) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Of cells so many pixels a side, the number of the subject that covers most of each, -1 where
    hardly any does, and how much of it they cover, 0 to 255.

    masks  (n, h, w) the coverage of each subject
    """
    high, wide = (side // pixels for side in masks.shape[1:])
    if not len(masks):
        return np.full((high, wide), -1, np.int8), np.zeros((high, wide), np.uint8)
    means = masks.reshape(-1, high, pixels, wide, pixels).mean((2, 4))
    cover = masks.max(0).reshape(high, pixels, wide, pixels).mean((1, 3)).astype(np.uint8)
    who: NDArray[np.int8] = np.where(cover < SEEN, -1, means.argmax(0)).astype(np.int8)
    return who, cover


def _whole(folder: Path, index: int) -> bool:
    return all((folder / f"{index:04d}.{name}.npy").is_file() for name in KINDS)


def seeds_of(index: int, size: int = PIECE) -> range:
    """The seeds of the drawings in a piece of `size`."""
    return range(FIRST_SEED + index * size, FIRST_SEED + (index + 1) * size)


class Latents:
    """Drawings as latents, with what was drawn; grows while others are drawn.

    latents   (n, c, h, w)  float16
    cover     (n, h, w)     uint8, how much of a cell subjects cover
    pictures  n             what was drawn
    fineness  (c, 1, 1)     float32, how much errors of each channel count, 1 on average
    """

    def __init__(self, folder: Path) -> None:
        """Read what is there in `folder`."""
        self.folder, self.known = folder, 0
        self.latents: list[NDArray[np.float16]] = []
        self.cover: list[NDArray[np.uint8]] = []
        self.pictures: list[world.Picture] = []
        self.odds = np.zeros(0)
        self.refresh()
        # What few drawings tell would count without end.
        spread = np.maximum(self.latents[0].astype(np.float32).std((0, 2, 3)), LEAST_SPREAD)
        counts = spread**-FINE_WEIGHT
        counts[[*SPOT]] *= SPOT_WEIGHT
        self.fineness = (counts / counts.mean())[:, None, None]

    def __len__(self) -> int:
        """How many drawings."""
        return len(self.pictures)

    def refresh(self) -> None:
        """Take in the pieces that were drawn since."""
        while _whole(self.folder, self.known):
            stem = self.folder / f"{self.known:04d}"
            self.latents.append(np.load(f"{stem}.latents.npy", mmap_mode="r"))
            self.cover.append(np.load(f"{stem}.cover.npy", mmap_mode="r"))
            self.pictures += [
                world.imagine(np.random.default_rng(seed))
                for seed in seeds_of(self.known, len(self.cover[-1]))
            ]
            self.known += 1
        odds = np.array([ODDS.get(len(p.subjects), 0.2) for p in self.pictures])
        self.odds = odds / odds.sum() if len(odds) else odds

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Endless random rows, `size` at a time."""
        while True:
            yield rng.choice(len(self), size, p=self.odds)

    def heads(self, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """(b, 1, h, w) how much of each cell lies within the box around a head, in [0, 1]."""
        high, wide = self.cover[0].shape[1:]
        made = np.zeros((len(which), 1, high, wide), np.float32)
        for index, row in enumerate(which):
            for face in world.faces(self.pictures[int(row)]):
                if face is not None:
                    left, top, right, bottom = face.head
                    inside = _within(top, bottom, high)[:, None] * _within(left, right, wide)[None]
                    made[index, 0] = np.maximum(made[index, 0], inside)
        return made

    def rows(self, which: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(b, c, h, w) latents and (b, 1, h, w) coverage in [0, 1]."""
        spots = [divmod(int(row), len(self.cover[0])) for row in which]
        latents = np.stack([self.latents[piece][row] for piece, row in spots])
        cover = np.stack([self.cover[piece][row] for piece, row in spots])
        return latents.astype(np.float32), (cover[:, None] / 255).astype(np.float32)


def _within(low: float, high: float, cells: int) -> NDArray[np.float32]:
    """The share of each of `cells` equal parts of [0, 1] that lies between two bounds."""
    edges = np.arange(cells)
    shares: NDArray[np.float32] = np.clip(
        np.minimum(edges + 1, high * cells) - np.maximum(edges, low * cells), 0, 1
    ).astype(np.float32)
    return shares
