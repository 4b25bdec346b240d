"""What several files of tests share: the embedded model, opened once, and changes to it.

`--skips FILE` holds the run to the skips that the file names. `STORYFORGE_TEST_BASE` names another
base of the Stable Diffusion 1.x class to test on. No test may depend on how well the base draws.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import golden
import pytest
import torch
from hypothesis import settings
from support import random_deltas
from transformers import CLIPTokenizer

from storyforge.evaluate.concept_set import read_concept_set
from storyforge.fuse.carried import carry
from storyforge.fuse.statistics import Viewing, of_base, of_concept
from storyforge.model.base import BaseModel, open_base
from storyforge.model.concept import Concept
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens, new_tokens
from storyforge.modelref import base_at
from storyforge.pocket.pretrain.clip import new_clip, write_clip
from storyforge.pocket.pretrain.parts import weights_folder
from storyforge.settings import FuseSettings

pytest_plugins = ["skipbudget"]

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("storyforge", deadline=None)
settings.load_profile("storyforge")


@pytest.fixture(scope="session")
def base() -> BaseModel:
    """The embedded model; whoever changes it puts it back."""
    return open_base(os.environ.get("STORYFORGE_TEST_BASE", "pocket"), "5eed" * 16)


@pytest.fixture(scope="session")
def deltas(base: BaseModel) -> dict[str, Delta]:
    """A visible change of every attention linear."""
    return random_deltas(base, torch.Generator().manual_seed(1), scale=0.5)


@pytest.fixture(scope="session")
def pip(base: BaseModel) -> ConceptTokens:
    """The words of a concept, different in every group."""
    tokens = new_tokens(base, "pip", "fox", torch.Generator().manual_seed(2))
    noise = torch.randn(tokens.words.shape, generator=torch.Generator().manual_seed(3))
    return ConceptTokens("pip", tokens.words + 0.1 * tokens.words.std() * noise)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained CLIP of the embedded model's kind."""
    folder = tmp_path_factory.mktemp("clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = new_clip(CLIPTokenizer.from_pretrained(weights_folder() / "tokenizer"))
    write_clip(made, folder)
    return folder


@pytest.fixture(scope="session")
def cast_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sixteen concepts that measurements with many of them use, drawn."""
    pytest.importorskip("skia")
    from benchmarks.cast import draw_all

    made = tmp_path_factory.mktemp("sixteen")
    draw_all(made)
    return made


@pytest.fixture(scope="session")
def learnt_pair(tmp_path_factory: pytest.TempPathFactory, base: BaseModel) -> Path:
    """A folder of two concepts that are learnt already by ED-LoRA; `order.txt` puts pip first.

    What fusing needs to know is there as well, as far as one step shows it.
    """
    made, root = tmp_path_factory.mktemp("cast"), Path(__file__).parents[1]
    for name in ("juna", "pip"):
        shutil.copytree(root / "concepts" / name, made / name)
    (made / "order.txt").write_text("pip\njuna\n", encoding="utf-8")
    cast = read_concept_set(made, base_at("pocket", Path.cwd()))
    fixture = golden.folder_of(root / "stories" / "fox-and-lantern.yaml") / "concepts"
    same, short = replace(base, hash=cast.base.hash), Viewing(steps=1)
    for task in cast.tasks("ed-lora", 2):
        with cast.store.make("concepts", task.key) as out:
            shutil.copyfile(fixture / f"{task.concept}.safetensors", out)
            carry(out, of_concept(same, Concept.load(out), viewing=short))
    with cast.store.make("statistics", cast.fusion("ed-lora", FuseSettings(), 2).ordinary) as out:
        of_base(same, viewing=short).save(out)
    return made
