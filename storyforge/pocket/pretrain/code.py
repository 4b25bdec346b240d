"""The part of the latents that is closed form: principal components of patches of drawings.

They are known in under a minute. Not covered: what a cell tells beyond its patch, and how latents
become pixels again.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from storyforge.model.cell_decoder import PATCH
from storyforge.pocket import world
from storyforge.pocket.pretrain.parts import COMPONENTS

FIT_PICTURES = 800
FIT_SEED = 1 << 30
"""Seeds of the drawings that the code is fitted on; far from those that the U-Net learns from."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Code:
    """A linear code of patches.

    mean   (768,)     the mean patch: row, column and colour of a pixel, flattened, in [−1, 1]
    basis  (768, c)   orthonormal, the component of most variance first
    scale  ()         spread of all latents together: one for all channels, as pixels have
    """

    mean: Array
    basis: Array
    scale: float

    def encode(self, pixels: NDArray[np.uint8]) -> Array:
        """(n, h, w, 3) drawings to (n, c, h/16, w/16) latents."""
        flat = patches(pixels.astype(np.float32) / 127.5 - 1)
        latents = ((flat - self.mean) @ self.basis / self.scale).transpose(0, 3, 1, 2)
        return latents.astype(np.float32)


def patches(pictures: Array) -> Array:
    """(n, h, w, 3) to (n, h/16, w/16, 768)."""
    n, high, wide, _ = pictures.shape
    cells = pictures.reshape(n, high // PATCH, PATCH, wide // PATCH, PATCH, 3)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(n, high // PATCH, wide // PATCH, -1)


def fit_code(channels: int = COMPONENTS, pictures: int = FIT_PICTURES) -> Code:
    """The leading components of the patches of drawings; every drawing in its colours and in
    others, because concepts bring colours that the world has not.
    """
    rng = np.random.default_rng(FIT_SEED)
    width = 3 * PATCH * PATCH
    count, total, moment = 0, np.zeros(width), np.zeros((width, width))
    for index in range(pictures):
        drawing = world.draw(world.imagine(np.random.default_rng(FIT_SEED + index)))[0]
        if index % 4 == 3:
            drawing = drawing[..., rng.permutation(3)]
        rows = patches(drawing[None].astype(np.float32) / 127.5 - 1).reshape(-1, width)
        count, total = count + len(rows), total + rows.sum(0)
        moment += rows.T @ rows
    mean = total / count
    values, vectors = np.linalg.eigh(moment / count - np.outer(mean, mean))
    spread = float(np.sqrt(values[::-1][:channels].mean()))
    basis = vectors[:, ::-1][:, :channels]
    return Code(mean.astype(np.float32), basis.astype(np.float32), spread)
