"""The samples' web pages in a browser: everybody can use them, on a desk and on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bookmaking import placeholders
from chromium import NEEDED, browser, violations

from storyforge.book.html import write_html
from storyforge.book.page import bind
from storyforge.story.layout import shipped
from storyforge.story.story import read

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser"]

pytestmark = NEEDED

SAMPLES = sorted(path.stem for path in shipped("stories").glob("*.yaml"))


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every sample as a web page, of pictures that stand in for those that are drawn."""
    made = {}
    for name in SAMPLES:
        folder = tmp_path_factory.mktemp(name)
        story = read(shipped("stories") / f"{name}.yaml")
        made[name] = write_html(bind(story, placeholders(story, folder)), folder / "book.html")
    return made


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
@pytest.mark.parametrize("name", SAMPLES)
def test_everybody_can_read_it(
    browser: Browser, books: dict[str, Path], name: str, width: int, scheme: str
) -> None:
    view = {"width": width, "height": 860}
    context = browser.new_context(viewport=view, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.goto(books[name].as_uri())
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not wrong
    context.close()
