"""Count what is lost, wrong or stuck: kills, failing calls, damages, runs beside each other.

    python -m benchmarks.faults --json [--part 0.1] [--offset 3] [--only faults,kills,damages]

Each count is a number of trials and what went wrong in them: `lost` (a file that must be there is
not), `wrong` (it has other bytes), `stuck` (the same commands do not end well), `left` (half
written files that nobody swept up).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults.disk import FAULTS, Disk, Killed, faulty
from benchmarks.faults.life import half_done, left, live, stages_for_nothing, unsound, write_story
from storyforge.errors import StoryForgeError
from storyforge.plan.lockfile import lock_path
from storyforge.project import stores
from storyforge.project.project import Project
from storyforge.store import Store
from storyforge.store.sums import NOTE

KILLS, DAMAGES, ROUNDS = 500, 1000, 8
"""Trials of each kind; failing calls are as many as there are calls, times the kinds of fault."""

_FORK = multiprocessing.get_context("fork")


def main() -> None:
    """Count, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", type=float, default=1.0, help="of all trials")
    parser.add_argument("--only", default="faults,kills,damages,together")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--offset", type=int, default=0, help="calls left out at the beginning")
    asked = parser.parse_args()
    counts = {}
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as folder, stages_for_nothing():
        chance = random.Random(asked.seed)
        trials = _Trials(Path(folder), asked.part, chance, asked.offset)
        for name in asked.only.split(","):
            began = time.perf_counter()
            counts[name] = getattr(trials, name)()
            counts[name]["seconds"] = round(time.perf_counter() - began)
            print(name, counts[name], file=sys.stderr)
    print(json.dumps(counts, indent=1) if asked.json else counts)


class _Trials:
    def __init__(self, root: Path, part: float, chance: random.Random, offset: int = 0) -> None:
        self.root, self.part, self.chance, self.offset = root, part, chance, offset
        with self.story() as story:
            disk = Disk(story.parent)
            with faulty(disk):
                live(story)
            self.calls, self.whole = disk.calls, left(story)
            self.made = root / "made"
            shutil.copytree(story.parent, self.made)

    @contextmanager
    def story(self) -> Iterator[Path]:
        """A story of which nothing is made."""
        folder = self.root / "new"
        folder.mkdir()
        (story,) = write_story(folder)
        yield story
        shutil.rmtree(folder)

    @contextmanager
    def finished(self) -> Iterator[Path]:
        """A story of which everything is made."""
        folder = self.root / "new"
        shutil.copytree(self.made, folder)
        yield folder / "tale.yaml"
        shutil.rmtree(folder)

    def faults(self) -> dict[str, int]:
        """Every call fails once with every fault; then the same commands again."""
        found: Counter[str] = Counter()
        step = max(1, round(1 / self.part))
        for at in range(1 + self.offset, self.calls + 1, step):
            for fault in FAULTS:
                with self.story() as story:
                    try:
                        with faulty(Disk(story.parent, at, fault)):
                            live(story)
                    except (StoryForgeError, OSError, Killed):
                        found["noticed"] += 1
                    self._judge(story, found, live)
        return dict(found)

    def kills(self) -> dict[str, int]:
        """SIGKILL at a random moment of the whole; then the same commands again."""
        found: Counter[str] = Counter()
        began = time.perf_counter()
        with self.story() as story:
            _ended(_child(live, story))
        usual = time.perf_counter() - began
        for _ in range(max(1, round(KILLS * self.part))):
            with self.story() as story:
                child = _child(live, story)
                time.sleep(self.chance.uniform(0, usual))
                os.kill(child.pid or 0, signal.SIGKILL)
                child.join()
                found["killed"] += child.exitcode == -signal.SIGKILL
                self._judge(story, found, live)
        return dict(found)

    def damages(self) -> dict[str, int]:
        """A file of the story's is cut, or changed and as long as before; then it is rendered."""
        found: Counter[str] = Counter()
        for _ in range(max(1, round(DAMAGES * self.part))):
            with self.finished() as story:
                kept = (story.parent / name for name in (".storyforge", "pins"))
                files = [file for folder in kept for file in sorted(folder.rglob("*"))]
                files = [f for f in files if f.is_file() and not {"locks", "trash"} & {*f.parts}]
                file = self.chance.choice([*files, lock_path(story)])
                found[f"damaged {_kind(file, story)}"] += 1
                self._damage(file)
                name = str(file.relative_to(story.parent)).removesuffix(NOTE)
                spare = {name} if _is_spare(file) else set()
                self._judge(story, found, _mended, spare)
        return dict(found)

    def _damage(self, file: Path) -> None:
        data = bytearray(file.read_bytes())
        if self.chance.random() < 0.3:
            file.write_bytes(data[: self.chance.randrange(len(data))])
            return
        at = self.chance.randrange(len(data))
        data[at] ^= self.chance.randrange(1, 256)
        file.write_bytes(data)

    def together(self) -> dict[str, int]:
        """Eight runs at once, in six arrangements, again and again."""
        found: Counter[str] = Counter()
        arrangements = (_one_story, _all_made, _four_stories, _with_gc, _with_pins, _two_stores)
        for number in range(max(1, round(ROUNDS * self.part))):
            for arrange in arrangements:
                source = self.finished if arrange is _all_made else self.story
                with source() as story:
                    jobs = [_child(*each) for each in arrange(story)]
                    failed = sum(not _ended(job) for job in jobs)
                    found["runs"] += len(jobs)
                    found["refused"] += failed
                    if failed:
                        print(f"round {number}, {arrange.__name__}: {failed}", file=sys.stderr)
                    self._judge(story, found, live)
        return dict(found)

    def _judge(
        self,
        story: Path,
        found: Counter[str],
        again: Callable[[Path], None],
        spare: Collection[str] = (),
    ) -> None:
        """Do it again, and count what is not as it must be; `spare` is what nothing needs."""
        found["trials"] += 1
        for name in ("lost", "wrong", "stuck", "left"):
            found[name] += 0
        try:
            again(story)
        except (StoryForgeError, OSError) as exc:
            found["stuck"] += 1
            print(f"stuck: {exc}", file=sys.stderr)
            return
        there = left(story)
        lost = self.whole.keys() - there.keys() - set(spare)
        both = (self.whole.keys() & there.keys()) - set(spare)
        wrong = [name for name in both if self.whole[name] != there[name]]
        found["lost"] += bool(lost)
        found["wrong"] += bool(wrong or unsound(Store(story.parent / ".storyforge")))
        half = half_done(story)
        found["left"] += bool(half)
        if half:
            print(f"left {[str(path.relative_to(story.parent)) for path in half]}", file=sys.stderr)
        if lost or wrong:
            print(f"lost {sorted(lost)}, wrong {wrong}", file=sys.stderr)


def _kind(file: Path, story: Path) -> str:
    parts = file.relative_to(story.parent).parts
    if file.suffix == ".sha256":
        return "notes"
    return parts[1] if parts[0] == ".storyforge" else parts[0]


def _is_spare(file: Path) -> bool:
    """Whether nothing that is left to do reads the file: it is set aside, and made when it is.

    What was watched for a model that is there, the store's copy of a pinned picture, and what only
    explains what a pinned picture was made from.
    """
    return file.parent.name in {"statistics", "panels", "models"} or file.suffix == ".json"


def _mended(story: Path) -> None:
    """What an author does: render; mend the pins, or get the pictures back, where that is said."""
    try:
        live(story)
    except StoryForgeError:
        _pins_from_version_control(story)
        live(story)


def _pins_from_version_control(story: Path) -> None:
    """Approved pictures are the author's: a changed one is refused, and fetched from elsewhere."""
    made = story.parent.parent / "made"
    shutil.rmtree(story.parent / "pins", ignore_errors=True)
    shutil.copytree(made / "pins", story.parent / "pins")
    shutil.copyfile(lock_path(made / story.name), lock_path(story))


def _child(work: Callable[..., None], *what: object) -> multiprocessing.process.BaseProcess:
    def quietly() -> None:
        with Path(os.devnull).open("w") as nowhere:
            sys.stdout = sys.stderr = nowhere
            work(*what)

    child = _FORK.Process(target=quietly)
    child.start()
    return child


def _ended(child: multiprocessing.process.BaseProcess) -> bool:
    child.join(120)
    if child.exitcode is None:
        child.kill()
    return child.exitcode == 0


Jobs = list[tuple[Callable[..., None], Path]]


def _render(story: Path) -> None:
    outcome = Project(story).render(jobs=1)
    if outcome.troubles:
        raise outcome.troubles[0].error


def _gc(story: Path) -> None:
    if (story.parent / ".storyforge" / "locks").exists():
        stores.gc(story.parent / ".storyforge")


def _pin(story: Path) -> None:
    try:
        Project(story).pin()
    except StoryForgeError as exc:
        if "not drawn yet" not in exc.message:
            raise


def _elsewhere(story: Path) -> None:
    store = story.parent / "other"
    Project(story, store=store).render(jobs=1)
    Project(story, store=store).pin(["end"])


def _here(story: Path) -> None:
    _render(story)
    Project(story).pin(["found"])


def _one_story(story: Path) -> Jobs:
    return [(_render, story)] * 8


def _all_made(story: Path) -> Jobs:
    return [(_render, story)] * 8


def _four_stories(story: Path) -> Jobs:
    others = [story.with_name(f"other{n}.yaml") for n in range(3)]
    for number, other in enumerate(others):
        other.write_text(story.read_text().replace("prompt: night", f"prompt: night {number}"))
    return [(_render, each) for each in (story, *others)] * 2


def _with_gc(story: Path) -> Jobs:
    return [(_render, story), (_gc, story)] * 4


def _with_pins(story: Path) -> Jobs:
    return [(_render, story), (_pin, story)] * 4


def _two_stores(story: Path) -> Jobs:
    return [(_here, story), (_elsewhere, story)] * 4


if __name__ == "__main__":
    main()
