"""From words to a draft that passes: manuscripts by rules, ideas by a model at an address."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.errors import EnvironmentProblem, Severity, StoryForgeError
from storyforge.executor import silent
from storyforge.project.project import Project
from storyforge.story.story import check
from storyforge.write.draft import Cast, drafted
from storyforge.write.manuscript import split
from storyforge.write.model import ROUNDS, LanguageModel, _wrong, written

ROOT = Path(__file__).parents[1]
MARKED = """\
THE FOX AND THE MOON

PAGE 1
One night Pip found a lantern.
PANEL 1: in the snow, at night
PIP (whispering): Who left you here?
JUNA: Not me.
Panel 2: on a hill
CAPTION: And then…

Page 2: They walked home: slowly.
EXT. MOONWOOD - NIGHT
Pip looks up.

PIP
(shouting)
Look! The moon
is out.

THE END
"""


def test_marks_make_pages_and_pictures() -> None:
    made = split(MARKED)
    assert made.title == "The Fox And The Moon"
    first, second = made.pages
    assert first.text == "One night Pip found a lantern."
    assert [panel.prompt for panel in first.panels] == ["in the snow, at night", "on a hill"]
    assert [(s.who, s.text, s.kind) for s in first.panels[0].says] == [
        ("PIP", "Who left you here?", "whisper"),
        ("JUNA", "Not me.", "speech"),
    ]
    assert [(s.who, s.kind) for s in first.panels[1].says] == [(None, "caption")]
    assert second.panels[0].prompt == "moonwood, night"
    assert [(s.text, s.kind) for s in second.panels[0].says] == [
        ("Look! The moon is out.", "shout")
    ]
    assert second.text == "They walked home: slowly. Pip looks up. THE END"


def test_without_marks_blank_lines_part_pages() -> None:
    made = split("Pip went out.\nIt was cold.\n\nPicture books end well.\n\nPage after page.")
    assert [page.text for page in made.pages] == [
        "Pip went out. It was cold.",
        "Picture books end well.",
        "Page after page.",
    ]


def test_who_spoke_before_a_mark_says_nothing_after_it() -> None:
    made = split("PAGE 1\nPIP\nHello.\nPAGE 2\nSome words.\nJUNA\nPAGE 3\nThe end.")
    assert [page.text for page in made.pages] == ["", "Some words. JUNA", "The end."]
    assert [(said.who, said.text) for said in made.pages[0].panels[0].says] == [("PIP", "Hello.")]


@pytest.mark.parametrize(
    "line",
    [
        "Page 3 was missing from the book.",
        "Page I turned.",
        "Picture 2 hung on the wall.",
        "Page mill lane",
    ],
)
def test_a_sentence_about_pages_is_no_mark(line: str) -> None:
    made = split(f"PAGE 1\nOnce.\n{line}")
    assert [page.text for page in made.pages] == [f"Once. {line}"]


@pytest.mark.parametrize(
    "mark", ["PAGE 2", "**Page 2**", "Page ii: ", "# Page 2.", "PAGE 2 -", "Page IV — "]
)
def test_a_number_and_its_end_make_a_mark(mark: str) -> None:
    assert [page.text for page in split(f"PAGE 1\nOnce.\n{mark}\nThen.").pages] == [
        "Once.",
        "Then.",
    ]


WORDS = st.lists(st.text("abcdefghij", min_size=3, max_size=9), min_size=1, max_size=50).map(
    " ".join
)
TEMPLATES = (
    # what is written -> what of it is to be found again
    ("{words}.", "{words}."),
    ("Page 3 was {words}.", "Page 3 was {words}."),
    ("Page I {words}.", "Page I {words}."),
    ("Picture 9 {words}.", "Picture 9 {words}."),
    ("PAGE 2: {words}", "{words}"),
    ("PANEL 2 - {words}", "{words}"),
    ("EXT. {words}", "{words}"),
    ("PIP ({words}): Hello.", "{words}"),
    ("PIP\n({words})\nHello.", "{words}"),
    ("CAPTION\n({words})\n", "CAPTION ({words})"),
    ("NARRATOR ({words})\n", "NARRATOR ({words})"),
    ("JUNA: {words}", "{words}"),
    ("", ""),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(TEMPLATES), WORDS), max_size=7))
def test_every_word_of_a_manuscript_lands_somewhere(
    said: list[tuple[tuple[str, str], str]],
) -> None:
    text = "\n".join(line.format(words=words) for (line, _), words in said)
    draft = drafted(split(f"PAGE 1\n{text}\n\n"), Cast({}, {})).casefold()
    for (_, found), words in said:
        assert found.format(words=words).casefold() in draft


def test_what_a_speaker_is_called_beside_the_name_stays_in_the_draft(tmp_path: Path) -> None:
    cast = Cast.of(ROOT / "concepts", tmp_path / "story.yaml")
    draft = drafted(split("PAGE 1\nOLD PIP: Hello.\nPIP: Hm."), cast)
    assert "{who: pip, text: Hello.}  # Old Pip\n" in draft
    assert "{who: pip, text: Hm.}\n" in draft


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.text("abcABC .:()-'\"#{}[]&*!|>%@`12?\f\x85\u2028\x1b", max_size=24)
        | st.sampled_from(["PAGE 1", "PANEL", "", "EXT. HILL - DAY", "PIP: hello", "JUNA"]),
        max_size=9,
    )
)
def test_any_manuscript_becomes_a_sound_story(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("draft") / "story.yaml"
    text = "\n".join(lines)
    path.write_text(drafted(split(text), Cast({}, {})), encoding="utf-8")
    errors = [each for each in check(path) if each.severity is Severity.ERROR]
    assert not errors


def test_a_cast_stands_in_the_draft_by_name(tmp_path: Path) -> None:
    for name in ("pip", "juna", "moonwood"):
        shutil.copytree(ROOT / "concepts" / name, tmp_path / "cast" / name)
    (tmp_path / "m.txt").write_text(MARKED)
    words = ["new", str(tmp_path / "book"), "--from", str(tmp_path / "m.txt")]
    result = CliRunner().invoke(app, [*words, "--cast", str(tmp_path / "cast")])
    assert result.exit_code == 0, result.output
    project = Project(tmp_path / "book" / "story.yaml")
    assert set(project.story.characters) == {"pip", "juna"}
    assert [s.who for s in project.story.pages[0].panels[0].say] == ["pip", "juna"]
    assert project.story.pages[1].panels[0].scene == "moonwood"
    assert not [each for each in project.check() if each.severity is Severity.ERROR]


def test_a_folder_that_holds_anything_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("Once.")
    result = CliRunner().invoke(app, ["new", str(tmp_path), "--from", str(tmp_path / "m.txt")])
    assert result.exit_code == 1
    assert sorted(tmp_path.iterdir()) == [tmp_path / "m.txt"]


def test_an_idea_needs_a_model(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["new", str(tmp_path / "a"), "--idea", "a fox"])
    assert result.exit_code == 1
    assert not (tmp_path / "a").exists()


GOOD = """\
storyforge: 1
title: The Moon
pages:
  - text: A fox looks up.
    panels: [{id: p1, layout: whole-scene, prompt: night, alt: A moon.}]
"""


class Model:
    """A server that answers one text after the other, and keeps what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.asked: list[list[dict[str, str]]] = []
        left = list(answers)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:
                length = int(handler.headers["Content-Length"])
                self.asked.append(json.loads(handler.rfile.read(length))["messages"])
                text = left.pop(0) if len(left) > 1 else left[0]
                body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
                handler.send_response(200)
                handler.end_headers()
                handler.wfile.write(body if text != "broken" else b"<html>")

            def log_message(handler, *_: object) -> None:
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def asked(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Model, Path]]:
    model = Model(*request.param)
    yield model, tmp_path / "story.yaml"
    model.close()


def write(model: Model, story: Path) -> str:
    where = LanguageModel(model.address)
    return written("a fox", story, Cast({}, {}), where, check, on_progress=silent)


BAD = GOOD.replace("layout: whole-scene", "layout: hole-scene")


@pytest.mark.parametrize("asked", [(f"Here:\n```yaml\n{BAD}```", GOOD)], indirect=True)
def test_a_model_hears_what_is_wrong_until_the_draft_passes(asked: tuple[Model, Path]) -> None:
    model, story = asked
    assert write(model, story) == GOOD == story.read_text()
    assert len(model.asked) == 2
    assert "hole-scene" in model.asked[1][-1]["content"]
    assert "two-side-by-side: left, right" in model.asked[0][0]["content"]


@pytest.mark.parametrize("asked", [(f"base: /etc\n{GOOD}", GOOD)], indirect=True)
def test_a_model_chooses_no_base(asked: tuple[Model, Path]) -> None:
    model, story = asked
    write(model, story)
    assert "`base` is not yours to say" in model.asked[1][-1]["content"]


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ((GOOD.replace("prompt:", "picture: /etc/x.png, prompt:", 1), GOOD), "picture"),
        ((f'"sampling": {{steps: 9}}\n{GOOD}', GOOD), "sampling"),
    ],
    indirect=["asked"],
)
def test_a_model_names_no_file_however_it_writes_it(asked: tuple[Model, Path], key: str) -> None:
    model, story = asked
    write(model, story)
    assert f"`{key}` is not yours to say" in model.asked[1][-1]["content"]


@pytest.mark.parametrize(
    "key", ["book: {upscale: big.safetensors}", "control: {adapter: pocket/sketch}"]
)
def test_no_file_may_be_named_in_any_setting(tmp_path: Path, key: str) -> None:
    story = tmp_path / "story.yaml"
    named = key.partition("{")[2].partition(":")[0]
    wrong = _wrong(f"{key}\n{GOOD}", story, Cast({}, {}), lambda _: ())
    assert f"`{named}` is not yours to say; leave it out" in wrong


@pytest.mark.parametrize(
    "said",
    [
        "outfits: {pip: {mask: a red mask, base: plain}}",
        "views: {people: {picture: from the frame}}",
        "x: {regions: {mask: {prompt: a mask}, people: {prompt: a crowd}}}",
    ],
)
def test_a_model_may_call_what_it_shows_as_it_likes(tmp_path: Path, said: str) -> None:
    assert _wrong(f"{said}\n{GOOD}", tmp_path / "s", Cast({}, {}), lambda _: ()) == []


def test_below_a_name_keys_are_keys_again(tmp_path: Path) -> None:
    said = "x: {regions: {mask: {picture: /etc/x.png}}}"
    (wrong,) = _wrong(f"{said}\n{GOOD}", tmp_path / "s", Cast({}, {}), lambda _: ())
    assert wrong.startswith("`picture` is not yours")


@pytest.mark.parametrize("asked", [(f"characters: {{pip: /etc}}\n{GOOD}", GOOD)], indirect=True)
def test_a_model_shows_nobody_whom_it_was_not_told_of(asked: tuple[Model, Path]) -> None:
    model, story = asked
    write(model, story)
    assert "there is no `/etc`" in model.asked[1][-1]["content"]


@pytest.mark.parametrize("asked", [(BAD,)], indirect=True)
def test_a_model_that_does_not_learn_is_given_up(asked: tuple[Model, Path]) -> None:
    model, story = asked
    with pytest.raises(StoryForgeError, match="still has 1 mistakes"):
        write(model, story)
    assert len(model.asked) == ROUNDS
    assert story.read_text() == BAD


@pytest.mark.parametrize("asked", [("broken",)], indirect=True)
def test_an_answer_that_is_none_is_told(asked: tuple[Model, Path]) -> None:
    with pytest.raises(EnvironmentProblem, match="no chat completion"):
        write(*asked)


def test_where_nobody_answers_is_told(tmp_path: Path) -> None:
    where = LanguageModel("http://127.0.0.1:9/v1")
    with pytest.raises(EnvironmentProblem, match="no language model"):
        written("a", tmp_path / "s", Cast({}, {}), where, lambda _: (), on_progress=silent)


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("PAGE 1 (4 PANELS)", "(4 PANELS)"),
        ("Page 1 (four panels)", "(four panels)"),
        ("PAGE 1 A fox sits.", "A fox sits."),
        ("Page 1: A fox sits.", "A fox sits."),
    ],
)
def test_a_page_begins_at_its_mark_whatever_stands_behind_it(line: str, rest: str) -> None:
    made = split(f"{line}\nAn owl sleeps.")
    assert [page.text for page in made.pages] == [f"{rest} An owl sleeps."]
    assert not made.speakers


def test_what_stands_behind_a_panels_number_in_capitals_is_seen_there() -> None:
    (page,) = split("PAGE 1\nPANEL 1 A fox sits.\nPANEL 2 An owl.").pages
    assert [panel.prompt for panel in page.panels] == ["A fox sits.", "An owl."]
