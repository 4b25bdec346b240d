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
    latents, cover = [], []
    for seed in seeds:
        picture, masks = world.draw(world.imagine(np.random.default_rng(seed)))
        latents.append(code.encode(picture[None])[0].astype(np.float16))
        cover.append(_cells(masks.max(0) if len(masks) else np.zeros(picture.shape[:2], np.uint8)))
    return {"latents": np.stack(latents), "cover": np.stack(cover)}


def _cells(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w) coverage to its mean in every cell."""
    high, wide = mask.shape
    cells = mask.reshape(high // PATCH, PATCH, wide // PATCH, PATCH)
    means: NDArray[np.uint8] = cells.mean((1, 3)).astype(np.uint8)
    return means


def _whole(folder: Path, index: int) -> bool:
    return all((folder / f"{index:04d}.{name}.npy").is_file() for name in ("latents", "cover"))


def seeds_of(index: int, size: int = PIECE) -> range:
    """The seeds of the drawings in a piece of `size`."""
    return range(FIRST_SEED + index * size, FIRST_SEED + (index + 1) * size)


class Latents:
    """Drawings as latents, with what is seen in each; grows while others are drawn.

    latents   (n, c, h, w)  float16
    cover     (n, h, w)     uint8, how much of a cell subjects cover
    pictures  n             what was drawn
    """

    def __init__(self, folder: Path) -> None:
        """Read what is there in `folder`."""
        self.folder, self.known = folder, 0
        self.latents: list[NDArray[np.float16]] = []
        self.cover: list[NDArray[np.uint8]] = []
        self.pictures: list[world.Picture] = []
        self.odds = np.zeros(0)
        self.refresh()

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

    def rows(self, which: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(b, c, h, w) latents and (b, 1, h, w) coverage in [0, 1]."""
        spots = [divmod(int(row), len(self.cover[0])) for row in which]
        latents = np.stack([self.latents[piece][row] for piece, row in spots])
        cover = np.stack([self.cover[piece][row] for piece, row in spots])
        return latents.astype(np.float32), (cover[:, None] / 255).astype(np.float32)
