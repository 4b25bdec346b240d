"""What making something may take: learnt from what its like took, or not known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from storyforge.modelref import ModelRef
from storyforge.plan import rough
from storyforge.plan.cost import Cost, likely, total
from storyforge.settings import TrainSettings
from storyforge.store import Entry
from storyforge.tasks import TrainTask

ASKED = TrainSettings()

PANEL = {"make": "panel 1", "base_hash": "b", "steps": 20, "size": [64, 64]}
CONCEPT = {"make": "concept 1", "base": "b", "settings": {"steps": 100, "batch_size": 2}}
FUSION = {"make": "fusion 1", "base": "b", "settings": {"solver": "closed-form"}}
BOOK = {"make": "book 1, storyforge 0", "format": "pdf"}


def took(recipe: dict[str, object]) -> Entry:
    return Entry("k", recipe, 10.0, 1000, 80)


@pytest.mark.parametrize(
    ("made", "asked", "cost"),
    [
        (PANEL, PANEL, Cost(10, 1000, 80)),
        (PANEL, PANEL | {"steps": 10}, Cost(5, 1000, 80)),
        (PANEL, PANEL | {"size": [128, 64]}, Cost(20, None, 160)),
        (PANEL, PANEL | {"base_hash": "other"}, Cost()),
        (PANEL, PANEL | {"steps": None}, Cost(None, 1000, 80)),
        (PANEL | {"steps": None}, PANEL | {"steps": None}, Cost(10, 1000, 80)),
        (CONCEPT, CONCEPT | {"settings": {"steps": 50, "batch_size": 2}}, Cost(5, 1000, 80)),
        (CONCEPT, CONCEPT | {"settings": {"steps": 100, "batch_size": 4}}, Cost(20, None, 80)),
        (CONCEPT, PANEL, Cost()),
        (FUSION | {"concepts": {"a": "1"}}, FUSION | {"concepts": {"a": "1", "b": "2"}}, None),
        (BOOK | {"panels": {"a": "1"}}, BOOK | {"panels": {"a": "1", "b": "2"}}, None),
        (BOOK | {"panels": {}}, BOOK | {"panels": {}, "format": "html"}, Cost()),
    ],
)
def test_costs_grow_with_the_work(
    made: dict[str, object], asked: dict[str, object], cost: Cost | None
) -> None:
    assert likely(asked, [took(made)]) == (cost or Cost(20, 1000, 160))


def test_nothing_made_is_nothing_known() -> None:
    assert likely(PANEL, []) == Cost()
    assert likely(PANEL, [Entry("k", PANEL)]) == Cost()


def test_one_slow_run_does_not_count_for_much() -> None:
    slow = replace(took(PANEL), seconds=1000.0)
    assert likely(PANEL, [took(PANEL), slow, took(PANEL)]).seconds == 10


def test_what_is_not_known_of_one_is_not_known_of_all() -> None:
    first, second = Cost(1, 10, 100), Cost(2, 20, 200)
    assert total([first, second]) == Cost(3, 20, 300)
    assert total([first, Cost(seconds=2)]) == Cost(3, None, None)
    assert total([]) == Cost(0, 0, 0)


def test_a_large_base_takes_more_memory_where_no_half_precision_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor, base = tmp_path / "cpuinfo", ModelRef("owner/name", "owner/name")
    monkeypatch.setattr(rough, "_PROCESSOR", processor)
    monkeypatch.setattr(rough, "_accelerated", lambda: False)
    learning = TrainTask("k", "pip", "object", "fox", tmp_path, (), *2 * ("owner/name",), ASKED)
    taken = []
    for flags in ("flags : fpu avx512_bf16 gfni", "flags : fpu"):
        processor.write_text(flags)
        taken.append(rough.rough(learning, base).memory)
    processor.unlink()
    assert rough.rough(learning, base).memory == taken[1]
    assert taken[0] is not None
    assert taken[1] == 2 * taken[0]
