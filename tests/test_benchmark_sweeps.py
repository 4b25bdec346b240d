"""The sweeps of fusion's settings, on two concepts that are learnt already."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import fusionways, grid, sweeps
from storyforge.evaluate.concept_set import read_concept_set
from storyforge.fuse.statistics import STEPS
from storyforge.fuse.terms import STAGES
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept, FusedModel
from storyforge.model.family import Family
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens
from storyforge.modelref import base_at
from storyforge.train import drift as drifting


def every(folder: Path) -> list[fusionways.Variant]:
    return list(sweeps.variants(read_concept_set(folder, base_at("pocket", Path.cwd())), 2))


def test_every_sweep_holds_the_defaults_once(learnt_pair: Path) -> None:
    found = every(learnt_pair)
    names = [variant.name for variant in found]
    assert len(set(names)) == len(names)
    usual = {v.sweep for v in found if v.way == sweeps.FuseSettings()}
    # The default ridge differs by stage, so that no one value is the default.
    assert usual == set(sweeps.SWEEPS) - {"ridge", "scene-weight"}
    assert ("rows", f"8 prompts, {STEPS} steps") in names
    assert ("solver", "closed-form") in names


def test_mixing_takes_each_stage_from_one_of_two(deltas: dict[str, Delta]) -> None:
    other = {name: Delta(-delta.up, delta.down, delta.scale) for name, delta in deltas.items()}
    one, two = FusedModel("pocket", "", {}, deltas), FusedModel("pocket", "", {}, other)
    found = fusionways.mixed(one, two, ("kv",))
    for name, delta in found.deltas.items():
        assert delta is (deltas if Family.stage(name) == "kv" else other)[name]
    assert fusionways.mixed(one, two, STAGES).deltas == deltas


def test_nothing_changed_is_no_drift_and_more_of_it_is_more(
    base: BaseModel, deltas: dict[str, Delta]
) -> None:
    half = {name: Delta(0.5 * each.up, each.down, each.scale) for name, each in deltas.items()}
    prompts = ["a fox", ""]
    assert drifting.drift(base, {}, prompts) == 0
    assert 0 < drifting.drift(base, half, prompts) < drifting.drift(base, deltas, prompts)


def test_fewer_rows_and_less_emphasis_are_other_statistics(
    base: BaseModel, pip: ConceptTokens
) -> None:
    concept = Concept("pip", "character", "fox", pip, {}, "pocket", base.hash)
    few = sweeps.watched(base, concept, ["a <pip>"], 1, 1.0)
    more = sweeps.watched(base, concept, ["a <pip>"], 2, 1.0)
    stressed = sweeps.watched(base, concept, ["a <pip>"], 1, 9.0)
    spatial = next(name for name in few.readers if name.startswith("unet.") and "attn1" in name)
    read = next(name for name in few.readers if name.endswith(".kv"))
    assert few.gram(spatial).diagonal().mean() == pytest.approx(1, abs=1e-3)
    assert not torch.allclose(few.gram(spatial), more.gram(spatial), atol=1e-3)
    assert torch.equal(few.gram(spatial), stressed.gram(spatial))
    assert not torch.allclose(few.gram(read), stressed.gram(read), atol=1e-3)


@pytest.mark.slow
def test_a_sweep_tells_its_figures_and_goes_on(
    learnt_pair: Path, clip: Path, tmp_path: Path
) -> None:
    asked = sweeps.parser().parse_args(
        [
            *("--concepts", str(learnt_pair), "--out", str(tmp_path), "--clip", str(clip)),
            *("--n", "2", "--prompts", "1", "--steps", "1", "--only", "stages"),
            *("--stage", "kv"),
        ]
    )
    told = sweeps.measured(asked)
    rows = told["sweeps"]["stages"]
    assert list(rows) == ["all solved", "all averaged", "kv averaged", "only kv solved"]
    assert rows["all solved"] != rows["all averaged"]
    for row in rows.values():
        assert {"image_fused", "text_fused", "identified_fused", "drift", "class_drift"} <= set(row)
        assert row["drift"] > 0
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert len(pictures) == 4 * 2 * (2 + 4)
    before = {picture: picture.stat().st_mtime_ns for picture in pictures}
    pictures[0].unlink()
    (learnt_pair / ".storyforge" / "panels" / pictures[0].name).unlink()
    again = sweeps.measured(asked)
    after = {picture: picture.stat().st_mtime_ns for picture in pictures}
    assert [picture for picture in pictures if after[picture] != before[picture]] == pictures[:1]
    assert again["sweeps"] == told["sweeps"]


def test_more_concepts_than_there_are_end_the_run(learnt_pair: Path) -> None:
    with pytest.raises(SystemExit, match="cannot fuse 3"):
        sweeps.measured(sweeps.parser().parse_args(["--concepts", str(learnt_pair), "--n", "3"]))


def test_the_sheet_shows_every_concept_before_and_after_each_solver(
    learnt_pair: Path, tmp_path: Path
) -> None:
    words = ["--concepts", str(learnt_pair), "--out", str(tmp_path), "--steps", "1"]
    sweeps.draw_sheet(
        sweeps.parser().parse_args(words), tmp_path / "sheet.png", 2, ("average", "sum")
    )
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2 * (2 + 2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 5 * (grid.SIDE + grid.MARGIN) + grid.MARGIN
        assert sheet.height > 2 * grid.SIDE


def test_a_grid_shows_every_picture_below_its_title(tmp_path: Path) -> None:
    for name in ("red", "blue"):
        Image.new("RGB", (10, 10), name).save(tmp_path / f"{name}.png")
    rows = [("a row", {name: tmp_path / f"{name}.png" for name in ("red", "blue")})] * 3
    grid.write_grid(rows, tmp_path / "grid.png")
    sheet = Image.open(tmp_path / "grid.png")
    counts = {colour: count for count, colour in sheet.getcolors(1 << 20) or []}
    assert counts[255, 0, 0] == counts[0, 0, 255] == 3 * grid.SIDE**2
