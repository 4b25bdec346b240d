"""By-products of a training run: losses and checks as JSONL and curves, previews as a sheet.

They lie in a folder that the author names, not in the store: they are for looking at, and nothing
is made from them. Needs no torch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image

from storyforge.contact_sheet import Cell, write_contact_sheet
from storyforge.store import write_whole
from storyforge.train.curves import write_curve, write_curves
from storyforge.train.stopping import Check, score

PREVIEWS: Final = 4
"""Times at which previews are drawn, after those of step 0."""

PREVIEW: Final = re.compile(r"(\d+)-step-(\d+)\.png")
"""How a preview's file is called: what it shows, and after which step."""


@dataclass(frozen=True, slots=True)
class Logs:
    """Where the by-products of one concept go.

    folder       of this concept alone
    tensorboard  whether to write event files as well
    """

    folder: Path
    tensorboard: bool = False

    def of(self, concept: str) -> Logs:
        """The same for one of several concepts, in a folder of its own."""
        return Logs(self.folder / concept, self.tensorboard)

    def write_losses(self, title: str, losses: Sequence[float], rates: Sequence[float]) -> None:
        """Write `loss.jsonl` and `loss.png` from the first step on, also after a resumed run.

        losses  of every step
        rates   share of the peak learning rates at each of these steps
        """
        pairs = enumerate(zip(losses, rates, strict=True), start=1)
        lines = [json.dumps({"step": n, "loss": loss, "lr": rate}) for n, (loss, rate) in pairs]
        write_whole(self.folder / "loss.jsonl", "".join(f"{line}\n" for line in lines).encode())
        words = f"{title}: loss of {len(losses)} steps, and its mean over 25"
        write_curve(losses, words, self.folder / "loss.png")

    def write_checks(self, title: str, checks: Sequence[Check], chosen: int) -> None:
        """Write `alignment.jsonl` and `alignment.png`: how alike, and how obedient, step by step.

        chosen  the step whose weights are kept, as far as is known
        """
        start = checks[0]
        lines = [json.dumps({**asdict(c), "score": score(c, start)}) for c in checks]
        write_whole(self.folder / "alignment.jsonl", "".join(f"{x}\n" for x in lines).encode())
        curves = {
            "image alignment": [(check.step, check.image) for check in checks],
            "text alignment": [(check.step, check.text) for check in checks],
        }
        words = f"{title}: held-out prompts; step 0 is the base's own, {chosen} is kept"
        write_curves(curves, words, chosen, self.folder / "alignment.png")

    def preview_steps(self, steps: int) -> set[int]:
        """The steps after which previews are drawn; 0 is before the first."""
        return {round(steps * part / PREVIEWS) for part in range(PREVIEWS + 1)}

    def has_preview(self, row: int, step: int) -> bool:
        """Whether it was drawn, by this run or the one that it goes on from."""
        return self._preview(row, step).is_file()

    def keep_preview(self, row: int, step: int, picture: Image.Image) -> None:
        """Keep one picture of what row `row` showed after `step` steps."""
        data = BytesIO()
        picture.save(data, "PNG")
        write_whole(self._preview(row, step), data.getvalue())

    def forget_previews(self) -> None:
        """Remove previews of an earlier run."""
        for path in (self.folder / "previews").glob("*.png"):
            path.unlink()

    def write_previews(self, prompts: Sequence[str], example: Image.Image) -> None:
        """Write `previews.png`: a row for each prompt, a column for each step drawn so far."""
        steps: dict[int, list[tuple[int, Path]]] = {row: [] for row in range(len(prompts))}
        for path in (self.folder / "previews").glob("*.png"):
            if (found := PREVIEW.fullmatch(path.name)) and int(found[1]) in steps:
                steps[int(found[1])].append((int(found[2]), path))
        rows = []
        for row, prompt in enumerate(prompts):
            cells = [Cell(example, "learnt from")] if not row else [Cell(None)]
            for step, path in sorted(steps[row]):
                cells.append(Cell(path, f"step {step}"))
            rows.append((prompt, cells))
        write_contact_sheet(rows, self.folder / "previews.png")

    def _preview(self, row: int, step: int) -> Path:
        return self.folder / "previews" / f"{row}-step-{step:06d}.png"
