"""The desk in a browser: what an author does there, and what is left when the power goes.

Nothing is fetched from elsewhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import NEEDED, browser, violations
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from storyforge.project.candidates import FOLDER, Seen, drawn_at, keep_set
from storyforge.project.project import Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = NEEDED

__all__ = ["browser"]

STORY = """\
# the hill
storyforge: 1
title: The Hill
size: [64, 64]
pages:
  - text: They met on the hill.   # at noon
    panels:
      - id: hill
        layout: two-side-by-side
        prompt: a green hill
        regions:
          left: {prompt: a fox, pose: standing}   # she waits
          right: {prompt: an owl, box: [0.5, 0.1, 0.95, 1]}
        alt: A fox and an owl on a hill.
  - text: The end.
"""


AUTO = "owl: {prompt: an owl, at: auto}"


class Desk:
    """A desk in a process of its own, which can be killed."""

    def __init__(self, story: Path, port: int = 0) -> None:
        self.story = story
        command = [sys.executable, "-m", "storyforge", "desk", str(story), "--no-browser", "--json"]
        self.process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=subprocess.PIPE, text=True
        )
        told = ""
        while not told.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            if not line:
                self.close()
                raise AssertionError("the desk ended")
            told += line
        self.told = json.loads(told)

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        self.process.terminate()
        with self.process:
            pass


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    story = tmp_path / "book" / "story.yaml"
    story.parent.mkdir()
    story.write_text(STORY)
    made = Desk(story)
    yield made
    made.close()


def opened(browser: Browser, address: str, width: int = 1440, scheme: str = "light") -> Page:
    context = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.asked, page.errors = asked, []
    page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector(".sheet svg")
    return page


def until(story: Path, words: str) -> str:
    """Wait until the file says so; all it says then."""
    for _ in range(1200):
        if words in (text := story.read_text()):
            return text
        time.sleep(0.05)
    raise AssertionError(f"`{words}` does not come: {story.read_text()}")


def test_an_author_drags_types_undoes_and_is_killed(browser: Browser, desk: Desk) -> None:
    page = opened(browser, desk.told["desk"])
    region = page.locator('[data-name="hill/right"]').last
    region.scroll_into_view_if_needed()
    box = region.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] - 60, middle[1], steps=3)
    page.mouse.up()
    page.locator(".cm-content", has_not_text="[0.5, 0.1, 0.95, 1]").wait_for()
    for _ in range(600):
        if "[0.5, 0.1, 0.95, 1]" not in desk.story.read_text():
            break
        time.sleep(0.05)
    dragged = desk.story.read_text()
    assert dragged != STORY
    assert dragged.splitlines()[:12] == STORY.splitlines()[:12]
    assert "# she waits" in dragged

    page.locator(".cm-line", has_text="The end.").click()
    page.keyboard.press("End")
    page.keyboard.type(" Or not")
    page.wait_for_selector("svg tspan:has-text('The end. Or not')")
    until(desk.story, "The end. Or not")

    desk.kill()
    assert "The end. Or not" in desk.story.read_text()
    again = Desk(desk.story)
    try:
        page = opened(browser, again.told["desk"])
        for _ in range(8):
            if desk.story.read_text() == STORY:
                break
            page.locator("#undo").click()
            page.wait_for_timeout(400)
        assert desk.story.read_text() == STORY
    finally:
        again.close()


def test_what_another_editor_writes_is_shown_in_both_places(browser: Browser, desk: Desk) -> None:
    page = opened(browser, desk.told["desk"])
    desk.story.write_text(STORY.replace("The end.", "And on they went."))
    page.wait_for_selector("svg tspan:has-text('And on they went.')")
    page.locator(".cm-content", has_text="they went").wait_for()
    assert "The end." not in page.locator(".cm-content").inner_text()
    assert not page.locator("svg tspan:has-text('The end.')").count()


def test_the_keyboard_moves_poses_and_turns(browser: Browser, desk: Desk) -> None:
    page = opened(browser, desk.told["desk"])
    page.locator('[data-name="hill/left"]').last.focus()
    page.keyboard.press("p")
    until(desk.story, "pose: waving")
    page.locator('[data-name="hill/left"]').last.focus()
    page.keyboard.press("f")
    until(desk.story, "facing: left")
    page.locator('[data-name="hill/left"]').last.focus()
    page.keyboard.press("Shift+ArrowUp")
    moved = until(desk.story, "pose: waving, facing: left, box: [")
    assert "box: [0.05, 0.1, 0.5, 1]" not in moved


def test_mistakes_stand_under_their_words(browser: Browser, desk: Desk) -> None:
    page = opened(browser, desk.told["desk"])
    desk.story.write_text(STORY.replace("prompt: a green hill", "promt: a green hill"))
    page.wait_for_selector(".cm-lintRange-error")
    assert "SF200" in page.locator("#findings").inner_text()


def test_warnings_are_marked_and_nothing_is_refused(browser: Browser, desk: Desk) -> None:
    desk.story.write_text(STORY.replace("        alt: A fox and an owl on a hill.\n", ""))
    page = opened(browser, desk.told["desk"])
    page.wait_for_selector(".cm-lintRange-warning")
    page.wait_for_timeout(300)
    assert not page.errors


def test_what_was_found_in_a_picture_is_kept(browser: Browser, tmp_path: Path) -> None:
    story = tmp_path / "story.yaml"
    text = STORY.replace("right: {prompt: an owl, box: [0.5, 0.1, 0.95, 1]}", AUTO)
    text = text.replace("        layout: two-side-by-side\n", "")
    story.write_text(text.replace("left: {", "left: {at: left, "))
    project, notes = Project(story), PngInfo()
    found = [{"name": "owl", "box": [0.25, 0, 0.5, 1], "found": "an owl"}]
    notes.add_itxt("storyforge", json.dumps({"schema_version": 1, "regions": found}))
    with project.store.make("panels", project.plan().panels[0].key) as out:
        Image.new("RGB", (64, 64), "teal").save(out, format="PNG", pnginfo=notes)
    desk = Desk(story)
    try:
        page = opened(browser, desk.told["desk"])
        page.locator('.region.auto[aria-label*="found while it was drawn"]').last.wait_for()
        page.locator('.panel[data-panel="hill"]').last.dispatch_event("click")
        page.get_by_role("button", name="Keep these regions").click()
        assert "owl: {prompt: an owl, box: [0.25, 0, 0.5, 1]}" in until(story, "box: [")
        assert not page.errors
    finally:
        desk.close()


@pytest.fixture
def from_words(tmp_path: Path) -> Iterator[Desk]:
    """A desk with a concept of two candidates, of which the second is chosen."""
    folder = tmp_path / "pip"
    (folder / FOLDER).mkdir(parents=True)
    (folder / "concept.yaml").write_text("kind: character\nclass: fox\n")
    for number in (1, 2):
        Image.new("RGB", (64, 64), "teal").save(drawn_at(folder, number))
    keep_set(folder, [Seen(n, "a [trigger]", "a fox", 1.0, 0.5, n == 2) for n in (1, 2)])
    story = tmp_path / "story.yaml"
    story.write_text(STORY.replace("pages:", "characters: {pip: pip}\npages:", 1))
    made = Desk(story)
    yield made
    made.close()


def redrawn(page: Page, field: str, button: str) -> None:
    """Press what draws a view anew, and wait until it is."""
    old = page.locator(field).element_handle()
    page.locator(button).last.dispatch_event("click")
    page.wait_for_function("field => !field.isConnected", arg=old)


def test_what_an_author_began_outlives_a_redraw(browser: Browser, from_words: Desk) -> None:
    page = opened(browser, from_words.told["desk"])
    page.locator("#tab-concepts").click()
    page.locator("#tick-1").check()
    page.locator("#tick-2").uncheck()
    redrawn(page, "#tick-1", "#concept-pip")
    assert page.locator("#tick-1").is_checked()
    assert not page.locator("#tick-2").is_checked()
    assert page.evaluate("document.activeElement.id") == "tick-2"
    page.locator("#learn-from").click()
    page.wait_for_selector('label[for="caption-001.png"]')
    assert sorted(path.name for path in from_words.story.parent.glob("pip/*.png")) == ["001.png"]

    page.locator('.panel[data-panel="hill"]').last.dispatch_event("click")
    page.locator("#takes").fill("3")
    page.locator("#steps").fill("5")
    redrawn(page, "#takes", '.panel[data-panel="hill"]')
    assert [page.locator(f"#{each}").input_value() for each in ("takes", "steps")] == ["3", "5"]
    assert not page.errors


def test_nothing_is_asked_from_elsewhere_and_scripts_are_text(browser: Browser, desk: Desk) -> None:
    desk.story.write_text(STORY.replace("The end.", '"<img src=x onerror=document.title=1>"'))
    page = opened(browser, desk.told["desk"])
    page.wait_for_selector("svg tspan:has-text('onerror')")
    home = desk.told["desk"].split("/")[2]
    assert {address.split("/")[2] for address in page.asked} == {home}
    assert page.title().startswith("The Hill")


def test_who_looks_on_sees_and_changes_nothing(browser: Browser, desk: Desk) -> None:
    page = opened(browser, desk.told["looking"], width=390)
    assert page.locator(".region").count() == 0
    assert page.locator("#undo").is_disabled()
    assert desk.story.read_text() == STORY


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_everybody_can_use_every_page(
    browser: Browser, desk: Desk, scheme: str, width: int
) -> None:
    page = opened(browser, desk.told["desk"], width, scheme)
    for tab in ("text", "panel", "queue", "concepts"):
        if width == 390:
            page.locator("#show-pane").click()
        page.locator(f"#tab-{tab}").click()
        page.wait_for_timeout(300)
        assert not violations(page), tab
    page.locator('.panel[data-panel="hill"]').last.dispatch_event("click")
    page.wait_for_selector(".layouts svg")
    assert not page.errors


def test_a_picture_is_drawn_picked_and_kept(browser: Browser, desk: Desk) -> None:
    page = opened(browser, desk.told["desk"])
    page.locator('.panel[data-panel="hill"]').last.dispatch_event("click")
    page.locator("#takes").fill("2")
    page.locator("#steps").fill("1")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#tab-queue").click()
    page.wait_for_selector(".jobs .soft:has-text('done')", timeout=400_000)
    page.locator('.panel[data-panel="hill"]').last.dispatch_event("click")
    page.get_by_role("button", name="Pick take 1").click(timeout=60_000)
    until(desk.story, "The Hill")
    lock = desk.story.with_name("story.lock.yaml")
    for _ in range(400):
        if lock.is_file():
            break
        time.sleep(0.05)
    assert "hill: {take: 1" in lock.read_text()
    page.reload()
    page.wait_for_selector(".sheet svg image")
