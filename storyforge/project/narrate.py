"""A voice for the pages that nobody has recorded: a program for speech reads them out.

The recordings lie beside the story, one a page, where `book.read_along` finds them; they are the
author's to replace.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from storyforge.book.animatic import ffmpeg
from storyforge.book.colophon import spoken
from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.executor import OnProgress
from storyforge.store import write_whole
from storyforge.story.concept import text_in
from storyforge.story.locales import check_edition
from storyforge.story.readalong import recorded, spoken_file
from storyforge.story.story import Page, Story


def narrate(
    story: Story, language: str | None, voice: str | None, on_progress: OnProgress
) -> tuple[Path, ...]:
    """Record every page that says something and has no recording yet; the new files.

    voice  one of espeak-ng's by name (the language's own if None), or a Piper model (.onnx)

    Raises StoryForgeError for a language that no text has, and EnvironmentProblem without the
    programs that speak and encode.
    """
    check_edition(language, story.languages())
    tongue = language or story.language
    wanted = [
        (number, words, spoken_file(story, number, tongue))
        for number, page in enumerate(story.pages, start=1)
        if (words := words_of(story, page, tongue)) and recorded(story, number, tongue) is None
    ]
    todo = [each for each in wanted if not each[2].is_file()]
    made = []
    for done, (number, words, path) in enumerate(todo):
        on_progress(f"page {number}: speaking", done, len(todo))
        write_whole(path, _spoken(words, tongue, voice))
        made.append(path)
    return tuple(made)


def words_of(story: Story, page: Page, language: str) -> str:
    """All that is said on a page, in the order of reading, each speaker named once in a row."""
    said = [text_in(page.text, language, story.language)] if page.text else []
    before = None
    for panel in page.panels:
        for speech in panel.say:
            text = text_in(speech.text, language, story.language)
            named = speech.who and speech.who != before and speech.kind != "sound"
            said.append(f"{spoken(speech.who)}: {text}" if speech.who and named else text)
            before = speech.who
    return "\n".join(text.replace("*", "") for text in said if text.strip())


def _spoken(words: str, language: str, voice: str | None) -> bytes:
    """The words as an MP3."""
    tool = ffmpeg()
    with tempfile.TemporaryDirectory(prefix="storyforge-voice-") as made:
        wave, out = Path(made) / "voice.wav", Path(made) / "voice.mp3"
        _run([*_speaker(language, voice, wave)], words)
        encoded = ["-c:a", "libmp3lame", "-b:a", "64k", "-ac", "1", "-fflags", "+bitexact"]
        quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]
        _run([tool, *quiet, "-i", str(wave), *encoded, str(out)], "")
        return out.read_bytes()


def _speaker(language: str, voice: str | None, wave: Path) -> Sequence[str]:
    """The command that reads its input out into a file."""
    if voice is not None and voice.endswith(".onnx"):
        piper = _program("piper", "pip install piper-tts")
        return [piper, "--model", voice, "--output_file", str(wave)]
    espeak = _program("espeak-ng", "install espeak-ng, or name a Piper model with `--voice`")
    return [espeak, "--stdin", "-v", voice or language.lower(), "-s", "150", "-w", str(wave)]


def _program(name: str, hint: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise EnvironmentProblem(f"`{name}` is not on this machine", hint=hint)
    return found


def _run(command: Sequence[str], words: str) -> None:
    done = subprocess.run(command, input=words, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        about = said[-1] if said else str(done.returncode)
        raise StoryForgeError(f"`{Path(command[0]).name}` refused: {about}")
