"""What several files of tests share: the embedded model, opened once, and changes to it.

`STORYFORGE_TEST_BASE` names another base of the Stable Diffusion 1.x class to test on. No test may
depend on how well the base draws.
"""

from __future__ import annotations

import os

import pytest
import torch

from storyforge.model.base import BaseModel, open_base
from storyforge.model.lora import Delta
from storyforge.model.tokens import ConceptTokens, new_tokens


@pytest.fixture(scope="session")
def base() -> BaseModel:
    """The embedded model; whoever changes it puts it back."""
    return open_base(os.environ.get("STORYFORGE_TEST_BASE", "pocket"), "5eed" * 16)


@pytest.fixture(scope="session")
def deltas(base: BaseModel) -> dict[str, Delta]:
    """A visible change of every attention linear."""
    dice = torch.Generator().manual_seed(1)
    return {
        name: Delta(
            0.1 * torch.randn(linear.out_features, 2, generator=dice),
            0.1 * torch.randn(2, linear.in_features, generator=dice),
            0.5,
        )
        for name, linear in base.linears.items()
    }


@pytest.fixture(scope="session")
def pip(base: BaseModel) -> ConceptTokens:
    """The words of a concept, different in every group."""
    tokens = new_tokens(base, "pip", "fox", torch.Generator().manual_seed(2))
    noise = torch.randn(tokens.words.shape, generator=torch.Generator().manual_seed(3))
    return ConceptTokens("pip", tokens.words + 0.1 * tokens.words.std() * noise)
