"""Stage `latents`: drawings turned into latents once, piece by piece, for the U-Net to learn from.

Pieces are files of their own: a training that runs takes in what a drawing process adds.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storyforge.pocket import world
from storyforge.pocket.pretrain.code import PATCH, Code, fit_code, load_code
from storyforge.pocket.pretrain.parts import start_folder
from storyforge.pocket.pretrain.run import Job, Team, say

FIRST_SEED = 10**6
CODE = "code.safetensors"
PIECE = 1000
"""Drawings in a file."""
SEEN = 64
"""From this coverage on, of 255, a cell belongs to a subject."""
KINDS = ("latents", "cover", "who")
"""Files of a piece."""
FINE_WEIGHT = 0.2
"""The power of a channel's spread by which its error is divided: 0 counts pixels as they are, 1
every channel the same. Faces are in channels that pixels hardly notice."""
ODDS = {0: 1.0, 1: 1.5, 2: 1.0, 3: 0.5, 4: 0.3}
"""How often a drawing with so many subjects comes, beside one with two."""


def code_of(folder: Path) -> Code:
    """The code of this training, or of the last one; fitted where there is none yet."""
    path = folder / CODE
    if not path.is_file():
        known = start_folder() / CODE
        (load_code(known) if known.is_file() else fit_code()).save(path)
    return load_code(path)


def draw_latents(job: Job, team: Team) -> None:
    """Write `<folder>/latents/NNNN.*.npy` until there are `job.pictures` drawings."""
    if team.rank == 0:
        code_of(job.folder)
    team.agree(0)
    code = load_code(job.folder / CODE)
    folder = job.folder / "latents"
    folder.mkdir(exist_ok=True)
    size = min(PIECE, job.pictures)
    for index in range(team.rank, job.pictures // size, team.size):
        if _whole(folder, index):
            continue
        for name, values in _piece(code, seeds_of(index, size)).items():
            part = folder / f"{index:04d}.{name}.part"
            with part.open("wb") as file:
                np.save(file, values)
            part.replace(folder / f"{index:04d}.{name}.npy")
        say(job, drawings=(index + 1) * size)


def _piece(code: Code, seeds: range) -> dict[str, NDArray[np.generic]]:
    latents, cover, who = [], [], []
    for seed in seeds:
        picture, masks = world.draw(world.imagine(np.random.default_rng(seed)))
        latents.append(code.encode(picture[None])[0].astype(np.float16))
        cover.append(_cells(masks.max(0) if len(masks) else np.zeros(picture.shape[:2], np.uint8)))
        who.append(_who(masks, cover[-1]))
    return {"latents": np.stack(latents), "cover": np.stack(cover), "who": np.stack(who)}


def _who(masks: NDArray[np.uint8], cover: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The number of the subject that covers most of each cell, -1 where hardly any does."""
    if not len(masks):
        return np.full(cover.shape, -1, np.int8)
    most = np.stack([_cells(mask) for mask in masks]).argmax(0)
    who: NDArray[np.int8] = np.where(cover < SEEN, -1, most).astype(np.int8)
    return who


def _cells(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) coverage to its mean in every cell."""
    high, wide = mask.shape
    cells = mask.reshape(high // PATCH, PATCH, wide // PATCH, PATCH)
    means: NDArray[np.uint8] = cells.mean((1, 3)).astype(np.uint8)
    return means


def _whole(folder: Path, index: int) -> bool:
    return all((folder / f"{index:04d}.{name}.npy").is_file() for name in KINDS)


def seeds_of(index: int, size: int = PIECE) -> range:
    """The seeds of the drawings in a piece of `size`."""
    return range(FIRST_SEED + index * size, FIRST_SEED + (index + 1) * size)


class Latents:
    """Drawings as latents, with what is seen in each; grows while others are drawn.

    latents   (n, c, h, w)  float16
    cover     (n, h, w)     uint8, how much of a cell subjects cover
    pictures  n             what was drawn
    who       (n, h, w)     int8, which subject is in a cell, or -1
    fineness  (c, 1, 1)     float32, how much errors of each channel count, 1 on average
    """

    def __init__(self, folder: Path) -> None:
        """Read what is there in `folder`."""
        self.folder, self.known = folder, 0
        self.latents: list[NDArray[np.float16]] = []
        self.cover: list[NDArray[np.uint8]] = []
        self.who: list[NDArray[np.int8]] = []
        self.pictures: list[world.Picture] = []
        self.odds = np.zeros(0)
        self.refresh()
        spread = self.latents[0].astype(np.float32).std((0, 2, 3))
        self.fineness = (spread**-FINE_WEIGHT / (spread**-FINE_WEIGHT).mean())[:, None, None]

    def __len__(self) -> int:
        """How many drawings."""
        return len(self.pictures)

    def refresh(self) -> None:
        """Take in the pieces that were drawn since."""
        while _whole(self.folder, self.known):
            stem = self.folder / f"{self.known:04d}"
            self.latents.append(np.load(f"{stem}.latents.npy", mmap_mode="r"))
            self.cover.append(np.load(f"{stem}.cover.npy", mmap_mode="r"))
            self.who.append(np.load(f"{stem}.who.npy", mmap_mode="r"))
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

    def seen(self, which: NDArray[np.int64]) -> NDArray[np.int64]:
        """(b, k, h, w) what is in each cell: the class of each of the k heads of `world.EACH`, -1
        where there is no subject or the head does not apply."""
        spots = [divmod(int(row), len(self.who[0])) for row in which]
        who = np.stack([self.who[piece][row] for piece, row in spots]).astype(np.int64)
        told = np.full((len(which), world.SLOTS + 1, len(world.EACH)), -1)
        for index, row in enumerate(which):
            labels = world.labels(self.pictures[int(row)])
            for slot in range(world.SLOTS):
                told[index, slot] = [labels[f"{name}{slot}"] for name in world.EACH]
        cells: NDArray[np.int64] = told[np.arange(len(which))[:, None, None], who]
        return cells.transpose(0, 3, 1, 2)

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
