"""Pages that are read out: recordings in EPUB and HTML, spoken ones, and a film of the pages."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest
from epubs import OPF, complaints, metadata, parsed
from PIL import Image

from storyforge.book.animatic import lasting
from storyforge.book.page import bind, undrawn
from storyforge.book.recording import recording
from storyforge.errors import StoryForgeError
from storyforge.project.narrate import words_of
from storyforge.project.project import Project
from storyforge.story.readalong import narrations, spoken_file
from storyforge.story.story import check, read

STORY = """\
storyforge: 1
title: {en: The Pond, de: Der Teich}
pages:
  - text: {en: One frog sang., de: Ein Frosch sang.}
    narration: {en: audio/1.mp3, de: audio/1-de.mp3}
  - text: {en: Nobody answered., de: Keiner antwortete.}
"""

FRAME = b"\xff\xfb\x90\x00" + bytes(413)
"""One frame of MPEG-1 layer 3: 128 kbit/s, 44.1 kHz, 1152 samples in 417 bytes."""


def told(folder: Path, frames: int = 100) -> Path:
    (folder / "audio").mkdir()
    (folder / "audio" / "1.mp3").write_bytes(FRAME * frames)
    (folder / "audio" / "1-de.mp3").write_bytes(FRAME * 2 * frames)
    story = folder / "story.yaml"
    story.write_text(STORY)
    return story


def m4a(path: Path, seconds: int) -> Path:
    head = struct.pack(">IIII", 0, 0, 1000, 1000 * seconds) + bytes(80)
    head = bytes(4) + head[4:8] + head[4:]
    body = struct.pack(">I4s", 8 + len(head), b"mvhd") + head
    moov = struct.pack(">I4s", 8 + len(body), b"moov") + body
    path.write_bytes(struct.pack(">I4s", 16, b"ftyp") + b"M4A \0\0\0\0" + moov)
    return path


def test_a_recording_is_as_long_as_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(FRAME * 100)
    assert recording(path).seconds == pytest.approx(100 * 1152 / 44100)
    path.write_bytes(b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + FRAME * 50)
    assert recording(path).seconds == pytest.approx(50 * 1152 / 44100)


def test_the_other_kind_says_how_long_it_is(tmp_path: Path) -> None:
    assert recording(m4a(tmp_path / "a.m4a", 7)).seconds == 7


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"\xff" * 50, b"\0\0\0\1moov"])
@pytest.mark.parametrize("name", ["a.mp3", "a.m4a", "a.wav"])
def test_what_is_no_recording_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StoryForgeError, match="no recording"):
        recording(tmp_path / name)


def test_a_page_is_read_out_while_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (epub,) = Project(told(tmp_path)).render(formats=("epub",)).books
    smil = parsed(epub, "page-004.smil")
    assert [each.get("src") for each in smil.iter() if each.get("src")] == [
        "page-004.xhtml#sheet",
        "voice-000.mp3",
    ]
    assert metadata(epub, "media:duration") == ["2.612s", "2.612s"]
    pages = {item.get("id"): item for item in parsed(epub, "package.opf").iter(f"{OPF}item")}
    assert pages["page-004"].get("media-overlay") == "page-004-voice"
    assert pages["page-005"].get("media-overlay") is None
    assert complaints(epub, "The Pond", monkeypatch) == []


def test_each_language_has_its_own_voice(tmp_path: Path) -> None:
    story = read(told(tmp_path))
    seconds = [
        leaf.narration.seconds
        for language in ("en", "de")
        for leaf in bind(story, undrawn(story), language).leaves
        if leaf.narration
    ]
    assert seconds[1] == pytest.approx(2 * seconds[0])


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("{en: One frog sang., de: Ein Frosch sang.}", ["en"]),
        ("Quak.", ["en", "de"]),
    ],
)
def test_a_recording_of_no_language_is_not_played_beside_other_words(
    tmp_path: Path, text: str, spoken: list[str]
) -> None:
    path = told(tmp_path)
    said = STORY.replace("{en: audio/1.mp3, de: audio/1-de.mp3}", "audio/1.mp3")
    path.write_text(said.replace("{en: One frog sang., de: Ein Frosch sang.}", text))
    story = read(path)
    heard = [
        language
        for language in ("en", "de")
        if any(leaf.narration for leaf in bind(story, undrawn(story), language).leaves)
    ]
    assert heard == spoken


def test_what_a_page_lacks_in_one_language_is_spoken_beside_it(tmp_path: Path) -> None:
    path = told(tmp_path)
    said = STORY.replace("{en: audio/1.mp3, de: audio/1-de.mp3}", "audio/1.mp3")
    path.write_text(said.replace("pages:", "book: {read_along: true}\npages:"))
    spoken = spoken_file(read(path), 1, "de")
    spoken.parent.mkdir(parents=True)
    spoken.write_bytes(FRAME)
    assert narrations(read(path), "de") == {1: spoken}


GUIDED = """\
storyforge: 1
title: Frogs
pages:
  - narration: audio/1.mp3
    grid: 2x1
    panels: [{id: a, picture: a.png, alt: A.}, {id: b, picture: a.png, alt: B.}]
  - text: Nobody answered.
"""
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_reading_goes_on_while_a_page_is_seen_panel_by_panel(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    story = told(tmp_path)
    story.write_text(GUIDED)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (html,) = Project(story).render(formats=("html",)).books
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 800, "height": 1000})
        page.add_init_script(
            "HTMLMediaElement.prototype.play = function () {"
            "  setTimeout(() => this.onended?.(), 10); return Promise.resolve(); }"
        )
        page.goto(f"{html.as_uri()}#p4")
        page.click("#guide")
        page.click("#voice")
        page.wait_for_url(lambda url: url.endswith("#p5"), timeout=20_000)
        browser.close()


def test_the_web_page_plays_it_and_asks_no_network(tmp_path: Path) -> None:
    (html,) = Project(told(tmp_path)).render(formats=("html",)).books
    text = html.read_text()
    assert len(re.findall(r'<audio preload="none" src="data:audio/mpeg;base64,', text)) == 1
    assert 'id="voice"' in text
    assert "media-src data:" in text


def test_a_silent_book_has_no_button_for_it(tmp_path: Path) -> None:
    story = told(tmp_path)
    story.write_text(re.sub(r" +narration: .*\n", "", STORY))
    (html,) = Project(story).render(formats=("html",)).books
    assert 'id="voice"' not in html.read_text()


def test_another_recording_is_another_book(tmp_path: Path) -> None:
    story = told(tmp_path)
    before = Project(story).plan().books[0].key
    (tmp_path / "audio" / "1.mp3").write_bytes(FRAME * 7)
    assert Project(story).plan().books[0].key != before


def test_a_recording_that_is_not_there_is_found_by_check(tmp_path: Path) -> None:
    story = told(tmp_path)
    (tmp_path / "audio" / "1-de.mp3").unlink()
    assert [(found.code, found.line) for found in check(story)] == [("SF303", 5)]
    (tmp_path / "audio" / "1-de.mp3").write_bytes(b"no sound")
    assert [found.code for found in Project(story).check()] == ["SF323"]


def test_a_page_is_shown_as_long_as_it_is_spoken_or_takes_to_read(tmp_path: Path) -> None:
    story = read(told(tmp_path, frames=1000))
    spoken, written = bind(story, undrawn(story)).leaves[3:5]
    assert lasting(spoken) == pytest.approx(1000 * 1152 / 44100 + 0.8)
    assert lasting(written) == pytest.approx(2.5 + 2 / 2.0)


def test_what_is_read_out_names_its_speakers(tmp_path: Path) -> None:
    text = STORY + (
        "    panels:\n      - {id: a, prompt: x, alt: A., say: [{who: frog, from: left,"
        " text: '*Hi*'}, {who: frog, from: left, text: You?}, {kind: sound, text: Splash}]}\n"
    )
    story = told(tmp_path)
    story.write_text(text.replace("You?", "'You?'"))
    page = read(story).pages[1]
    assert words_of(read(story), page, "en") == "Nobody answered.\nFrog: Hi\nYou?\nSplash"


def test_a_machine_reads_out_what_nobody_recorded(tmp_path: Path) -> None:
    if not (shutil.which("espeak-ng") and shutil.which("ffmpeg")):
        pytest.skip("there is no `espeak-ng` or no `ffmpeg` here")
    story = told(tmp_path)
    story.write_text(STORY.replace("pages:", "book: {read_along: true}\npages:"))
    project = Project(story)
    (made,) = project.narrate("de")
    assert made == tmp_path / "narration" / "de" / "2.mp3"
    assert recording(made).seconds > 0.5
    leaves = bind(project.story, undrawn(project.story), "de").leaves
    assert [leaf.narration is not None for leaf in leaves[3:5]] == [True, True]


def test_a_film_lasts_as_long_as_its_pages(tmp_path: Path) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("there is no `ffmpeg` here")
    story = told(tmp_path)
    story.write_text(STORY.replace("pages:", "book: {colophon: false}\npages:"))
    (film,) = Project(story).render(formats=("mp4",)).books
    asked = bind(read(story), {}, "en").leaves
    probe = ["ffmpeg", "-nostdin", "-i", str(film), "-f", "null", "-"]
    heard = subprocess.run(probe, capture_output=True, text=True, check=True).stderr
    (hours, minutes, seconds) = re.findall(r"Duration: (\d+):(\d+):([\d.]+)", heard)[0]
    lasts = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    assert lasts == pytest.approx(sum(map(lasting, asked)), abs=1.0)


def test_the_recording_lies_in_the_book_once(tmp_path: Path) -> None:
    (epub,) = Project(told(tmp_path)).render(formats=("epub",)).books
    with zipfile.ZipFile(epub) as archive:
        assert sum(name.endswith(".mp3") for name in archive.namelist()) == 1
