"""How soon the desk shows what was written: keystrokes and drags on a story of thirty pages.

`python -m benchmarks.desk --json`. The time runs from the page's request to its answer, over HTTP
on this machine: the text is parsed, the page composed and painted, the file written. With
`--browser` it is taken in Chromium, from the key to the changed page on the screen.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final
from urllib.parse import urlsplit

PAGES: Final = 30
EDITS: Final = 100
CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")

Json = dict[str, object]


def story(folder: Path) -> Path:
    """Thirty pages, each with a picture of two figures who speak."""
    pages = [
        f"""\
  - text: Page {n} tells how they walked on, and what they found there was not the moon.
    panels:
      - id: p{n:02d}
        layout: two-side-by-side
        prompt: a meadow, picture {n}
        regions:
          left: {{prompt: a fox, pose: waving}}
          right: {{prompt: an owl, box: [0.55, 0.1, 0.95, 1]}}
        alt: A fox and an owl in a meadow.
        say:
          - {{text: "Good evening, number {n}!"}}
          - {{text: And to you.}}
"""
        for n in range(1, PAGES + 1)
    ]
    path = folder / "story.yaml"
    path.write_text(f"storyforge: 1\ntitle: Thirty Pages\npages:\n{''.join(pages)}")
    return path


class Desk:
    """A desk in a process of its own."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "storyforge", "desk", str(path), "--no-browser", "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        told = ""
        while not told.rstrip().endswith("}"):
            told += self.process.stdout.readline()
        self.address = str(json.loads(told)["desk"])
        parts = urlsplit(self.address)
        self.host, self.prefix = parts.netloc, parts.path
        self.connection = http.client.HTTPConnection(self.host, timeout=60)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, verb: str, content: Json) -> Json:
        headers = {"Origin": f"http://{self.host}", "Content-Type": "application/json"}
        body = json.dumps(content)
        self.connection.request("POST", f"{self.prefix}api/{verb}", body, headers)
        answer = self.connection.getresponse()
        told: Json = json.loads(answer.read())
        if answer.status != 200:
            raise RuntimeError(f"{verb}: {told}")
        return told

    def seconds(self) -> float:
        """Processor time that the desk's process has used: what a crowded machine does not add."""
        said = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(said[11]) + int(said[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait()


def timed(work: Callable[[int], None], count: int) -> list[float]:
    took = []
    for number in range(count):
        began = time.perf_counter()
        work(number)
        took.append(1000 * (time.perf_counter() - began))
        time.sleep(0.03)
    return took


def summary(took: Sequence[float]) -> Json:
    ranked = sorted(took)
    p95 = ranked[min(len(ranked) - 1, int(0.95 * len(ranked)))]
    return {"p50": round(median(ranked), 1), "p95": round(p95, 1), "max": round(ranked[-1], 1)}


def over_http(desk: Desk, text: str) -> Json:
    """Keystrokes spread over all pages, and drags, each with the answer that shows the new page."""
    state = desk.ask("book", {"have": []})
    have = list(state["svgs"])  # type: ignore[call-overload]

    def typed(number: int) -> None:
        nonlocal text, state, have
        place = text.index(" what they found", text.index(f"Page {number % PAGES + 1} tells"))
        text = text[:place] + chr(97 + number % 26) + text[place:]
        state = desk.ask("type", {"text": text, "base": state["text"], "have": have})
        assert state["svgs"], "a keystroke changed no page"
        have += list(state["svgs"])  # type: ignore[call-overload]

    def dragged(number: int) -> None:
        nonlocal state, have
        box = [0.5 + number % 7 / 100, 0.1, 0.94, 1]
        asked = {"panel": f"p{number % PAGES + 1:02d}", "region": "right", "box": box}
        state = desk.ask("move", {**asked, "have": have})
        have += list(state["svgs"])  # type: ignore[call-overload]

    for number in range(3):
        typed(number)
    began = desk.seconds()
    keystrokes = summary(timed(typed, EDITS))
    spent = 1000 * (desk.seconds() - began) / EDITS
    drags = summary(timed(dragged, 40))
    return {"keystroke_ms": keystrokes, "keystroke_cpu_ms": round(spent, 1), "drag_ms": drags}


def in_browser(address: str) -> Json:
    """From the key to the changed page, in the browser."""
    import shutil

    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        page.wait_for_selector(".sheet svg")
        page.locator(".cm-line", has_text="Page 2 tells").first.click()
        page.keyboard.press("End")
        took = [page.evaluate(_KEY) for _ in range(EDITS)]
        browser.close()
    return {"keystroke_in_browser_ms": summary(took)}


_KEY: Final = """() => new Promise((resolve) => {
  const began = performance.now();
  const seen = new MutationObserver(() => { seen.disconnect(); requestAnimationFrame(() => {
    const took = performance.now() - began; setTimeout(() => resolve(took), 30); }); });
  document.querySelectorAll('.paper').forEach((each) => seen.observe(each, {childList: true}));
  document.execCommand('insertText', false, 'x');
})"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--browser", action="store_true")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="storyforge-desk-") as made:
        path = story(Path(made))
        desk = Desk(path)
        try:
            found: Json = {"pages": PAGES, "edits": EDITS} | over_http(desk, path.read_text())
            if asked.browser:
                found |= in_browser(desk.address)
        finally:
            desk.close()
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name}: {value}")


if __name__ == "__main__":
    main()
