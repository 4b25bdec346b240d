"""What other programs may rely on: the names, the types, and every block of docs/api.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from support import random_deltas
from tinybases import base_of, tiny_pipeline

import storyforge
from storyforge.errors import StoryForgeError
from storyforge.model.base import BaseModel
from storyforge.model.concept import Concept
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens, new_tokens
from storyforge.project import api

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text("utf-8"), re.DOTALL
)


def test_what_is_exported_is_what_the_face_names() -> None:
    homes = set().union(*storyforge._HOMES.values())
    assert homes | {"__version__"} == set(storyforge.__all__)
    assert storyforge.__all__ == sorted(storyforge.__all__)
    assert all(getattr(storyforge, name) is not None for name in storyforge.__all__)
    assert set(storyforge.__all__) <= set(dir(storyforge))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="`fuze`"):
        storyforge.fuze  # noqa: B018


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "storyforge" / "py.typed").is_file()


def test_importing_waits_for_no_model() -> None:
    program = (
        "import sys, storyforge; sorted(storyforge.__all__); storyforge.Project; "
        "heavy = {'torch', 'diffusers', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_verb_stays_one_when_the_folder_of_its_name_is_imported() -> None:
    program = (
        "from storyforge.train import edlora; import storyforge.fuse.fusion, storyforge; "
        "assert callable(storyforge.train) and callable(storyforge.fuse); "
        "assert edlora.__name__ == 'storyforge.train.edlora'"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_lies_in_a_folder_called_like_a_verb_is_imported_as_it_is_elsewhere() -> None:
    import storyforge.fuse.solve as solve
    import storyforge.train.loss as loss

    assert [module.__name__ for module in (solve, loss)] == [
        "storyforge.fuse.solve",
        "storyforge.train.loss",
    ]
    assert storyforge.fuse is api.fuse


def test_every_block_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("concepts", "stories", "layouts"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/api.md", "exec"), names)
    with Image.open(tmp_path / "two.png") as made:
        assert made.width == made.height == names["model"].side  # type: ignore[attr-defined]
    assert names["pip"].name == "pip"  # type: ignore[attr-defined]
    assert set(names["fused"].tokens) == {"pip", "juna"}  # type: ignore[attr-defined]


def test_regions_are_drawn_with_their_own_concepts() -> None:
    # The embedded model tells of the place all over a picture; a stock autoencoder's cells do not.
    base = base_of(tiny_pipeline("sd1"))
    chance = torch.Generator().manual_seed(2)
    words, deltas = new_tokens(base, "pip", "fox", chance), random_deltas(base, chance)
    fox = Concept("pip", "character", "fox", words, deltas, base.reference, base.hash)
    api._OPENED[base.hash] = base
    region = storyforge.Region("left", "a <pip>", fox)
    weights = [parameter.clone() for parameter in base.unet.parameters()]
    one, other = (
        storyforge.draw(fox.alone(), "a fox", regions=regions, seed=1, steps=1)
        for regions in ([], [region])
    )
    assert one.tobytes() != other.tobytes()
    assert other.info["seed"] == 1
    left, right = (0, 0, one.width // 4, one.height), (one.width * 3 // 4, 0, *one.size)
    changed = [
        sum(a != b for a, b in zip(one.crop(box).tobytes(), other.crop(box).tobytes(), strict=True))
        for box in (left, right)
    ]
    assert changed[0] > changed[1]
    assert all(torch.equal(a, b) for a, b in zip(weights, base.unet.parameters(), strict=True))


def test_what_was_made_for_another_model_is_refused(
    base: BaseModel, pip: ConceptTokens, deltas: dict[str, Delta]
) -> None:
    fox = Concept("pip", "character", "fox", pip, deltas, "pocket", "another")
    with pytest.raises(StoryForgeError, match="another model than `pocket`"):
        storyforge.draw(fox, "a <pip>")
    with pytest.raises(StoryForgeError, match="another base"):
        storyforge.fuse(base, [fox])


def test_without_a_seed_every_picture_is_another(base: BaseModel) -> None:
    one, other = (storyforge.draw(base, "a fox", steps=1) for _ in range(2))
    assert one.info["seed"] != other.info["seed"]
    assert one.tobytes() != other.tobytes()
