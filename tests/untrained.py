"""An autoencoder of the embedded model's shape that has learnt nothing."""

from __future__ import annotations

from pathlib import Path

import torch

from storyforge.model.cell_decoder import PATCH
from storyforge.pocket.pretrain.parts import COMPONENTS, new_autoencoder


def save_autoencoder(folder: Path) -> None:
    """Write one whose code has random directions, to where a stage of training finds it."""
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(3 * PATCH**2, COMPONENTS, generator=generator))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_autoencoder()
    model.set_code(torch.zeros(3 * PATCH**2), basis, torch.tensor(2.0))
    model.save_pretrained(folder / "vae")
