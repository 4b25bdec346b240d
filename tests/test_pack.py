"""A story in one file opens elsewhere to the same things, and nothing hostile gets out of it."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pinning import made_story
from typer.testing import CliRunner

from storyforge.cli.program import app
from storyforge.errors import StoryForgeError
from storyforge.project.pack import unpack
from storyforge.project.project import Project


@pytest.fixture
def story(tmp_path: Path) -> Path:
    """A made story whose concept lies beside its folder, with a lock, a locale and a layout."""
    path = made_story(tmp_path)
    shutil.move(path.parent / "concepts" / "owl", tmp_path / "owl")
    text = (
        path.read_text()
        .replace("owl: concepts/owl", "owl: ../owl")
        .replace("\npages:", "  # all of them\npages:")
    )
    path.write_text(text.replace("{id: end,", "{id: end, layout: mine,").replace("at: right, ", ""))
    (path.parent / "layouts").mkdir()
    (path.parent / "layouts" / "mine.yaml").write_text(
        "description: mine\nregions: {one: {at: right}}\n"
    )
    (path.parent / "locales").mkdir()
    (path.parent / "locales" / "fr.yaml").write_text("title: Le renard\n")
    Project(path).pin(["found"])
    return path


def opened(story: Path, tmp_path: Path, *, pictures: bool = True) -> Path:
    packed = Project(story).pack(tmp_path / "a.storyforge.zip", pictures=pictures)
    new = unpack(packed.path, tmp_path / "elsewhere" / "book")
    # The base is named in the pack, and everybody has it.
    shutil.copytree(story.parent / "base", new.parent / "base")
    return new


def test_an_opened_pack_has_nothing_left_to_make_but_books(story: Path, tmp_path: Path) -> None:
    new = opened(story, tmp_path)
    codes = [[each.code for each in Project(path).check()] for path in (story, new)]
    assert codes[0] == codes[1]
    stale = {line.subject.split()[0] for line in Project(new).status().stale}
    assert stale <= {"book"}
    assert set(Project(new).pins) == {"found"}
    assert Project(new).story.languages() == ("en", "fr")


def test_a_pack_opens_in_the_folder_that_somebody_stands_in(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = Project(story).pack(tmp_path / "a.storyforge.zip")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert Project(unpack(packed.path, Path())).story.title
    assert sorted(path.name for path in tmp_path.glob(".storyforge-*")) == []


def test_a_pack_takes_the_place_of_an_empty_folder_in_one_step(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed, moved = Project(story).pack(tmp_path / "a.storyforge.zip"), []
    (tmp_path / "new").mkdir()
    replace = os.replace

    def heard(source: Path, target: Path) -> None:
        """Move, and remember where to."""
        moved.append(Path(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", heard)
    unpack(packed.path, tmp_path / "new")
    assert [path for path in moved if path.parent == tmp_path] == [tmp_path / "new"]
    assert not [path for path in moved if path.parent == tmp_path / "new"]


def test_an_opened_pack_has_the_same_pictures(story: Path, tmp_path: Path) -> None:
    new = opened(story, tmp_path)
    before, after = Project(story), Project(new)
    for old, task in zip(before.plan().panels, after.plan().panels, strict=True):
        path = before.store.path("panels", old.key)
        assert after.store.path("panels", task.key).read_bytes() == path.read_bytes()


def test_a_concept_from_beside_comes_along_and_the_authors_words_stay(
    story: Path, tmp_path: Path
) -> None:
    new = opened(story, tmp_path)
    assert "owl: concepts/owl" in new.read_text()
    assert "# all of them" in new.read_text()
    assert (new.parent / "concepts" / "owl" / "1.png").is_file()


def test_the_same_story_is_the_same_pack(story: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        Project(story).pack(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_without_pictures_nobody_sees_what_was_learnt_from(story: Path, tmp_path: Path) -> None:
    Project(story).pack(tmp_path / "a.zip", pictures=False)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
    assert not [name for name in names if "concepts/" in name and name.endswith(".png")]
    assert {name for name in names if name.startswith("story/concepts/")} == {
        "story/concepts/owl.safetensors",
        "story/concepts/pip.safetensors",
    }


def test_without_pictures_what_is_drawn_is_pinned(story: Path, tmp_path: Path) -> None:
    Project(story).pack(tmp_path / "a.zip", pictures=False)
    new = unpack(tmp_path / "a.zip", tmp_path / "new")
    lock = (new.parent / "story.lock.yaml").read_text()
    assert "found:" in lock
    assert "end:" in lock


def test_a_concept_that_is_not_learnt_needs_its_pictures(story: Path, tmp_path: Path) -> None:
    shutil.rmtree(story.parent / ".storyforge" / "concepts")
    with pytest.raises(StoryForgeError, match="not learnt"):
        Project(story).pack(tmp_path / "a.zip", pictures=False)


def test_nothing_is_written_into_a_folder_that_holds_anything(story: Path, tmp_path: Path) -> None:
    Project(story).pack(tmp_path / "a.zip")
    with pytest.raises(StoryForgeError, match="not empty"):
        unpack(tmp_path / "a.zip", story.parent)


def changed(pack: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(pack) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(pack, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return pack


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out", "story/../../out", "story\\..\\out"])
def test_no_file_leads_out_of_the_folder(story: Path, tmp_path: Path, name: str) -> None:
    def lead_out(files: dict[str, bytes]) -> None:
        manifest = json.loads(files["pack.json"])
        manifest["files"].append({"name": name, "size": 1, "sha256": "0"})
        files["pack.json"], files[name] = json.dumps(manifest).encode(), b"x"

    Project(story).pack(tmp_path / "a.zip")
    with pytest.raises(StoryForgeError, match="leads out"):
        unpack(changed(tmp_path / "a.zip", lead_out), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_changed_file_is_noticed(story: Path, tmp_path: Path) -> None:
    def alter(files: dict[str, bytes]) -> None:
        files["story/story.yaml"] += b"# more"

    Project(story).pack(tmp_path / "a.zip")
    with pytest.raises(StoryForgeError, match="not what was packed"):
        unpack(changed(tmp_path / "a.zip", alter), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_every_damaged_byte_is_noticed(story: Path, tmp_path: Path) -> None:
    whole = Project(story).pack(tmp_path / "a.zip").path.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 200)):
        data = bytearray(whole)
        data[at] ^= 255
        (tmp_path / "b.zip").write_bytes(data)
        try:
            made = unpack(tmp_path / "b.zip", tmp_path / f"new{at}")
        except StoryForgeError:
            assert not (tmp_path / f"new{at}").exists()
        else:  # a byte that nothing is made of, such as a date
            assert (
                made.read_bytes() == unpack(tmp_path / "a.zip", tmp_path / f"old{at}").read_bytes()
            )


@pytest.mark.parametrize(
    "name", ["products/x", "story", "story/../x", "story/a\0b", "story/no.yaml"]
)
def test_a_story_that_lies_elsewhere_is_refused(story: Path, tmp_path: Path, name: str) -> None:
    def alter(files: dict[str, bytes]) -> None:
        files["pack.json"] = json.dumps(json.loads(files["pack.json"]) | {"story": name}).encode()

    Project(story).pack(tmp_path / "a.zip")
    with pytest.raises(StoryForgeError):
        unpack(changed(tmp_path / "a.zip", alter), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("place", "value"), [(6, 0x01), (8, 97)], ids=["locked", "strange"])
def test_what_is_locked_or_strangely_packed_is_told(
    story: Path, tmp_path: Path, place: int, value: int
) -> None:
    data = bytearray(Project(story).pack(tmp_path / "a.zip").path.read_bytes())
    for head, skipped in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = data.find(head)
        while at >= 0:
            data[at + skipped + place] = value
            at = data.find(head, at + 4)
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(StoryForgeError, match="no pack that can be read"):
        unpack(tmp_path / "b.zip", tmp_path / "new")


def test_a_story_is_packed_from_beside_and_opened_in_an_empty_folder(
    story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(story.parent)
    packed = Project(Path("..") / story.parent.name / story.name).pack(tmp_path / "a.zip")
    assert not packed.left_out
    monkeypatch.chdir(tmp_path / "empty")
    assert unpack(tmp_path / "a.zip", Path()).is_file()


def test_what_is_no_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no")
    with pytest.raises(StoryForgeError, match="no pack"):
        unpack(tmp_path / "a.zip", tmp_path / "new")


def test_the_verbs_say_where_things_are(story: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zip"
    result = CliRunner().invoke(app, ["pack", str(story), "--out", str(out)])
    assert result.stdout.strip() == str(out), result.output
    result = CliRunner().invoke(app, ["unpack", str(out), str(tmp_path / "new")])
    assert result.stdout.strip() == str(tmp_path / "new" / "story.yaml"), result.output
