"""The desk's words: pages that follow the text, hands that leave the bytes, a guard at the door."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pinning import made_story, make
from tiny import save_base
from tinystory import write_story

from storyforge.errors import StoryForgeError

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from storyforge.book.leaf import Art
from storyforge.desk import guard
from storyforge.desk.app import make_app
from storyforge.desk.guard import Guard
from storyforge.desk.hand import Change, changed
from storyforge.desk.history import History
from storyforge.desk.queue import DrawQueue
from storyforge.desk.session import ChangedElsewhere, Session
from storyforge.desk.studio import Studio
from storyforge.desk.worker import perform
from storyforge.evaluate.compared import compare
from storyforge.geometry.box import Box
from storyforge.plan.draft import draft_tasks
from storyforge.story.story import examined

STORY = """\
# what a story looks like
storyforge: 1
title: "<script>alert('title')</script>"
pages:
  - text: "<b>One</b> night &c."  # the first page
    panels:
      - id: found
        layout: two-side-by-side
        prompt: night
        regions:
          left:  {prompt: "<img src=x onerror=alert(1)>", pose: waving}   # he waves
          right: {prompt: a lantern, box: [0.50, 0.10, 1, 1]}
          far: {at: top-right, prompt: a moon}
          odd: {polygon: [[0, 0.5], [0.25, 0.25], [0.5, 0.5]], prompt: a hill}
        alt: A fox.
        say: [{text: "</text><script>alert(2)</script>"}]
  - text: The end.
"""
REGIONS = ("left", "right", "far", "odd")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    story = tmp_path / "book" / "story.yaml"
    story.parent.mkdir()
    story.write_text(STORY)
    return story


@pytest.fixture
def session(path: Path, tmp_path: Path) -> Session:
    return Session(path, tmp_path / "desk", str)


def boxes(session: Session) -> dict[str, list[float]]:
    pages = session.view()["pages"]
    panels = [panel for page in pages for panel in page["panels"]]
    return {region["name"]: region["box"] for region in panels[0]["regions"]}


def test_a_keystroke_changes_one_page(session: Session) -> None:
    before = session.view()
    session.type(STORY.replace("The end.", "The very end."), before["text"])
    after = session.view(frozenset(before["svgs"]))
    assert len(after["svgs"]) == 1
    assert "very" in next(iter(after["svgs"].values()))


def test_what_is_typed_is_in_the_file(session: Session, path: Path) -> None:
    session.type(STORY + "# more\n", session.digest())
    assert path.read_text() == STORY + "# more\n"


def test_a_mistake_leaves_the_pages_and_is_told(session: Session) -> None:
    before = session.view()["pages"]
    session.type(STORY.replace("storyforge: 1", "storyforge: 1\nauther: me"), session.digest())
    assert session.view()["pages"] == before
    assert "SF200" in {each["code"] for each in session.view()["findings"]}


def test_another_editors_text_is_shown(session: Session, path: Path) -> None:
    path.write_text(STORY.replace("The end.", "And so on."))
    assert session.look()
    assert "And so on." in session.text


def test_two_texts_at_once_are_not_mixed(session: Session, path: Path) -> None:
    base = session.digest()
    path.write_text(STORY + "# theirs\n")
    with pytest.raises(ChangedElsewhere):
        session.type(STORY + "# mine\n", base)
    assert path.read_text() == STORY + "# theirs\n"


def test_undo_brings_another_editors_text_back_too(session: Session, path: Path) -> None:
    path.write_text(STORY + "# theirs\n")
    session.look()
    session.type(STORY + "# mine\n", session.digest())
    assert session.undo()
    assert path.read_text() == STORY + "# theirs\n"
    assert session.undo()
    assert path.read_text() == STORY
    assert not session.undo()
    assert session.redo()
    assert path.read_text() == STORY + "# theirs\n"


def test_what_was_undone_and_written_over_stays_in_the_folder(tmp_path: Path) -> None:
    history = History(tmp_path)
    for word in (b"one", b"two"):
        history.note(word)
    history.undo()
    history.note(b"three")
    assert history.steps == (1, 0)
    assert {path.read_bytes() for path in tmp_path.glob("*.yaml")} == {b"one", b"two", b"three"}


def test_the_history_outlives_the_desk(tmp_path: Path) -> None:
    history = History(tmp_path)
    for word in (b"one", b"two"):
        history.note(word)
    history.undo()
    again = History(tmp_path)
    assert (again.current, again.steps) == (b"one", (0, 1))


def test_a_burst_of_typing_is_one_step(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.note(b"")
    for word in (b"a", b"ab", b"abc"):
        history.note(word, typed=True)
    assert history.undo() == b""


@pytest.mark.parametrize("region", REGIONS)
def test_a_dragged_region_is_where_it_was_put(session: Session, region: str) -> None:
    session.move("found", region, Box(x0=0.1, y0=0.2, x1=0.4, y1=0.7))
    assert boxes(session)[region] == pytest.approx([0.1, 0.2, 0.4, 0.7])


@pytest.mark.parametrize("region", REGIONS)
def test_a_drag_touches_one_line(session: Session, path: Path, region: str) -> None:
    session.move("found", region, Box(x0=0.1, y0=0.2, x1=0.4, y1=0.7))
    pairs = zip(STORY.splitlines(), path.read_text().splitlines(), strict=True)
    assert [old.split(":")[0].strip() for old, new in pairs if old != new] == [region]


fractions = st.tuples(*[st.floats(0, 0.9)] * 2, *[st.floats(0.05, 1)] * 2).map(
    lambda s: Box(
        x0=s[0], y0=s[1], x1=max(min(1, s[0] + s[2]), s[0] + 0.05), y1=min(1, s[1] + s[3])
    )
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(drags=st.lists(st.tuples(st.sampled_from(REGIONS), fractions), min_size=1, max_size=3))
def test_drags_and_their_reverse_leave_the_bytes_as_they_were(
    session: Session, path: Path, drags: list[tuple[str, Box]]
) -> None:
    before, back = path.read_bytes(), []
    for region, box in drags:
        x0, y0, x1, y1 = boxes(session)[region]
        back.append((region, Box(x0=x0, y0=y0, x1=x1, y1=y1)))
        session.move("found", region, box)
    for region, box in reversed(back):
        session.move("found", region, box)
    assert path.read_bytes() == before


def test_a_pose_and_a_layout_are_written(session: Session, path: Path) -> None:
    session.change(Change("found", "pose", "sitting", "left"))
    session.change(Change("found", "layout", "two-close"))
    assert "pose: sitting}   # he waves" in path.read_text()
    assert "layout: two-close\n" in path.read_text()


BOX = Box(x0=0, y0=0, x1=1, y1=1)


def test_regions_that_were_found_are_kept_by_hand(session: Session, tmp_path: Path) -> None:
    text = STORY.replace("far: {at: top-right,", "far: {at: auto,")
    session.type(text, session.digest())
    with pytest.raises(StoryForgeError, match="nobody knows where `far` is"):
        session.keep_found("found")
    notes, told = PngInfo(), [{"name": "far", "box": [0.25, 0, 0.5, 0.5], "found": "a moon"}]
    notes.add_itxt("storyforge", json.dumps({"schema_version": 1, "regions": told}))
    Image.new("RGB", (8, 8)).save(tmp_path / "p.png", pnginfo=notes)
    session.show_art({"found": Art("found", tmp_path / "p.png", 8, 8)})
    assert boxes(session)["far"] == [0.25, 0, 0.5, 0.5]
    with pytest.raises(StoryForgeError, match="found while the picture is drawn"):
        session.move("found", "far", BOX)
    session.keep_found("found")
    kept = "{prompt: a moon, box: [0.25, 0, 0.5, 0.5]}"
    assert session.text == text.replace("{at: auto, prompt: a moon}", kept)
    session.undo()
    assert session.text == text


def test_who_is_not_there_is_not_dragged(path: Path) -> None:
    story, _ = examined(path)
    with pytest.raises(StoryForgeError, match="no region"):
        changed(STORY, story, Change("found", "box", BOX, "nobody"))


def test_a_mask_is_not_dragged(path: Path) -> None:
    story, _ = examined(path)
    panel = story.pages[0].panels[0]
    masked = panel.regions["left"].model_copy(update={"box": None, "at": None, "mask": "m.png"})
    page = story.pages[0].model_copy(
        update={"panels": [panel.model_copy(update={"regions": panel.regions | {"left": masked}})]}
    )
    story = story.model_copy(update={"pages": [page, *story.pages[1:]]})
    with pytest.raises(StoryForgeError, match="is where its `mask` is white"):
        changed(STORY, story, Change("found", "box", BOX, "left"))


def test_a_mark_before_the_first_letter_stays_there(path: Path) -> None:
    story, _ = examined(path)
    change = Change("found", "box", BOX, "left")
    assert changed(f"\ufeff{STORY}", story, change) == f"\ufeff{changed(STORY, story, change)}"


def test_nothing_is_dragged_in_a_story_with_mistakes(session: Session) -> None:
    session.type(STORY.replace("title:", "titel:"), session.digest())
    with pytest.raises(StoryForgeError, match="mistakes"):
        session.move("found", "left", Box(x0=0, y0=0, x1=1, y1=1))


HOST = "127.0.0.1:8765"
PAGE = {"host": HOST, "origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}


@pytest.fixture
def studio(path: Path) -> Iterator[Studio]:
    made = Studio(path, watch=False)
    yield made
    made.close()


@pytest.fixture
def client(studio: Studio) -> TestClient:
    app = Guard(make_app(studio), "look", "write", frozenset({HOST}))
    return TestClient(app, base_url=f"http://{HOST}", headers=PAGE)


def test_the_page_opens_with_its_token(client: TestClient) -> None:
    answer = client.get("/write/")
    assert answer.status_code == 200
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1"},
        {"host": "localhost.evil.example:8765"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_strangers_are_refused(client: TestClient, headers: dict[str, str], method: str) -> None:
    answer = client.request(method, "/write/api/book", headers=headers, json={})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "address", ["/", "/api/text", "/wrong/api/text", "/writ/", "/static/desk.js"]
)
def test_without_the_token_there_is_nothing(client: TestClient, address: str) -> None:
    assert client.get(address).status_code == 403


def test_a_change_without_an_origin_is_refused(studio: Studio) -> None:
    app = Guard(make_app(studio), "look", "write", frozenset({HOST}))
    bare = TestClient(app, base_url=f"http://{HOST}", headers={"host": HOST})
    assert bare.post("/write/api/undo", json={}).status_code == 403


def test_what_is_too_large_is_refused_as_such(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_MOST", 1_000)

    def pieces() -> Iterator[bytes]:
        yield from (b"x" * 400 for _ in range(4))

    for content in (b"x" * 1_600, pieces()):
        answer = client.post("/write/api/retouch/found", content=content)
        assert answer.status_code == 413
        assert "at most" in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.post("/write/api/book", json={"have": []}).status_code == 200


def test_who_looks_on_changes_nothing(client: TestClient, path: Path) -> None:
    assert client.post("/look/api/book", json={"have": []}).status_code == 200
    for verb in (
        "type",
        "move",
        "change",
        "keep",
        "undo",
        "draw",
        "queue",
        "approve",
        "caption",
        "choose",
        "compare",
    ):
        assert client.post(f"/look/api/{verb}", json={"text": "", "base": ""}).status_code == 403
    assert client.post("/look/api/retouch/found", content=b"x").status_code == 403
    assert path.read_text() == STORY


@pytest.mark.parametrize(
    "address",
    [
        "static/../app.py",
        "static/..%2fapp.py",
        "static/%2e%2e/app.py",
        "picture/..%2f..%2fstory.yaml",
        "picture/story.yaml",
        "preview/..%2f..%2fstory",
        "preview/nobody",
        "font/999",
        "api/concept/..%2f..%2f",
        "api/panel/..%2f",
    ],
)
def test_no_address_leads_to_other_files(client: TestClient, address: str) -> None:
    assert client.get(f"/write/{address}").status_code in {403, 404, 422}


def test_a_storys_scripts_are_text(client: TestClient) -> None:
    svgs = client.post("/write/api/book", json={}).json()["svgs"].values()
    assert any("&lt;script&gt;" in svg for svg in svgs)
    assert not any("<script" in svg or "<img" in svg or "<b>" in svg for svg in svgs)


@pytest.mark.parametrize(
    ("verb", "asked"),
    [
        ("type", {}),
        ("type", {"text": 1, "base": ""}),
        ("move", {"panel": "found", "region": "left", "box": [0, 0, 2, 1]}),
        ("move", {"panel": "found", "region": "left", "box": "all"}),
        ("change", {"panel": "found", "key": "alt", "value": "x"}),
        ("draw", {"panels": ["nobody"], "takes": 1}),
        ("draw", {"panels": ["found"], "takes": True}),
        ("approve", {"verb": "rm", "panel": "found"}),
        ("queue", {"verb": "cancel", "id": "x"}),
        ("book", {"have": [1]}),
    ],
)
def test_nonsense_is_refused(client: TestClient, verb: str, asked: object) -> None:
    assert client.post(f"/write/api/{verb}", json=asked).status_code == 400


def test_what_is_no_json_is_refused(client: TestClient) -> None:
    assert client.post("/write/api/book", content=b"{").status_code == 400
    assert client.post("/write/api/book", content=b"[" * 5000).status_code == 400


def test_pages_and_their_text_go_together(client: TestClient, path: Path) -> None:
    first = client.post("/write/api/book", json={}).json()
    asked = {"panel": "found", "region": "right", "box": [0.4, 0.1, 0.9, 1], "source": True}
    second = client.post("/write/api/move", json={**asked, "have": list(first["svgs"])}).json()
    assert second["source"] == path.read_text()
    assert "box: [0.4, 0.1, 0.9, 1]" in second["source"]
    assert 1 <= len(second["svgs"]) <= 2  # the cover shows the picture, too
    third = client.post("/write/api/undo", json={"source": True}).json()
    assert third["source"] == STORY


def test_every_layout_has_a_picture(client: TestClient) -> None:
    told = client.get("/write/api/layouts").json()["layouts"]
    assert {"two-side-by-side", "one-centre"} <= {each["name"] for each in told}
    assert all(each["svg"].startswith("<svg") for each in told)


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[Studio]:
    """A story whose pictures are there, as PNGs."""
    story = made_story(tmp_path)
    made = Studio(story, watch=False)
    for task in made.project().plan().panels:
        with made.project().store.make("panels", task.key) as out:
            Image.new("RGB", (64, 64), "teal").save(out)
    yield made
    made.close()


def test_a_retouched_picture_is_pinned(drawn: Studio) -> None:
    made = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(made, "PNG")
    drawn.retouch("found", made.getvalue())
    pinned = drawn.project().pins["found"]
    with Image.open(pinned.picture) as picture:
        assert picture.getpixel((3, 3)) == (255, 0, 0)


def test_what_is_no_picture_is_not_pinned(drawn: Studio) -> None:
    with pytest.raises(StoryForgeError):
        drawn.retouch("found", b"no picture")
    assert not drawn.project().pins


def test_the_plan_says_what_is_stale_and_why(drawn: Studio) -> None:
    drawn.path.write_text(drawn.path.read_text().replace("prompt: night", "prompt: day"))
    lines = {line["subject"]: line for line in drawn.plan()["lines"]}
    assert lines["panel found"]["state"] == "stale"
    assert "prompt changed" in lines["panel found"]["reasons"]
    assert lines["panel end"]["state"] == "fresh"


def test_a_concepts_page_shows_its_pictures_and_takes_captions(drawn: Studio) -> None:
    app = Guard(make_app(drawn), "look", "write", frozenset({HOST}))
    client = TestClient(app, base_url=f"http://{HOST}", headers=PAGE)
    told = client.get("/write/api/concept/pip").json()
    assert [each["file"] for each in told["pictures"]] == ["1.png"]
    assert client.get(f"/write/{told['pictures'][0]['picture']}").status_code == 200
    asked = {"concept": "pip", "file": "1.png", "text": "a [trigger] at night\n"}
    assert client.post("/write/api/caption", json=asked).status_code == 200
    assert (drawn.path.parent / "concepts/pip/1.txt").read_text() == "a [trigger] at night\n"
    for file in ("../../story.yaml", "concept.yaml", "2.png"):
        answer = client.post("/write/api/caption", json={**asked, "file": file})
        assert answer.status_code == 422


def test_a_concept_is_seen_while_it_learns_alone_and_fused(tmp_path: Path) -> None:
    save_base(tmp_path / "base")
    story = write_story(tmp_path / "tale", panels=1)
    studio = Studio(story, watch=False)
    folder = studio.queue.folder
    where = {"story": str(story), "store": str(studio.store_root)}
    where |= {"previews": str(studio.queue.previews), "learning": str(studio.queue.learning)}
    where |= {"compared": str(folder / "compared")}
    try:
        assert studio.concept("pip")["learning"] == []
        perform({**where, "panel": "p0", "takes": 1, "steps": 1}, lambda _: None)
        rows = studio.concept("pip")["learning"]
        assert [each["step"] for each in rows[0]["steps"]] == [0, 1]
        assert studio.concept("pip")["compared"][0]["pictures"] == {}
        perform({**where, "panel": "x", "concept": "pip"}, lambda _: None)
        shown = studio.concept("pip")["compared"]
        assert [set(row["pictures"]) for row in shown] == [{"base", "alone", "fused"}] * 2
    finally:
        studio.close()


def test_who_is_not_learnt_is_not_compared(drawn: Studio) -> None:
    plan, store = drawn.project().plan(), drawn.project().store
    shutil.rmtree(store.root / "concepts")
    with pytest.raises(StoryForgeError, match="not learnt"):
        compare(plan, store, drawn.project().base, "pip", drawn.queue.folder, lambda *_: None)


def test_an_author_chooses_among_pictures_made_from_words(drawn: Studio) -> None:
    app = Guard(make_app(drawn), "look", "write", frozenset({HOST}))
    client = TestClient(app, base_url=f"http://{HOST}", headers=PAGE)
    folder = drawn.path.parent / "concepts" / "pip"
    (folder / ".candidates").mkdir()
    seen = {"caption": "a [trigger]", "prompt": "a fox", "text": 1.0, "alike": 0.5}
    told = [{"number": n, "chosen": False, **seen} for n in (1, 2)]
    (folder / ".candidates" / "candidates.json").write_text(json.dumps(told))
    for number in (1, 2):
        Image.new("RGB", (64, 64), "teal").save(folder / ".candidates" / f"00{number}.png")
    answer = client.post("/write/api/choose", json={"concept": "pip", "numbers": [2]}).json()
    assert [(each["number"], each["chosen"]) for each in answer["candidates"]] == [
        (1, False),
        (2, True),
    ]
    assert [each["file"] for each in answer["pictures"]] == ["002.png", "1.png"]
    assert client.get(f"/write/{answer['candidates'][0]['picture']}").status_code == 200
    for numbers, status in (([], 422), ([7], 422), ("all", 400), ([True], 400)):
        asked = {"concept": "pip", "numbers": numbers}
        assert client.post("/write/api/choose", json=asked).status_code == status


@pytest.fixture
def hurried(tmp_path: Path) -> Iterator[Studio]:
    """A story at two speeds; its drafts wait to be drawn."""
    story = made_story(tmp_path)
    story.write_text(story.read_text().replace("title:", "draft: pocket\ntitle:", 1))
    shutil.rmtree(story.parent / ".storyforge" / "panels")
    made = Studio(story, watch=False)
    made.drafts.pause(True)
    yield made
    made.close()


def test_drafts_are_begun_by_themselves_and_asked_for_once(hurried: Studio) -> None:
    panels = [panel.id for _, panel in hurried.project().story.panels()]
    hurried.plan()
    hurried.plan()
    assert [job.panel for job in hurried.drafts.jobs()] == panels
    assert not hurried.queue.jobs()


def test_a_draft_is_shown_and_called_one_until_the_picture_is_there(hurried: Studio) -> None:
    store, story = hurried.project().store, hurried.project().story
    for task in draft_tasks(story):
        with store.make("panels", task.key) as out:
            Image.new("RGB", (64, 64), "gray").save(out, format="PNG")
    hurried.plan()
    assert hurried.session.view()["drafts"] == sorted(panel.id for _, panel in story.panels())
    real = next(task for task in hurried.project().plan().panels if task.panel == "found")
    with store.make("panels", real.key) as out:
        Image.new("RGB", (64, 64), "teal").save(out, format="PNG")
    hurried.plan()
    assert "found" not in hurried.session.view()["drafts"]
    assert hurried.session.art["found"].path == store.path("panels", real.key)


def test_without_the_base_there_are_drafts_all_the_same(hurried: Studio) -> None:
    text = hurried.path.read_text()
    hurried.path.write_text(text.replace("base: ./base", "base: ./gone"))
    hurried.plan()
    assert hurried.plan_told["trouble"]
    assert hurried.drafts.jobs()


def test_pictures_stay_where_nothing_can_be_planned(drawn: Studio) -> None:
    drawn.plan()
    before = dict(drawn.session.art)
    assert before
    drawn.path.write_text(drawn.path.read_text().replace("base: ./base", "base: ./gone"))
    drawn.plan()
    assert drawn.plan_told["trouble"]
    assert drawn.session.art == before


def test_a_draft_that_cannot_be_read_stops_no_planning(hurried: Studio) -> None:
    task = draft_tasks(hurried.project().story)[0]
    with hurried.project().store.make("panels", task.key) as out:
        out.write_bytes(b"no picture")
    assert hurried.plan()["trouble"] is None
    assert task.panel not in hurried.session.art


def test_a_draft_of_new_words_goes_before_a_picture_of_old_ones(hurried: Studio) -> None:
    make(hurried.project())
    store = hurried.project().store
    real = next(task for task in hurried.project().plan().panels if task.panel == "found")
    Image.new("RGB", (64, 64), "teal").save(store.path("panels", real.key), format="PNG")
    hurried.plan()
    assert hurried.session.view()["drafts"] == []
    text = hurried.path.read_text()
    hurried.path.write_text(text.replace("id: found,", "id: found, seed: 5,"))
    task = next(each for each in draft_tasks(hurried.project().story) if each.panel == "found")
    with store.make("panels", task.key) as out:
        Image.new("RGB", (64, 64), "gray").save(out, format="PNG")
    hurried.plan()
    assert hurried.session.art["found"].path == store.path("panels", task.key)
    assert hurried.session.view()["drafts"] == ["found"]


def test_a_story_at_one_speed_has_no_drafts(drawn: Studio) -> None:
    drawn.plan()
    assert not drawn.drafts.jobs()


def waiting(queue: DrawQueue, state: str) -> None:
    for _ in range(400):
        if any(job.state == state for job in queue.jobs()):
            return
        time.sleep(0.02)
    raise AssertionError(queue.told())


def test_the_queue_outlives_the_desk(path: Path, tmp_path: Path) -> None:
    first = DrawQueue(path, tmp_path / "store", tmp_path / "desk", lambda *_: None)
    first.pause(True)
    first.add(["found", "end"], takes=3)
    first.first(2)
    first.close()
    told = json.loads((tmp_path / "desk" / "queue.json").read_text())
    told["jobs"][0]["state"] = "running"  # as a kill leaves it
    (tmp_path / "desk" / "queue.json").write_text(json.dumps(told))
    second = DrawQueue(path, tmp_path / "store", tmp_path / "desk", lambda *_: None)
    second.close()
    assert second.paused
    assert [(job.panel, job.takes, job.state) for job in second.jobs()] == [
        ("end", 3, "waiting"),
        ("found", 3, "waiting"),
    ]


def test_what_is_drawn_as_the_desk_closes_waits_for_the_next(path: Path, tmp_path: Path) -> None:
    queue = DrawQueue(path, tmp_path / "store", tmp_path / "desk", lambda *_: None)
    queue.add(["found"])
    waiting(queue, "running")
    queue.close()
    assert [job.state for job in queue.jobs()] == ["waiting"]


def test_a_queue_that_cannot_be_read_is_empty_and_says_so(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "desk").mkdir()
    job = '{"id": 1, "panel": "found", "takes": 1, "likeness": 3}'
    for text in ("", "[3]", '{"jobs": 3}', '{"jobs": [{"id": 1}]}', f'{{"jobs": [{job}]}}'):
        (tmp_path / "desk" / "queue.json").write_text(text)
        queue = DrawQueue(path, tmp_path / "store", tmp_path / "desk", lambda *_: None)
        queue.close()
        assert queue.jobs() == ()
        assert caplog.messages.pop().startswith("the queue of before")


def test_a_job_that_is_taken_out_is_not_done(path: Path, tmp_path: Path) -> None:
    queue = DrawQueue(path, tmp_path / "store", tmp_path / "desk", lambda *_: None)
    queue.pause(True)
    queue.add(["found"])
    queue.cancel(1)
    queue.close()
    assert [job.state for job in queue.jobs()] == ["cancelled"]
