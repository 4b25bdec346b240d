"""Geometry: boxes, places, cells, page grids and the layouts that are shipped."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from pydantic import ValidationError

from storyforge.geometry.box import FRAME, PLACES, Box, place
from storyforge.sample.regions import region_weights
from storyforge.story import layout
from storyforge.story.layout import RegionShape, page_grid
from storyforge.story.story import check, read_layout
from storyforge.tasks import RegionTask

SHIPPED = layout.names()


def box(x0: float, y0: float, x1: float, y1: float) -> Box:
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


def test_a_box_is_written_as_four_numbers() -> None:
    assert Box.model_validate([0.1, 0.2, 0.3, 0.4]) == box(0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    "numbers",
    [[0, 0, 1.1, 1], [-0.1, 0, 1, 1], [0.5, 0, 0.5, 1], [0, 1, 1, 0], [0, 0, 1], ["nan", 0, 1, 1]],
)
def test_a_box_outside_the_frame_or_empty_is_refused(numbers: list[float]) -> None:
    with pytest.raises(ValidationError):
        Box.model_validate(numbers)


def test_area_and_centre_of_the_left_half() -> None:
    left = place("left")
    assert left.area() == 0.5
    assert left.centre() == (0.25, 0.5)


def test_halves_touch_and_do_not_intersect() -> None:
    assert place("left").intersection(place("right")) is None


def test_intersection_is_symmetric_and_inside_both() -> None:
    one, other = box(0, 0, 0.6, 0.6), box(0.4, 0.2, 1, 1)
    shared = one.intersection(other)
    assert shared == other.intersection(one) == box(0.4, 0.2, 0.6, 0.6)
    assert one.contains(shared)
    assert other.contains(shared)


def test_the_frame_is_every_cell() -> None:
    assert FRAME.cells(5, 7) == (0, 5, 0, 7)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 16, 64])
def test_boxes_that_meet_share_no_cell_and_leave_none(count: int) -> None:
    edges = [0, 0.3333, 0.6667, 1]
    cells = [box(a, 0, b, 1).cells(count, count)[2:] for a, b in itertools.pairwise(edges)]
    if count >= 3:
        assert [start for start, _ in cells[1:]] == [end for _, end in cells[:-1]]
    assert cells[0][0] == 0
    assert cells[-1][1] == count


@pytest.mark.parametrize("corner", [0.0, 0.124, 0.5, 0.99])
def test_the_smallest_box_has_one_cell_which_holds_its_centre(corner: float) -> None:
    y0, y1, x0, x1 = box(corner, corner, corner + 0.01, corner + 0.01).cells(4, 4)
    assert (y1 - y0, x1 - x0) == (1, 1)
    assert x0 / 4 <= corner + 0.005 <= x1 / 4


def test_every_named_place_is_a_box() -> None:
    assert all(place(name).area() > 0 for name in PLACES)


def test_quarters_cover_the_frame() -> None:
    quarters = ("top-left", "top-right", "bottom-left", "bottom-right")
    assert sum(place(name).area() for name in quarters) == 1


def test_grid_cells_are_columns_by_letter_and_rows_by_number() -> None:
    assert place("A1:C3") == FRAME
    assert place("C1").cells(3, 3) == (0, 1, 2, 3)
    assert place("A3").cells(3, 3) == (2, 3, 0, 1)
    assert place("A1:B4/4x2") == FRAME


def test_grid_cells_may_be_named_from_either_corner() -> None:
    assert place("B3:A1") == place("A1:B3")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("lft", "did you mean `left`"),
        ("D1", "outside the grid"),
        ("A0", "outside"),
        ("", "no place"),
    ],
)
def test_a_wrong_place_is_told_with_its_remedy(written: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        place(written)


def test_a_region_over_another_keeps_what_it_says_itself() -> None:
    base = RegionShape(at="left", z=3, weight=0.5)
    assert RegionShape(at="right").over(base) == RegionShape(at="right", z=3, weight=0.5)
    assert RegionShape(z=0).over(base) == RegionShape(at="left", z=0, weight=0.5)


def test_a_mask_alone_may_lie_anywhere() -> None:
    assert RegionShape(mask="fox.png").bounds() == FRAME


@pytest.mark.parametrize("aspect", [0.5, 1.0, 1.6])
def test_a_page_grid_is_in_reading_order_and_apart(aspect: float) -> None:
    boxes = page_grid(3, 2, gutter=0.03, margin=0.05, aspect=aspect)
    assert [(round(b.y0, 6), round(b.x0, 6)) for b in boxes] == sorted(
        (round(b.y0, 6), round(b.x0, 6)) for b in boxes
    )
    assert all(a.intersection(b) is None for a, b in itertools.combinations(boxes, 2))
    across = boxes[1].x0 - boxes[0].x1
    down = (boxes[2].y0 - boxes[0].y1) / aspect
    assert across == pytest.approx(down) == pytest.approx(0.03)


def test_one_panel_without_margin_is_the_page() -> None:
    assert page_grid(1, 1) == [FRAME]


@pytest.mark.parametrize(("rows", "columns", "gutter"), [(0, 1, 0.0), (1, 3, 0.5), (1, 2, -0.1)])
def test_a_page_grid_without_room_is_refused(rows: int, columns: int, gutter: float) -> None:
    with pytest.raises(ValueError, match="page grid|no room"):
        page_grid(rows, columns, gutter)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_layout_is_sound(name: str) -> None:
    path = layout.find(name)
    assert path is not None
    made = read_layout(path)
    assert made.name == name
    shapes = made.regions.values()
    boxes = [shape.bounds() for shape in shapes]
    assert all(min(b.width, b.height) >= 0.25 for b in boxes), "a region under one coarse cell"
    for one, other in itertools.combinations(shapes, 2):
        apart = one.bounds().intersection(other.bounds()) is None
        assert apart or one.z != other.z, "two regions share a place and none is in front"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_region_of_a_shipped_layout_is_seen_in_the_coarsest_cells(name: str) -> None:
    path = layout.find(name)
    assert path is not None
    regions = [
        RegionTask(name, shape.bounds(), "", "", shape.weight, shape.z, None)
        for name, shape in read_layout(path).regions.items()
    ]
    assert all(region_weights(regions, (4, 4)).sum(1) > 0) if regions else name == "whole-scene"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_story_in_a_shipped_layout_has_no_mistakes(name: str, tmp_path: Path) -> None:
    path = layout.find(name)
    assert path is not None
    regions = ", ".join(f"{region}: {{prompt: a tree}}" for region in read_layout(path).regions)
    story = tmp_path / "story.yaml"
    panel = f"{{id: one, layout: {name}, prompt: a wood, regions: {{{regions}}}, decorative: true}}"
    story.write_text(f"storyforge: 1\ntitle: A\npages: [{{panels: [{panel}]}}]\n")
    assert check(story) == ()


def test_layouts_for_one_to_four_and_for_the_usual_shots_are_shipped() -> None:
    counts = [len(read_layout(path).regions) for name in SHIPPED if (path := layout.find(name))]
    assert {0, 1, 2, 3, 4} <= set(counts)
    assert {"close-up-with-companion", "foreground-and-background", "over-the-shoulder"} < {
        *SHIPPED
    }
    assert {"spread-two-sides", "object-in-hand", "crowd-line", "two-side-by-side"} < {*SHIPPED}


def test_a_region_takes_its_pose_from_the_layout_unless_it_has_its_own() -> None:
    base = RegionShape(at="left", pose="running", facing="left")
    assert RegionShape().over(base) == base
    assert RegionShape(pose="sitting").over(base).pose == "sitting"
    assert RegionShape(facing="right").over(base).facing == "right"


def test_a_layout_beside_the_story_comes_first(tmp_path: Path) -> None:
    (tmp_path / "one-left.yaml").write_text("description: mine\n")
    assert layout.find("one-left", [tmp_path]) == tmp_path / "one-left.yaml"
    assert layout.find("one-right", [tmp_path]) == layout.find("one-right")


@pytest.mark.parametrize("name", ["../one-left", "", "no-such-layout", "a/b", "x" * 5000, "a\0b"])
def test_a_name_that_is_no_layout_finds_nothing(name: str, tmp_path: Path) -> None:
    assert layout.find(name, [tmp_path]) is None
