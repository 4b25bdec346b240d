"""What an author is told about a file with a mistake: one clear message, its place, at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storyforge.errors import (
    Diagnostic,
    EnvironmentProblem,
    Locked,
    Mark,
    Report,
    Severity,
    StoryError,
    StoryForgeError,
    TaskFailed,
)
from storyforge.story.story import check, read

GOOD = """\
storyforge: 1
title: The Fox and the Lantern
characters:
  pip: concepts/pip
objects:
  lantern: concepts/lantern
scenes:
  wood: concepts/wood
pages:
  - text: One night, Pip found a lantern.
    panels:
      - id: found
        scene: wood
        layout: two-side-by-side
        prompt: night, fireflies
        regions:
          left: {concept: pip, prompt: waving}
          right: {concept: lantern, prompt: glowing}
        alt: A fox lifts a lantern.
        say: [{who: pip, text: Who left you here?}]
"""

Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a story beside three sound concepts."""
    for name, kind in (("pip", "character"), ("lantern", "object"), ("wood", "scene")):
        folder = tmp_path / "concepts" / name
        folder.mkdir(parents=True)
        (folder / "concept.yaml").write_text(f"storyforge: 1\nkind: {kind}\nclass: {name}\n")
        (folder / "1.png").write_bytes(b"")

    def writer(text: str | bytes) -> Path:
        path = tmp_path / "story.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return writer


def told(path: Path) -> list[str]:
    """The findings in the story file, as `line:col CODE message`."""
    return [str(found).removeprefix(f"{path}:") for found in check(path)]


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def test_a_sound_story_has_no_findings(write: Write) -> None:
    assert check(write(GOOD)) == ()


ONE_MISTAKE = [
    ("    panels:\n", "    panles:\n", "11:5 SF200 unknown key `panles`; did you mean `panels`?"),
    ("alt: A", "wibble: 1\n        alt: A", "19:9 SF200 unknown key `wibble`; known are"),
    (
        "{concept: pip,",
        "{concept: pipp,",
        "17:27 SF300 no concept named `pipp`; did you mean `pip`",
    ),
    ("scene: wood", "scene: woood", "13:16 SF300 no scene named `woood`; did you mean `wood`?"),
    ("scene: wood", "scene: pip", "13:16 SF300 `pip` is listed under `characters`, not `scenes`"),
    ("two-side-by-side", "two-sides", "14:17 SF301 no layout named `two-sides`"),
    ("          left:", "          lefd:", "17:11 SF302 no region in layout `two-side-by-side`"),
    (
        "{concept: pip,",
        "{box: [0.5, 0, 1.2, 1], concept: pip,",
        "17:23 SF304 box `[0.5, 0, 1.2, 1]`",
    ),
    ("{concept: pip,", "{at: A1:D1, concept: pip,", "17:22 SF304 place `A1:D1` reaches outside"),
    ("{concept: pip,", "{at: lft, concept: pip,", "17:22 SF202 no place named `lft`; did you mean"),
    ("{concept: pip,", "{at: left, box: [0, 0, 1, 1], concept: pip,", "SF202 `box` and `at` both"),
    ("concepts/pip", "concepts/pop", "4:8 SF303 no concept folder at"),
    ("concepts/pip", "pip.safetensors", "4:8 SF303 no file at"),
    ("concepts/pip", "https://example.org/pip", "4:8 SF307 `https://example.org/pip` is not on"),
    ("pip: concepts/pip", "pip: concepts/wood", "4:8 SF309 `pip` is listed under `characters`"),
    ("  lantern: con", "  pip: concepts/pip\n  lantern: con", "6:3 SF308 `pip` is listed under"),
    (
        "title: The",
        "fuse: {weights: {pip: 2, pipp: 1}}\ntitle: The",
        "2:26 SF300 no concept named `pipp`; did you mean `pip`?",
    ),
    ("title: The", "fuse: {weights: {pip: 0}}\ntitle: The", "SF202 `pip` must be more than 0"),
    ("title: The", "fuse: {ridges: {kw: 1}}\ntitle: The", "SF202 `kw` must be one of `text`, `kv`"),
    ("who: pip", "who: wood", "20:21 SF305 `wood` speaks but is in no region of this panel"),
    ("who: pip", "who: lantem", "20:21 SF300 no concept named `lantem`; did you mean `lantern`?"),
    (
        "alt: A",
        "prompt: x\n        alt: A",
        "19:9 SF103 `prompt` is written twice; the first is on",
    ),
    ("  pip: con", "\tpip: con", "4:1 SF102 a tab; YAML is indented with spaces"),
    ("title: The", "title: Pip: the", "2:11 SF102 a `:` where no key can stand"),
    ("title: The Fox", "title: 'The Fox", "2:8 SF102 this quote is never closed"),
    ("[{who", "[[{who", "20:14 SF102 this `[` is never closed"),
    ("title: The", "title: !!python/object:os.system The", "2:8 SF102 tags such as"),
    ("title: The", "title: *The", "2:8 SF102 no anchor `&The` above"),
    ("title: The Fox and the Lantern\n", "", "1:1 SF201 `title` is missing"),
    ("storyforge: 1", "storyforge: 2", "1:13 SF202 `storyforge` must be `1`, not `2`"),
    ("title: The Fox and the Lantern", "title:", "2:1 SF202 `title` is empty"),
    (
        "title: The Fox and the Lantern",
        "title: [a]",
        "2:8 SF202 `title` must be a text, not a list",
    ),
    ("title: The Fox and the Lantern", "title: {english: a}", "SF202 `english` is not a language"),
    (
        "prompt: night",
        "steps: many\n        prompt: night",
        "15:16 SF202 `steps` must be a whole num",
    ),
    ("prompt: night", "steps: 0\n        prompt: night", "15:16 SF202 `steps` must be at least 1"),
    ("prompt: night", "size: [64]\n        prompt: night", "15:15 SF202 `size` needs 2 values"),
    ("  - text", "  - kind: gird\n    text", "did you mean `grid`?"),
    ("id: found", "id: found it", "12:13 SF202 `found it` is not an id for a panel"),
    ("pages:", "book: {cover: {panel: fund}}\npages:", "9:23 SF310 no panel named `fund`; did you"),
    (
        "          left:",
        "          <<: {a: b}\n          left:",
        "SF102 merge keys (`<<`) are not read",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), ONE_MISTAKE)
def test_one_mistake_is_one_error_at_its_place(
    old: str, new: str, message: str, write: Write
) -> None:
    path = write(changed(old, new))
    errors = [str(found) for found in check(path) if found.severity is Severity.ERROR]
    expected_code = message[message.index("SF") :][:5] if "SF" in message else "SF202"
    assert len(errors) == 1, errors
    assert message in errors[0]
    assert f" {expected_code} " in errors[0]


def test_a_story_without_a_layout_says_where_regions_go(write: Write) -> None:
    found = told(write(changed("        layout: two-side-by-side\n", "")))
    assert [line.split(" ", 2)[:2] for line in found] == [["16:11", "SF302"], ["17:11", "SF302"]]


def test_two_panels_with_one_id(write: Write) -> None:
    found = told(write(GOOD + "      - {id: found, scene: wood, alt: A wood.}\n"))
    assert found == ["21:14 SF306 two panels have the id `found`; the first is on line 12"]


def test_a_missing_picture_folder_is_told_in_the_concept_file(write: Write) -> None:
    path = write(GOOD)
    concept = path.parent / "concepts" / "pip" / "concept.yaml"
    concept.write_text(concept.read_text() + "images: photos\n")
    folder = concept.parent / "photos"
    assert [str(found) for found in check(path)] == [
        f"{concept}:4:9 SF303 no picture folder at `{folder}`"
    ]
    folder.mkdir()
    assert check(path)[0].message.startswith(f"no pictures in `{folder}`")


def test_a_mistake_in_a_layout_beside_the_story_is_told_there(write: Write) -> None:
    path = write(GOOD)
    own = path.parent / "layouts" / "two-side-by-side.yaml"
    own.parent.mkdir()
    own.write_text("description: mine\nregions:\n  left: {at: lft}\n  right: {}\n")
    assert [str(found).removeprefix(f"{own}:") for found in check(path)] == [
        "3:14 SF202 no place named `lft`; did you mean `left`?",
        "4:10 SF302 this region has no place; give it `at`, `box` or `mask`",
    ]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{last}'] * 9)}]\n"
    for last, name in zip("abcdefghi", "bcdefghij", strict=True)
)

UNREADABLE: list[tuple[str, bytes, str]] = [
    ("empty", b"", "1:1 SF105 the file is empty"),
    ("comments only", b"# nothing yet\n---\n", "1:1 SF105 the file is empty"),
    ("binary", bytes(range(256)), "1:1 SF101 a binary file, not YAML"),
    ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "3:1 SF101 a binary file, not YAML"),
    ("latin-1", "title: Café\n".encode("latin-1"), "1:11 SF101 not UTF-8: byte 0xe9"),
    ("utf-16", "title: x\n".encode("utf-16"), "1:1 SF101 the file is UTF-16; save it as UTF-8"),
    ("escape code", b"title: \x1b[0m", "1:8 SF101 control character U+001B; remove it"),
    ("escaped nul", b'title: "a\\0b"', "1:8 SF101 control character U+0000; remove it"),
    ("alias bomb", BOMB.encode(), "5:26 SF104 too large: more than 50000 values once every alias"),
    (
        "aliases of a long text",
        b"a: &a " + b"x " * 100_000 + b"\nb: [" + b"*a, " * 9000 + b"]\n",
        "2:101 SF104 too large: more than 50000 values once every alias is unfolded",
    ),
    ("alias of itself", b"a: &a [*a]\n", "1:8 SF104 `*a` stands inside of itself"),
    ("deep lists", b"[" * 500_000, "1:33 SF104 nested more than 32 levels deep"),
    ("deep maps", b"{a: " * 200_000, "SF104 nested more than 32 levels deep"),
    (
        "deep aliases",
        b"a: &a0 [x]\n" + b"".join(b"k%d: &a%d [*a%d]\n" % (i, i, i - 1) for i in range(1, 2000)),
        "SF104 nested more than 32 levels deep",
    ),
    ("huge", b"# padding\n" * 200_000, "1:1 SF104 too large: 2.0 MB, and 1 MB is the limit"),
    ("many values", b"- a\n" * 240_000, "50000:3 SF104 too large: more than 50000 values"),
    ("a list", b"- a\n- b\n", "1:1 SF202 the file must be a map of keys, not a list"),
    ("a text", b"Once upon a time\n", "1:1 SF202 the file must be a map of keys, not `Once upon"),
    ("two documents", b"a: 1\n---\nb: 1\n", "2:1 SF102 a second document begins here"),
    ("key that is a list", b"? [a]\n: b\n", "1:3 SF102 a key must be a text"),
    ("many tag directives", b"%TAG !a! b\n" * 50_000, "1:1 SF102 tags are not read"),
]


@pytest.mark.parametrize(
    ("data", "message"), [case[1:] for case in UNREADABLE], ids=[case[0] for case in UNREADABLE]
)
def test_a_file_that_cannot_be_a_story_gets_one_message(
    data: bytes, message: str, write: Write
) -> None:
    path = write(data)
    found = told(path)
    assert len(found) == 1
    assert message in found[0]


@pytest.mark.parametrize(("name", "told"), [("", "this is a folder"), ("no.yaml", "no such file")])
def test_what_is_no_file_is_told(name: str, told: str, tmp_path: Path) -> None:
    (found,) = check(tmp_path / name)
    assert found.code == "SF100"
    assert told in found.message


def test_mistakes_of_every_sort_are_told_together_in_order(write: Write) -> None:
    text = changed("title: The", "titel: The").replace("concept: pip", "concept: pop")
    text = text.replace("alt: A fox", "alt: A fox\n        alt: A fox").replace(
        "who: pip", "who: x"
    )
    found = told(write(text))
    assert [line.split(" ")[1] for line in found] == [
        "SF200",
        "SF300",
        "SF103",
        "SF300",
    ]
    assert found == sorted(found, key=lambda line: [int(n) for n in line.split(" ")[0].split(":")])


WARNINGS = [
    ("        alt: A fox lifts a lantern.\n", "", "12:9 SF400 panel `found` has no `alt`"),
    (
        "  wood: con",
        "  hill: concepts/wood\n  wood: con",
        "8:3 SF401 scene `hill` is listed and never",
    ),
    (
        "{concept: pip,",
        "{box: [0, 0, 0.2, 1], concept: pip,",
        "17:11 SF402 region `left` is 0.20 x",
    ),
    (
        "{concept: pip,",
        "{box: [0.6, 0.5, 0.9, 1], concept: pip,",
        "SF403 region `left` lies wholly",
    ),
    ("night, fireflies", "night " * 61, "15:9 SF404 `prompt` has 61 words"),
    (
        "          right: {concept: lantern, prompt: glowing}\n",
        "",
        "SF405 nothing is shown in region",
    ),
    ("title: The Fox and the Lantern", "title: {fr: Le Renard}", "2:8 SF406 this text has no `en`"),
]


@pytest.mark.parametrize(("old", "new", "message"), WARNINGS)
def test_what_is_probably_not_meant_is_a_warning(
    old: str, new: str, message: str, write: Write
) -> None:
    path = write(changed(old, new))
    found = check(path)
    assert all(each.severity is Severity.WARNING for each in found)
    assert any(message in str(each) for each in found), [str(each) for each in found]
    read(path)


def test_an_absolute_path_is_a_warning_not_an_error(write: Write, tmp_path: Path) -> None:
    path = write(changed("concepts/pip", str(tmp_path / "concepts" / "pip")))
    assert [(each.code, each.severity) for each in check(path)] == [("SF407", Severity.WARNING)]


def test_a_picture_that_says_nothing_needs_no_alt(write: Write) -> None:
    assert check(write(changed("alt: A fox lifts a lantern.", "decorative: yes"))) == ()


def test_a_region_in_front_of_a_larger_one_is_no_overlap(write: Write) -> None:
    front = "{box: [0.6, 0.5, 0.9, 1], z: 1, concept: pip,"
    assert check(write(changed("{concept: pip,", front))) == ()


def test_more_mistakes_than_anyone_reads_are_counted(write: Write) -> None:
    found = check(write(GOOD + "".join(f"key{index}: 1\n" for index in range(5000))))
    assert len(found) == 201
    assert found[-1].code == "SF900"
    assert "4800 more" in found[-1].message


def test_many_wrong_names_are_counted_like_other_mistakes(write: Write) -> None:
    names = "".join(f"  c{index}: concepts/pip\n" for index in range(2000))
    regions = "".join(f"          r{index}: {{concept: d{index}}}\n" for index in range(3000))
    text = changed("  lantern: con", names + "  lantern: con")
    found = check(write(text.replace("          left", regions + "          left")))
    assert len(found) == 201
    assert found[-1].code == "SF900"


def mutilations() -> dict[str, list[str]]:
    """The sound story with a line gone, cut short, two signs swapped or one put in."""
    lines, size = GOOD.splitlines(keepends=True), len(GOOD)
    return {
        "line gone": ["".join(lines[:i] + lines[i + 1 :]) for i in range(len(lines))],
        "cut short": [GOOD[:i] for i in range(0, size, 7)],
        "swapped": [
            GOOD[:i] + GOOD[i + 1] + GOOD[i] + GOOD[i + 2 :] for i in range(0, size - 2, 9)
        ],
        "put in": [
            GOOD[:i] + sign + GOOD[i:] for i in range(0, size, 61) for sign in "{[]}:-&*!|>%\t'\"\0"
        ],
    }


@pytest.mark.parametrize("how", mutilations())
def test_no_mutilation_of_a_story_makes_check_raise(how: str, write: Write) -> None:
    for text in mutilations()[how]:
        path = write(text)
        ends = text.count("\n") + 2
        for found in check(path):
            assert found.file != str(path) or 1 <= found.line <= ends
            assert found.column >= 1


def test_check_does_not_wait_for_torch() -> None:
    code = "import sys, storyforge.story.story; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_read_raises_every_error_and_no_warning(write: Write) -> None:
    path = write(changed("concept: pip", "concept: pop"))
    with pytest.raises(StoryError, match="1 mistake in") as caught:
        read(path)
    assert [each.code for each in caught.value.diagnostics] == ["SF300"]


def test_a_diagnostic_reads_as_editors_expect() -> None:
    assert str(Diagnostic("story.yaml", 12, 9, "SF300", "no concept named `pipp`")) == (
        "story.yaml:12:9 SF300 no concept named `pipp`"
    )


def test_diagnostics_sort_by_position_with_or_without_hint() -> None:
    late = Diagnostic("a", 10, 1, "SF200", "x", hint="do this")
    early = Diagnostic("a", 9, 30, "SF300", "x")
    assert sorted([late, late, early]) == [early, late, late]


def test_exit_codes_are_those_of_the_manual() -> None:
    codes = {each: each.exit_code for each in (StoryError, EnvironmentProblem, TaskFailed, Locked)}
    assert list(codes.values()) == [1, 3, 4, 5]
    assert all(issubclass(each, StoryForgeError) for each in codes)


def test_a_report_keeps_a_finding_once() -> None:
    report = Report("story.yaml")
    for _ in range(2):
        report.error(Mark(2, 3), "SF200", "unknown key `x`")
    assert [str(found) for found in report.findings()] == ["story.yaml:2:3 SF200 unknown key `x`"]
