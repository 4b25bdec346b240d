"""The benchmark of fusion knows the layers of Stable Diffusion 1.5 and races fairly over them."""

from __future__ import annotations

import pytest
import torch

from benchmarks.fusion import memory, race, shapes
from storyforge.fuse import solve
from storyforge.model.family import Stage

LARGE = shapes.stable_diffusion()


def test_stable_diffusion_has_the_linears_that_the_published_code_changes() -> None:
    linears = [name for shape in LARGE for name, _ in shape.linears]
    assert len(set(linears)) == len(linears) == 48 + 128
    assert sum(name.startswith("text_encoder.") for name in linears) == 48
    numbers = sum(shapes.RANK * (shape.width + out) for shape in LARGE for _, out in shape.linears)
    assert numbers == 294_912 + 797_184


def test_as_many_rows_are_seen_as_the_published_code_records() -> None:
    spatial = {(shape.width, shape.rows) for shape in LARGE if shape.stage == "spatial"}
    assert spatial == {(320, 81_920), (640, 20_480), (1280, 5_120), (1280, 1_280)}
    assert {shape.rows for shape in LARGE if shape.stage == "text"} == {176}
    assert {shape.rows for shape in LARGE if shape.stage == "kv"} == {6}


def test_what_is_kept_of_spatial_layers_is_five_and_a_half_gigabytes() -> None:
    kept = memory.counted(tuple(shape for shape in LARGE if shape.stage == "spatial"))
    assert kept == pytest.approx(5.54e9, rel=0.01)


def test_features_have_the_energies_that_they_are_drawn_with() -> None:
    generator = torch.Generator().manual_seed(0)
    strengths = torch.logspace(1, -2, 6)
    axes = shapes.directions(6, generator)
    rows = shapes.features(50_000, strengths, axes, generator)
    found = ((rows @ axes).square().mean(0)).double()
    torch.testing.assert_close(found, strengths.double(), rtol=0.05, atol=0)


def test_energies_keep_their_fall_at_another_width() -> None:
    gram = torch.diag(torch.tensor([1.0, 100.0, 10.0], dtype=torch.float64))
    wider = shapes.energies([gram, 2 * gram], 5)
    torch.testing.assert_close(wider[0], torch.tensor([100.0, 10**1.5, 10.0, 10**0.5, 1.0]))
    torch.testing.assert_close(wider[1], 2 * wider[0])


def layer(rows: int, stage: Stage = "spatial") -> race.Layer:
    generator = torch.Generator().manual_seed(1)
    axes = shapes.directions(12, generator)
    inputs = [shapes.features(rows, torch.logspace(0, -3, 12), axes, generator) for _ in range(2)]
    pairs = [shapes.factors(each, 7, 0.3, generator) for each in inputs]
    base = torch.randn(7, 12, generator=generator)
    return race.Layer(stage, base, [up for up, _ in pairs], [down for _, down in pairs], inputs)


def test_the_search_stays_above_the_closed_form() -> None:
    found = race.raced(layer(200))
    assert found.objective <= found.as_searched < 1
    assert found.ratio <= 1
    assert found.evaluations >= 50


def test_nothing_to_choose_between_is_a_draw() -> None:
    found = race.raced(layer(1, "kv"))
    assert max(found.objective, found.as_searched) < race.NOTHING
    assert found.ratio == 1


def test_rows_and_grams_agree_on_the_objective() -> None:
    one = layer(30)
    change = race.closed(one)
    deltas = [up.double() @ down.double() for up, down in zip(one.ups, one.downs, strict=True)]
    grams = [rows.double().T @ rows.double() for rows in one.inputs]
    by_grams = solve.objective(change, deltas, grams, torch.zeros(12, 12, dtype=torch.float64))
    assert race.objective(one, change) == pytest.approx(by_grams.item(), rel=1e-4)
