"""Stories in several languages: maps of languages, and locale files beside the story."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from storyforge.errors import StoryError, StoryForgeError
from storyforge.modelref import ModelRef
from storyforge.plan.plan import Order, Plan, draw_up
from storyforge.story.concept import text_in
from storyforge.story.story import check, read, untranslated

BASE = ModelRef("pocket", "hash of the base")

STORY = """\
storyforge: 1
title: The Fox
author: A. Author
book: {dedication: For all., cover: {panel: found, subtitle: A tale}}
pages:
  - text: Once upon a time.
    panels:
      - id: found
        prompt: a fox
        alt: A fox in the snow.
        say: [{text: Hello!}, {text: Goodbye!}]
  - panels: [{id: gone, prompt: snow, decorative: true}]
"""

FRENCH = """\
title: Le Renard
pages:
  1: Il était une fois.
panels:
  found:
    alt: Un renard dans la neige.
    say: [Bonjour !, Au revoir !]
book: {dedication: Pour tous., cover: {subtitle: Un conte}}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the story with locale files, by name, beside it."""

    def writer(story: str = STORY, **locales: str) -> Path:
        (tmp_path / "locales").mkdir(exist_ok=True)
        for name, text in locales.items():
            (tmp_path / "locales" / f"{name}.yaml").write_text(text, encoding="utf-8")
        (tmp_path / "story.yaml").write_text(story, encoding="utf-8")
        return tmp_path / "story.yaml"

    return writer


def told(path: Path, locale: str | None = "fr") -> list[str]:
    """The findings in a locale file, or in the story if None, as `line:col CODE message`."""
    file = path if locale is None else path.parent / "locales" / f"{locale}.yaml"
    return [str(found).removeprefix(f"{file}:") for found in check(path) if found.file == str(file)]


def said(path: Path, language: str) -> list[str]:
    """Every text of the story as its edition in `language` shows it."""
    story = read(path)
    return [text_in(text, language, story.language) for text in story.texts()]


def test_a_whole_locale_file_translates_every_text(write: Write) -> None:
    path = write(fr=FRENCH)
    assert check(path) == ()
    assert said(path, "fr") == [
        "Le Renard",
        "A. Author",
        "Pour tous.",
        "Un conte",
        "Il était une fois.",
        "Un renard dans la neige.",
        "Bonjour !",
        "Au revoir !",
    ]
    assert read(path).languages() == ("en", "fr")


def test_a_locale_file_leaves_the_story_as_it_was(write: Write) -> None:
    alone = said(write(), "en")
    assert said(write(fr=FRENCH), "en") == alone


def test_a_map_of_languages_and_a_locale_file_add_up(write: Write) -> None:
    path = write(STORY.replace("title: The Fox", "title: {en: The Fox, de: Der Fuchs}"), fr=FRENCH)
    assert text_in(read(path).title, "fr", "en") == "Le Renard"
    assert text_in(read(path).title, "de", "en") == "Der Fuchs"


def test_what_is_not_translated_is_listed_in_the_story_and_shown_as_it_stands(write: Write) -> None:
    french = FRENCH.replace("Bonjour !, ", "~, ").replace("  1: Il était une fois.", "  1:")
    path = write(fr=french)
    listed = [
        "6:11 SF422 page 1 is not in `fr`",
        "11:22 SF422 balloon 1 of panel `found` is",
    ]
    found = told(path, None)
    assert [line.startswith(start) for line, start in zip(found, listed, strict=True)] == [True] * 2
    assert said(path, "fr")[4] == "Once upon a time."
    assert [str(each) for each in untranslated(read(path), "fr")] == [
        f"{path}:{line}" for line in found
    ]


def test_one_translated_text_asks_for_the_others_but_not_for_a_name(write: Write) -> None:
    path = write(STORY.replace("title: The Fox", "title: {en: The Fox, fr: Le Renard}"))
    assert [line.partition(" ")[0] for line in told(path, None)] == [
        "4:20",
        "4:62",
        "6:11",
        "10:14",
        "11:22",
        "11:38",
    ]
    assert untranslated(read(write()), "en") == ()


MISTAKES = [
    ("  1: Il", "  3: Il", "3:3 SF317 no page 3; the story has 2"),
    ("  1: Il", "  2: Il", "3:6 SF318 the story has no text here to translate: `pages 2`"),
    ("  1: Il", "  one: Il", "3:3 SF202 `one` is not the number of a page; the first is 1"),
    ("  found:", "  fund:", "5:3 SF317 no panel named `fund`; did you mean `found`?"),
    ("  found:", "  gone: {alt: Rien.}\n  found:", "5:15 SF318 the story has no text here to"),
    (
        "Au revoir !]",
        "Au revoir !, Encore !]",
        "7:35 SF318 the story has no text here to",
    ),
    ("panels:", "pannels: {}\npanels:", "4:1 SF200 unknown key `pannels`; did you mean `panels`?"),
    ("title: Le", "title: [Le]\nauthor: Le", "1:8 SF202 `title` must be a text, not a list"),
    ("pages:", "title: Le\npages:", "2:1 SF103 `title` is written twice"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_a_mistake_in_a_locale_file_is_told_there(
    old: str, new: str, message: str, write: Write
) -> None:
    assert FRENCH.count(old) == 1
    path = write(fr=FRENCH.replace(old, new))
    (line,) = told(path)
    assert line.startswith(message)
    with pytest.raises(StoryError):
        read(path)


def test_a_text_translated_twice_shows_the_storys_own_words(write: Write) -> None:
    path = write(STORY.replace("title: The Fox", "title: {en: The Fox, fr: Renard}"), fr=FRENCH)
    assert told(path) == [
        "1:8 SF410 the story itself says this in `fr` on line 2; keep one of the two"
    ]
    assert text_in(read(path).title, "fr", "en") == "Renard"


NAMES = [
    ("french", "1:1 SF319 `french` is not a language; name the file by its code, as `fr.yaml`"),
    ("en", "1:1 SF319 `en` is the story's own language; write these texts in `story.yaml`"),
    ("tale.fr", "1:1 SF319 there is no story `tale.yaml` for this file; name it `story.fr.yaml`"),
]


@pytest.mark.parametrize(("name", "message"), NAMES)
def test_a_locale_file_is_named_by_its_language(name: str, message: str, write: Write) -> None:
    assert told(write(**{name: FRENCH}), name) == [message]


def test_a_locale_file_ends_as_it_is_read(write: Write) -> None:
    path = write()
    (path.parent / "locales" / "fr.yml").write_text(FRENCH)
    assert [found.code for found in check(path)] == ["SF319"]


def test_stories_that_share_a_folder_have_locale_files_of_their_own(write: Write) -> None:
    path = write(**{"story.fr": FRENCH, "fr": "title: not read", "other.de": "title: Anders"})
    (path.parent / "other.yaml").write_text("storyforge: 1\ntitle: Other\npages: [{text: A.}]\n")
    assert check(path) == ()
    assert read(path).languages() == ("en", "fr")
    assert read(path.parent / "other.yaml").languages() == ("en", "de", "fr")


def plan_of(path: Path, language: str | None = None) -> Plan:
    return draw_up(read(path), base=BASE, order=Order(language=language))


def test_a_locale_file_binds_the_book_anew_and_draws_nothing(write: Write) -> None:
    before, after = plan_of(write()), plan_of(write(fr=FRENCH))
    assert after.panels == before.panels
    assert {book.key for book in after.books}.isdisjoint(book.key for book in before.books)
    french = plan_of(write(fr=FRENCH), "fr")
    assert french.panels == after.panels
    assert [book.language for book in french.books] == ["fr", "fr"]
    again = plan_of(write(fr=FRENCH.replace("Pour tous", "Pour toi")), "fr")
    assert [replace(book, key="") for book in again.books] == [
        replace(book, key="") for book in french.books
    ]
    assert {book.key for book in again.books}.isdisjoint(book.key for book in french.books)


def test_an_edition_without_a_text_names_the_languages_there_are(write: Write) -> None:
    with pytest.raises(StoryForgeError, match="no text is in `FR`, only in `en`, `fr`; did you"):
        plan_of(write(fr=FRENCH), "FR")


def test_a_locale_file_that_is_no_yaml_is_told(write: Write) -> None:
    assert told(write(fr="title: Le: Renard\n")) == [
        "1:10 SF102 a `:` where no key can stand; check the indentation, or put the text in quotes"
    ]


def test_a_locales_that_is_no_folder_is_no_mistake(tmp_path: Path, write: Write) -> None:
    path = write()
    (tmp_path / "locales").rmdir()
    (tmp_path / "locales").write_text("")
    assert check(path) == ()
