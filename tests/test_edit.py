"""A story's text is changed at one place, and every other sign stays where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storyforge.errors import Report, StoryForgeError
from storyforge.story.edit import numbers, quoted, remove_value, set_value
from storyforge.story.yaml import load_text

FLOW = """\
# a story
pages:
  - panels:
      - id: found  # the first
        layout: two
        regions:
          left: {concept: pip, prompt: "smiling, waving"}  # he waves
          right: {concept: lantern}

        alt: A fox.
"""
BLOCK = """\
pages:
  - panels:
      - id: found
        regions:
          left:
            # who
            concept: pip   # a fox
            box: [0, 0.10, 0.5, 1]

            # what follows
          right:
          far: {}
        alt: |
          A fox.
"""
LEFT = ("pages", 0, "panels", 0, "regions", "left")


def plain(text: str) -> object:
    report = Report("story.yaml")
    root = load_text(text, report)
    assert root is not None, report.findings()
    return root.plain()


def at(text: str, path: tuple[str | int, ...]) -> object:
    found = plain(text)
    for step in path:
        found = found[step]
    return found


@pytest.mark.parametrize("text", [FLOW, BLOCK, FLOW.replace("\n", "\r\n")])
@pytest.mark.parametrize("region", ["left", "right"])
def test_a_value_is_set_where_it_belongs(text: str, region: str) -> None:
    path = (*LEFT[:-1], region, "box")
    changed = set_value(text, path, "[0.1, 0.2, 0.3, 0.4]")
    assert at(changed, path) == ["0.1", "0.2", "0.3", "0.4"]


def test_comments_and_order_stay() -> None:
    changed = set_value(FLOW, (*LEFT, "box"), "[0, 0, 1, 1]")
    assert changed == FLOW.replace('waving"}', 'waving", box: [0, 0, 1, 1]}')


def test_a_value_that_is_there_is_replaced_and_nothing_else() -> None:
    changed = set_value(BLOCK, (*LEFT, "box"), "[0, 0, 1, 1]")
    assert changed == BLOCK.replace("[0, 0.10, 0.5, 1]", "[0, 0, 1, 1]")


def test_an_empty_map_is_filled() -> None:
    for name in ("right", "far"):
        path = (*LEFT[:-1], name, "pose")
        assert at(set_value(BLOCK, path, "waving"), path) == "waving"


@pytest.mark.parametrize(
    ("text", "region"), [(FLOW, "left"), (FLOW, "right"), (BLOCK, "left"), (BLOCK, "far")]
)
@pytest.mark.parametrize("key", ["pose", "facing"])
def test_what_is_put_in_comes_out_again(text: str, region: str, key: str) -> None:
    path = (*LEFT[:-1], region, key)
    assert remove_value(set_value(text, path, "left"), path) == text


SPELT = {
    "lines of Unix": lambda text: text,
    "lines of Windows": lambda text: text.replace("\n", "\r\n"),
    "a byte order mark": lambda text: f"\ufeff{text}",
    "both": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("spelt", SPELT.values(), ids=SPELT)
@pytest.mark.parametrize("text", [FLOW, BLOCK])
def test_a_files_own_way_of_writing_stays(text: str, spelt: Callable[[str], str]) -> None:
    path, box = (*LEFT, "pose"), (*LEFT, "box")
    changed = set_value(spelt(text), path, "waving")
    assert changed == spelt(set_value(text, path, "waving"))
    assert remove_value(changed, path) == spelt(text)
    assert remove_value(set_value(changed, box, "[0, 0, 1, 1]"), box) == spelt(
        remove_value(set_value(set_value(text, path, "waving"), box, "[0, 0, 1, 1]"), box)
    )


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ("pages:\n  - text: a  # words\n  - text: b\n", "{}  # words", ("pages", 0, "text")),
        ("pages:\n  - text: a\n", "{}", ("pages", 0, "text")),
        ("book:\n  trim: a5  # small\npages: []\n", "{}  # small", ("book", "trim")),
        ("pages:\n  - text: |\n      a\n      b\n  - text: b\n", "{}", ("pages", 0, "text")),
    ],
)
@pytest.mark.parametrize("spelt", SPELT.values(), ids=SPELT)
def test_without_its_only_key_a_map_is_an_empty_one(
    before: str, after: str, path: tuple[str | int, ...], spelt: Callable[[str], str]
) -> None:
    changed = remove_value(spelt(before), path)
    assert at(changed, path[:-1]) == {}
    assert after in changed
    whole, left = plain(before), plain(changed)
    assert list(whole) == list(left)
    assert path[0] != "pages" or whole["pages"][1:] == left["pages"][1:]


def test_what_is_not_there_is_not_removed() -> None:
    assert remove_value(FLOW, (*LEFT, "pose")) == FLOW


def test_an_alias_is_not_changed_where_it_is_used() -> None:
    text = FLOW.replace("left: {", "left: &who {").replace(
        "right: {concept: lantern}", "right: *who"
    )
    for name in ("left", "right"):
        with pytest.raises(StoryForgeError, match="alias"):
            set_value(text, (*LEFT[:-1], name, "box"), "[0, 0, 1, 1]")


@given(st.text(max_size=40))
def test_a_text_is_read_back_as_it_was_meant(text: str) -> None:
    if not all(sign.isprintable() or sign in "\n\t" for sign in text):
        return
    assert at(set_value(FLOW, (*LEFT, "prompt"), quoted(text)), (*LEFT, "prompt")) == text


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_numbers_are_read_back_to_the_thousandth(values: list[float]) -> None:
    path = (*LEFT, "box")
    found = at(set_value(FLOW, path, numbers(values)), path)
    assert [float(each) for each in found] == pytest.approx(values, abs=0.00051)


def test_a_files_text_is_read_as_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "story.yaml").write_text(BLOCK, encoding="utf-8")
    from storyforge.story.yaml import load

    assert load(tmp_path / "story.yaml", Report("a")) == load_text(BLOCK, Report("a"))
