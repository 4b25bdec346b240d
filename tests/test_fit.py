"""Words find room: long ones, long titles, long dedications; and `check` names what finds none."""

from __future__ import annotations

from pathlib import Path

import pytest
from bookmaking import placeholders, written

from storyforge.book.html import segments
from storyforge.book.inline import SOFT_HYPHEN, printed
from storyforge.book.leaf import Art, Balloon, Book
from storyforge.book.markup import joined
from storyforge.book.page import bind
from storyforge.book.typeface import ANDIKA, COMIC_NEUE_BOLD, metrics, set_lines
from storyforge.errors import StoryForgeError
from storyforge.project.project import Project
from storyforge.story.story import read

STORY = """\
storyforge: 1
title: The Lamp
author: A. Writer
language: LANGUAGE
characters: {pip: concepts/pip}
pages:
  - text: Pip lived in a wood.
    panels:
      - id: pip
        layout: one-centre
        regions: {centre: {concept: pip}}
        alt: Pip waves.
        say: [{who: pip, text: "SAID"}]
"""

GRID = """\
storyforge: 1
title: The Lamp
language: de
characters: {pip: concepts/pip}
book: {trim: a5}
pages:
  - grid: 1x3
    panels:
      - {id: a, alt: A, prompt: a, say: [{text: "SAID", kind: caption}]}
      - {id: b, alt: B, prompt: b}
      - {id: c, alt: C, prompt: c}
"""


def story_of(said: str, language: str = "en") -> str:
    return STORY.replace("SAID", said).replace("LANGUAGE", language)


def bound(folder: Path, text: str) -> Book:
    story = written(folder, text)
    return bind(story, placeholders(story, folder))


def balloons(book: Book) -> list[Balloon]:
    return [said for leaf in book.leaves for item in leaf.pictures for said in item.balloons]


@pytest.mark.parametrize(
    ("said", "language"),
    [
        ("Congratulations!", "en"),
        ("Tyrannosaurus!", "en"),
        ("Good\u00a0night,\u00a0Juna!", "en"),
        ("Wunschlaternen?", "de"),
        ("Weihnachtsgeschenkpapier!", "de"),
        ("Rindfleischetikettierungsüberwachung!", "de"),
    ],
)
def test_a_word_that_fits_on_a_line_is_set_on_one(tmp_path: Path, said: str, language: str) -> None:
    (balloon,) = balloons(bound(tmp_path, story_of(said, language)))
    assert balloon.lines == (said,)


def test_words_that_can_be_broken_are_not_set_flat(tmp_path: Path) -> None:
    said = "Is it yours, or did someone lose it here?"
    (balloon,) = balloons(bound(tmp_path, story_of(said)))
    assert len(balloon.lines) > 1


def test_a_word_wider_than_its_picture_is_divided_as_its_language_does(tmp_path: Path) -> None:
    said = "Rindfleischetikettierungsüberwachungsaufgaben"
    (balloon,) = balloons(bound(tmp_path, GRID.replace("SAID", said)))
    assert len(balloon.lines) > 1
    assert [printed(line)[-1] for line in balloon.lines[:-1]] == ["-"] * (len(balloon.lines) - 1)
    assert joined(balloon.lines) == said


def test_words_are_whole_wherever_the_line_is_wide_enough() -> None:
    text = "Oh, Weihnachtsgeschenkpapier ist Weihnachtsgeschenkpapier"
    wide = metrics(ANDIKA).width("Weihnachtsgeschenkpapier") + 0.1
    lines = set_lines(text, ANDIKA, wide, "de")
    assert lines is not None
    assert not any(SOFT_HYPHEN in line for line in lines)


def test_the_authors_own_soft_hyphens_decide_where_a_word_is_divided() -> None:
    word = "Wei\u00adhnachtsgeschenk"
    measure = metrics(ANDIKA).width("hnachtsgeschenk") + 0.1
    assert set_lines(word, ANDIKA, measure, "de") == ("Wei\u00ad", "hnachtsgeschenk")
    assert set_lines(word, ANDIKA, 40.0, "de") == ("Weihnachtsgeschenk",)


def test_without_a_language_no_word_is_divided() -> None:
    assert set_lines("Weihnachtsgeschenkpapier", ANDIKA, 6.0) is None


def test_a_divided_word_is_one_word_where_the_line_is_not_the_pages() -> None:
    parts = segments(("Weih\u00ad", "nachten"), ("Weihnachten",))
    assert [(part.text, part.joint) for part in parts] == [("Weih", ""), ("nachten", "")]
    assert parts[0].page_hyphen
    assert not parts[0].flow_hyphen


@pytest.mark.parametrize("count", [40, 150, 300])
def test_long_titles_are_set_on_cover_and_title_page(tmp_path: Path, count: int) -> None:
    title = ("The Long and Unreasonable Chronicle of the Fox " * 10)[:count].strip()
    book = bound(tmp_path, story_of("Oh").replace("The Lamp", title))
    sizes = [text.size for leaf in book.leaves for text in leaf.texts if text.role == "title"]
    assert len(sizes) == 2
    assert min(sizes) >= 18


def test_a_dedication_of_many_names_stands_under_the_title(tmp_path: Path) -> None:
    dedication = "For Anna, Ben, Carla, David and Emil, who asked for one more story. " * 8
    given_book = f'book: {{dedication: "{dedication}"}}\npages:'
    page = bound(tmp_path, story_of("Oh").replace("pages:", given_book)).leaves[2]
    (given,) = [text for text in page.texts if text.role == "dedication"]
    assert given.size >= 11
    others = [text.rect for text in page.texts if text.role != "dedication"]
    others += [item.frame for item in page.pictures]
    assert not any(given.rect.common(other) for other in others)


def test_a_long_text_becomes_small_before_it_is_refused(tmp_path: Path) -> None:
    sentence = "The moon was full and the wood was violet, and nobody needed a lamp. "

    def size(count: int) -> float:
        text = f"text: {sentence * count}"
        book = bound(tmp_path, story_of("Oh").replace("text: Pip lived in a wood.", text))
        (page,) = [text for leaf in book.leaves for text in leaf.texts if text.role == "story"]
        return page.size

    assert size(1) == 20
    assert 11 <= size(11) < 14
    with pytest.raises(StoryForgeError, match="even at 11 points"):
        size(40)


BROKEN = """\
storyforge: 1
title: The Lamp
language: en
characters: {pip: concepts/pip}
pages:
  - text: LONG
  - text: 你 and 𒀀
    panels:
      - {id: a, alt: A, prompt: a, say: [{text: "𒀁", kind: caption}]}
  - kind: spread
    panels: [{id: bay, alt: B, prompt: b, size: [128, 128]}]
  - text: Fine ♥ ★ ♪ → 🦊 αβγ.
"""


def test_check_lists_everything_that_cannot_be_set_where_it_is_said(tmp_path: Path) -> None:
    written(tmp_path, BROKEN.replace("LONG", "The moon was full and the wood was violet. " * 140))
    found = [each for each in Project(tmp_path / "story.yaml").check() if each.severity == "error"]
    assert [(each.line, each.code) for each in found] == [
        (6, "SF323"),
        (7, "SF324"),
        (9, "SF324"),
        (11, "SF323"),
    ]
    assert "`你`" in found[1].message
    assert "`𒀀`" in found[1].message
    assert "size: [256, 128]" in found[3].message


def test_check_names_the_locales_line_for_a_translation_that_cannot_be_set(tmp_path: Path) -> None:
    written(tmp_path, story_of("Oh"))
    (tmp_path / "locales").mkdir()
    locale = tmp_path / "locales" / "de.yaml"
    locale.write_text(
        "title: Die Lampe\npages:\n  1: Im Wald.\npanels:\n  pip: {alt: P, say: [𒀀]}\n",
        encoding="utf-8",
    )
    assert read(tmp_path / "story.yaml").languages() == ("en", "de")
    errors = [each for each in Project(tmp_path / "story.yaml").check() if each.severity == "error"]
    assert [(each.file, each.line, each.code) for each in errors] == [(str(locale), 5, "SF324")]


BAY = """\
storyforge: 1
title: The Bay
characters: {pip: concepts/pip, owl: concepts/owl}
pages:
  - text: Nobody answered. The moon went up, and far away somebody switched on a lamp.
    kind: spread
    panels:
      - id: bay
        size: [512, 256]
        layout: spread-two-sides
        regions: {left: {concept: pip}, right: {concept: owl}}
        alt: The bay.
        say: [{who: pip, text: Hello?, at: [0.4, 0.05, 0.6, 0.3]}]
"""


def test_a_balloon_asked_for_in_the_fold_is_moved_off_it(tmp_path: Path) -> None:
    book = bind(written(tmp_path, BAY), {"bay": Art("bay", tmp_path, 512, 256)})
    (leaf,) = [leaf for leaf in book.leaves if any(item.balloons for item in leaf.pictures)]
    (said,) = balloons(book)
    fold = book.trim.width * 72 if leaf.number % 2 == 0 else 0.0
    assert min(abs(said.text.x - fold), abs(said.text.right - fold)) > 9


def test_signs_come_from_the_fallback_and_letters_stay_in_their_font(tmp_path: Path) -> None:
    book = bound(tmp_path, story_of("La la ♪"))
    (balloon,) = balloons(book)
    assert balloon.face == COMIC_NEUE_BOLD
    assert any(face.family.startswith("Noto") for face in book.faces)
