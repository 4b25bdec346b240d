"""Balloons: their order, their tails, what they keep off, and what joins them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from storyforge.book import balloon
from storyforge.book.leaf import Balloon, BalloonKind, Point, Rect
from storyforge.book.lettering import letter
from storyforge.book.placing import Figure, LetteringSpace, Utterance
from storyforge.book.typeface import COMIC_NEUE_BOLD
from storyforge.settings import Edge

AREA = Rect(0, 0, 400, 400)
LEFT = Rect(20, 180, 130, 200)
RIGHT = Rect(250, 180, 130, 200)


def figure(name: str, body: Rect) -> Figure:
    return Figure(name, body, body, alive=True)


def said(
    text: str, who: str | None = None, kind: BalloonKind = "speech", at: Rect | None = None
) -> Utterance:
    return Utterance(kind, who, who, text, COMIC_NEUE_BOLD, at)


def stage(*, rtl: bool = False, quiet: tuple[Rect, ...] = ()) -> LetteringSpace:
    return LetteringSpace(AREA, (figure("pip", LEFT), figure("owl", RIGHT)), (), rtl, quiet)


def placed(says: list[Utterance], where: LetteringSpace, size: float = 14.0) -> tuple[Balloon, ...]:
    found = letter(says, where, (size,))
    assert found is not None
    return found


def body(item: Balloon) -> Rect:
    return balloon.padded(item.text, item.size, item.kind, item.tilt)


TALK = [
    said("Where did it go?", "owl"),
    said("I was going to ask you.", "pip"),
    said("Then we are lost.", "owl"),
    said("Not quite.", "pip", "whisper"),
]


@pytest.mark.parametrize("rtl", [False, True])
def test_what_is_said_later_is_read_later(rtl: bool) -> None:
    bodies = [body(item) for item in placed(TALK, stage(rtl=rtl), 12.0)]
    for earlier, later in itertools.combinations(bodies, 2):
        common = min(later.bottom, earlier.bottom) - max(later.y, earlier.y)
        if common > 0.4 * min(later.height, earlier.height):
            assert (later.centre().x < earlier.centre().x) == rtl
        else:
            assert later.centre().y > earlier.centre().y


def test_balloons_never_overlap() -> None:
    bodies = [body(item) for item in placed(TALK, stage(), 12.0)]
    assert not any(one.common(other) for one, other in itertools.combinations(bodies, 2))


def test_a_tail_runs_through_nobody_elses_head() -> None:
    for item in placed(TALK, stage(), 12.0):
        other = figure("", RIGHT if item.speaker == "pip" else LEFT)
        assert item.tip is not None
        middle = body(item).centre()
        for step in range(21):
            x = middle.x + (item.tip.x - middle.x) * step / 20
            y = middle.y + (item.tip.y - middle.y) * step / 20
            assert not other.face.holds(Point(x, y))


def test_two_in_a_row_by_one_speaker_are_joined() -> None:
    first, second = placed([said("Wait!", "pip"), said("I know.", "pip")], stage())
    assert first.outlines
    assert not second.outlines
    assert first.tip
    assert second.tip is None
    (outline,) = first.outlines
    points = [stroke.points[-1] for stroke in outline if stroke.points]
    for item in (first, second):
        # the one outline goes round both texts
        assert min(p.x for p in points) < item.text.x
        assert max(p.x for p in points) > item.text.right
        assert min(p.y for p in points) < item.text.y
        assert max(p.y for p in points) > item.text.bottom
    assert [stroke.verb for stroke in outline].count("M") == 1
    assert first.tip in points


def test_others_in_between_or_other_kinds_are_not_joined() -> None:
    apart = [said("Wait!", "pip"), said("Why?", "owl"), said("I know.", "pip")]
    assert all(item.outlines for item in placed(apart, stage()))
    mixed = [said("Wait!", "pip"), said("I know.", "pip", "whisper")]
    assert all(item.outlines for item in placed(mixed, stage()))


def test_three_in_a_row_hang_on_one_outline() -> None:
    items = placed([said("One", "pip"), said("two", "pip"), said("three", "pip")], stage())
    assert [bool(item.outlines) for item in items] == [True, False, False]


def test_a_chains_outline_encloses_every_body_and_its_tip() -> None:
    bodies = (Rect(0, 0, 100, 40), Rect(120, 30, 100, 40), Rect(60, 90, 90, 40))
    tip = Point(20, 120)
    made = balloon.chain(bodies, 12.0, 0, tip)
    assert made is not None
    points = [point for stroke in made[0] for point in stroke.points[-1:]]
    assert tip in points
    assert min(point.x for point in points) == pytest.approx(0, abs=1)
    assert max(point.x for point in points) == pytest.approx(220, abs=1)
    assert max(point.y for point in points) == pytest.approx(130, abs=1)


def test_a_neck_and_a_tail_in_one_place_cannot_be_joined() -> None:
    bodies = (Rect(0, 0, 100, 40), Rect(120, 0, 100, 40))
    assert balloon.chain(bodies, 12.0, 0, Point(300, 20)) is None


def test_words_go_to_the_quiet_part() -> None:
    quiet = Rect(150, 20, 240, 100)
    (item,) = placed([said("Over here, where it is quiet", "pip")], stage(quiet=(quiet,)))
    assert body(item).covered(quiet) > 0.9
    (free,) = placed([said("Over here, where it is quiet", "pip")], stage())
    assert body(free).covered(quiet) < 0.9


def test_sounds_are_large_turned_and_never_the_same_way_twice() -> None:
    boom, crash = placed([said("BOOM", kind="sound"), said("CRASH", kind="sound")], stage())
    assert min(boom.size, crash.size) > 2 * 14.0
    assert boom.tilt * crash.tilt < 0
    assert not boom.outlines
    for item in (boom, crash):
        assert AREA.holds(Point(body(item).x, body(item).y))
        assert AREA.holds(Point(body(item).right, body(item).bottom))


def test_a_turned_rectangle_stands_in_a_larger_one() -> None:
    made = balloon.turned(Rect(10, 20, 30, 40), 90)
    assert (made.width, made.height) == pytest.approx((40, 30))
    assert made.centre() == pytest.approx((25, 40))
    tilted = balloon.turned(Rect(0, 0, 10, 10), -45)
    assert tilted.width == pytest.approx(10 * math.sqrt(2))


def test_narration_stands_in_a_square_box_in_a_corner() -> None:
    (item,) = placed([said("Meanwhile, at the lake", kind="narration")], stage())
    assert item.tip is None
    assert body(item).y == pytest.approx(AREA.y)
    assert body(item).x == pytest.approx(AREA.x)


def test_no_place_in_the_order_of_reading_is_no_place() -> None:
    low = LetteringSpace(Rect(0, 0, 120, 60), (), (), rtl=False)
    assert letter([said("One and two and three"), said("four and five")], low, (16.0,)) is None


@pytest.mark.parametrize(("side", "end"), [("left", 0.0), ("right", 400.0)])
def test_a_voice_from_off_the_picture_has_its_tail_at_that_edge(side: Edge, end: float) -> None:
    (item,) = placed([replace(said("Supper!", "grandma"), off=side)], stage())
    assert item.tip is not None
    assert abs(item.tip.x - end) < 10
    assert abs(body(item).centre().x - end) < 200


def test_a_tail_leads_where_the_author_points_whoever_speaks() -> None:
    (item,) = placed([replace(said("Woof."), pointed=Point(60, 60))], stage())
    assert item.tip is not None
    assert math.dist(item.tip, (60, 60)) < 20


CLOSE = Rect(10, 14, 90, 78)
BESIDE = LetteringSpace(
    Rect(8, 8, 189, 152),
    (Figure("pip", CLOSE, Rect(10, 14, 90, 140), alive=True, seen=True, head=CLOSE),),
    (),
    rtl=False,
)
"""Somebody whose head leaves little room beside it."""


def pierced(item: Balloon) -> bool:
    assert item.tip is not None
    return balloon.pierces(balloon.body_of(item), item.tip, CLOSE)


def test_letters_are_smaller_where_a_tail_would_run_into_the_face() -> None:
    says = [said("Bless you!", "pip", "shout")]
    (large,) = letter(says, BESIDE, (17.0,)) or ()
    (small,) = letter(says, BESIDE, (17.0, 15.5, 14.0)) or ()
    assert pierced(large)
    assert not pierced(small)
    assert small.size < large.size


def test_letters_are_not_half_as_large_for_the_sake_of_a_tail() -> None:
    says = [said("Bless you!", "pip", "shout")]
    assert letter(says, BESIDE, (17.0, 10.0)) == letter(says, BESIDE, (17.0,))
