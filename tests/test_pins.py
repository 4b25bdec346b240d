"""Pins: an approved picture stays, the plan says what it does not follow, and the lock is sound."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pinning import edit, lines, made_story, make, retrain
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.errors import StoryError, StoryForgeError
from storyforge.plan.lockfile import lock_path
from storyforge.plan.pins import findings_in, read_pins
from storyforge.plan.status import status_lines
from storyforge.plan.takes import with_pins
from storyforge.project import stores
from storyforge.project.project import Project


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return made_story(tmp_path)


def stale(story: Path) -> set[str]:
    return {line.subject for line in Project(story).status().stale}


BOOKS = {"book pdf en", "book html en"}


def test_pinning_what_is_drawn_makes_nothing_stale(path: Path) -> None:
    (approved,) = Project(path).pin(["found"])
    assert (approved.take, approved.ignores) == (0, ())
    assert approved.picture.read_bytes().startswith(b"panel found")
    assert approved.picture.parent == path.parent / "pins"
    assert stale(path) == set()
    assert lines(path)["panel found"].state == "pinned"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("prompt: night", "prompt: day", "prompt changed"),
        ("at: left", "at: right", "region `left`: box changed"),
        ("id: found", "id: found, take: 3", "`take: 3` of the story"),
        ("title:", "seed: 4\ntitle:", "seed changed"),
        ("id: found", "id: found, steps: 4", "steps changed"),
        ("title:", "fuse: {solver: average}\ntitle:", "settings of the fusion changed"),
    ],
)
def test_a_pinned_picture_stays_and_says_what_it_ignores(
    path: Path, old: str, new: str, told: str
) -> None:
    Project(path).pin(["found"])
    edit(path, old, new)
    line = lines(path)["panel found"]
    assert line.state == "pinned"
    assert told in line.ignores
    assert "panel found" not in stale(path)


def test_a_pinned_picture_survives_a_retrained_concept_and_unpinning_redraws_it(path: Path) -> None:
    Project(path).pin(["found"])
    retrain(path, "pip")
    assert lines(path)["panel found"].ignores == ("concept `pip` retrained",)
    assert stale(path) == {"concept pip", "fused model", "panel end"} | BOOKS
    Project(path).unpin(["found"])
    assert lines(path)["panel found"].reasons == ("the fused model changed",)


def test_a_pinned_picture_survives_new_weights(path: Path) -> None:
    Project(path).pin(["found"])
    (path.parent / "base" / "unet" / "more").write_bytes(b"22")
    line = lines(path)["panel found"]
    assert (line.state, line.ignores[0]) == ("pinned", "the base changed")


def test_a_changed_panel_can_be_pinned_as_it_was_last_drawn(path: Path) -> None:
    before = Project(path).pin(["end"])[0].picture.read_bytes()
    Project(path).unpin(["end"])
    retrain(path, "owl")
    (approved,) = Project(path).pin(["end"])
    assert approved.picture.read_bytes() == before
    assert approved.ignores == ("concept `owl` retrained",)


def test_what_only_pinned_panels_show_is_not_learnt(path: Path) -> None:
    Project(path).pin([])
    retrain(path, "pip")
    assert stale(path) == set()
    assert lines(path)["fused model"].state == "unneeded"


@pytest.mark.parametrize(
    "word", ["7", "1e5", "007", "1.50", "null", "true", "no", "~", "- a: b", "'", "# x", "é\u2028ü"]
)
def test_words_that_look_like_yaml_come_back_as_they_were(path: Path, word: str) -> None:
    edit(path, '"7"', f'"{word}"')
    make(Project(path))
    Project(path).pin(["end"])
    key = lines(path)["panel end"].task.key
    edit(path, "id: end", "id: end, take: 1")
    assert lines(path)["panel end"].ignores == ("`take: 1` of the story",)
    assert Project(path).plan().pins["end"].key == key


def test_another_take_is_picked_and_wins_over_the_story(path: Path) -> None:
    edit(path, "id: found", "id: found, take: 2")
    make(Project(path))
    edit(path, "take: 2", "take: 1")
    make(Project(path))
    approved = Project(path).pick("found", 2)
    assert approved.ignores == ("`take: 1` of the story",)
    assert stale(path) == BOOKS
    make(Project(path))
    assert stale(path) == set()
    (released,) = Project(path).unpin(["found"])
    assert (released.panel, released.take) == ("found", 2)


def test_a_take_that_is_not_drawn_is_an_error_with_the_remedy(path: Path) -> None:
    with pytest.raises(StoryForgeError, match="take 5 of panel `found` is not drawn") as caught:
        Project(path).pick("found", 5)
    assert "--takes 6" in str(caught.value.hint)


def test_takes_of_a_panel_with_its_own_seed_are_an_error(path: Path) -> None:
    edit(path, "id: found", "id: found, seed: 5")
    with pytest.raises(StoryForgeError, match="seed of its own"):
        Project(path).takes(["found"], 2)


def test_takes_want_a_panel(path: Path) -> None:
    with pytest.raises(StoryForgeError, match="panels that are named"):
        Project(path).takes([], 2)


def test_a_picture_that_is_not_drawn_cannot_be_pinned(path: Path) -> None:
    shutil.rmtree(path.parent / ".storyforge" / "panels")
    with pytest.raises(StoryForgeError, match="not drawn yet: `found`, `end`"):
        Project(path).pin([])


def test_a_pinned_picture_outlives_its_store(path: Path) -> None:
    Project(path).pin([])
    shutil.rmtree(path.parent / ".storyforge")
    assert stale(path) == BOOKS


def test_tidying_keeps_pinned_pictures(path: Path) -> None:
    Project(path).pin(["found"])
    key = lines(path)["panel found"].task.key
    shutil.rmtree(path.parent / ".storyforge" / "ledgers")
    gone = {waste.product.key for waste in stores.gc(path)}
    assert gone
    assert key not in gone


def test_a_lost_copy_is_taken_from_the_store(path: Path) -> None:
    (approved,) = Project(path).pin(["found"])
    approved.picture.unlink()
    assert lines(path)["panel found"].state == "pinned"
    assert findings_in(path) == ()


@pytest.mark.parametrize(("change", "code"), [("gone", "SF700"), ("other", "SF701")])
def test_a_lost_picture_is_an_error_where_it_is_named(path: Path, change: str, code: str) -> None:
    (approved,) = Project(path).pin(["found"])
    shutil.rmtree(path.parent / ".storyforge")
    if change == "gone":
        approved.picture.unlink()
    else:
        approved.picture.write_bytes(b"another picture")
    with pytest.raises(StoryError) as caught:
        Project(path).status()
    (finding,) = caught.value.diagnostics
    lock = lock_path(path)
    assert (finding.code, finding.file) == (code, str(lock))
    assert lock.read_text().splitlines()[finding.line - 1].startswith("  found:")
    assert findings_in(path) == (finding,)
    Project(path).unpin(["found"])
    assert not lock.exists()


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("take: 0", "take: -1", "SF202", "at least 0"),
        ("take: 0", "taek: 0", "SF200", "did you mean `take`"),
        ("storyforge: 2", "storyforge: 3", "SF202", "storyforge"),
        ("key: ", "key: ../../", "SF202", "is not a key"),
        ("panels:", "panels: [", "SF102", ""),
        ("found:", "../found:", "SF202", "an id for a panel"),
    ],
)
def test_mistakes_in_a_lock_have_a_place(
    path: Path, old: str, new: str, code: str, words: str
) -> None:
    Project(path).pin(["found"])
    lock = lock_path(path)
    lock.write_text(lock.read_text().replace(old, new, 1))
    found = findings_in(path)
    assert found[0].code == code
    assert words in found[0].message
    assert new in lock.read_text().splitlines()[found[0].line - 1]
    with pytest.raises(StoryError):
        Project(path).plan()


def test_check_lists_the_mistakes_of_the_lock_beside_the_storys(path: Path) -> None:
    Project(path).pin(["found"])
    lock = lock_path(path)
    lock.write_text(lock.read_text().replace("take: 0", "taek: 0", 1))
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 1
    assert f"{lock}:" in done.stdout
    assert "SF200" in done.stdout


def test_the_lock_is_named_after_the_story(path: Path) -> None:
    other = path.with_name("tale.yaml")
    shutil.copyfile(path, other)
    make(Project(other))
    Project(other).pin(["found"])
    Project(path).pin(["found"])
    assert lock_path(other).name == "tale.lock.yaml"
    assert lock_path(path).name == "story.lock.yaml"
    Project(path).unpin([])
    assert not lock_path(path).exists()
    assert lines(other)["panel found"].state == "pinned"
    assert len(list((path.parent / "pins").glob("*.png"))) == 1
    Project(other).unpin([])
    assert not (path.parent / "pins").exists()


def test_an_unpinned_picture_goes_back_to_the_store(path: Path) -> None:
    Project(path).pin(["found"])
    shutil.rmtree(path.parent / ".storyforge")
    Project(path).unpin(["found"])
    assert "panel found" not in stale(path)


def test_a_pin_for_no_panel_is_told(path: Path) -> None:
    Project(path).pin(["found"])
    edit(path, "id: found", "id: lost")
    assert Project(path).status().strange == ("found",)
    with pytest.raises(StoryForgeError, match="no picture of a panel named `fuond`") as caught:
        Project(path).unpin(["fuond"])
    assert "`found`" in str(caught.value.hint)


def test_a_story_of_pinned_pictures_needs_no_base(path: Path) -> None:
    Project(path).pin([])
    shutil.rmtree(path.parent / "base")
    assert lines(path)["panel found"].state == "pinned"
    Project(path).unpin(["end"])
    with pytest.raises(StoryForgeError, match="no model at"):
        Project(path).status()


def test_a_pin_changes_no_key_but_the_books(path: Path) -> None:
    plan, store = Project(path).plan(), Project(path).store
    Project(path).pin(["found"])
    retrain(path, "pip")
    changed = Project(path).plan()
    loose = with_pins(changed, {})
    assert [task.key for task in changed.panels] == [task.key for task in loose.panels]
    assert dict(changed.books[0].panels)["found"] == dict(plan.books[0].panels)["found"]
    assert read_pins(changed.story, store).keys() == {"found"}
    assert status_lines(changed, store, {})
