"""Adapters that draw in few steps, told by their names, and what they were trained for.

LCM (Luo et al. 2023), TCD (Zheng et al. 2024), Hyper-SD (Ren et al. 2024), SDXL-Lightning (Lin et
al. 2024) and DMD2 (Yin et al. 2024); the settings are those of their makers' own model cards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FewSteps:
    """How such an adapter is drawn with.

    schedulers  that it was trained for, the best one first
    steps       how few, and how many at most
    guidance    the least scale, and the largest
    """

    name: str
    schedulers: tuple[str, ...]
    steps: tuple[int, int]
    guidance: tuple[float, float]

    @property
    def wanted(self) -> str:
        """What the author is to write."""
        least, most = self.steps
        steps = f"{least}" if least == most else f"{least} to {most}"
        low, high = self.guidance
        scale = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        return f"`scheduler: {self.schedulers[0]}`, `steps: {steps}`, `guidance_scale: {scale}`"


_KINDS: Final = (
    # what names hold -> what it is; the first that fits
    (
        r"hyper.?sd.*cfg",
        FewSteps("Hyper-SD with guidance", ("ddim-trailing", "tcd"), (8, 12), (5.0, 8.0)),
    ),
    (r"hyper.?sd", FewSteps("Hyper-SD", ("ddim-trailing", "tcd"), (1, 8), (1.0, 1.0))),
    (r"lightning", FewSteps("SDXL-Lightning", ("euler-trailing",), (2, 8), (1.0, 1.0))),
    (r"dmd2", FewSteps("DMD2", ("lcm",), (4, 8), (1.0, 1.0))),
    (r"(?<![a-z])tcd(?![a-z])", FewSteps("TCD", ("tcd",), (4, 8), (1.0, 2.0))),
    (r"(?<![a-z])lcm(?![a-z])", FewSteps("LCM", ("lcm",), (4, 8), (1.0, 2.0))),
)


def few_steps_of(*names: str) -> FewSteps | None:
    """What an adapter of these names, a file's and a title, draws in few steps; None if it is none.

    A number of steps in its name is its own.
    """
    said = " ".join(names).lower()
    found = next((kind for pattern, kind in _KINDS if re.search(pattern, said)), None)
    own = re.search(r"(\d+)[ _-]?steps?(?![a-z])", said)
    if found is None or own is None or not 1 <= int(own[1]) <= max(12, found.steps[1]):
        return found
    count = int(own[1])
    return FewSteps(found.name, found.schedulers, (count, count), found.guidance)
