"""What is counted of bases of true shapes, on tiny ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tinybases import base_of, tiny_pipeline

from benchmarks.bases import GIB, STAGES, LiveTensors, counted
from storyforge.model.base import BaseModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sdxl")
    tiny_pipeline("sdxl").save_pretrained(made)
    return made


def test_tensors_count_while_they_are_there_and_views_of_others_never() -> None:
    there = torch.zeros(8, 8)
    with LiveTensors([there]) as live:
        made = there.t() @ there
        del made
        kept = torch.zeros(16)
    assert (live.peak, live.now) == (2 * 256, 256 + kept.nbytes)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_holds_the_weights_and_more_than_opening(folder: Path, stage: str) -> None:
    base: BaseModel = base_of(tiny_pipeline("sdxl"))
    parts = (base.unet, base.vae, *(each.model for each in base.encoders))
    weights = sum(weight.nbytes for part in parts for weight in part.state_dict().values())
    found = counted(folder, stage)[f"{stage}_tensors_gb"] * GIB
    assert found == weights if stage == "open" else found > weights
