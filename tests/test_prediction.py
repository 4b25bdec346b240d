"""A denoiser may predict noise, a velocity or clean latents: everything asks it which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import CONFIG, panel
from tinymodel import open_tiny, scheduler
from torch import Tensor

from storyforge.errors import EnvironmentProblem
from storyforge.executor import silent
from storyforge.fuse.statistics import of_base
from storyforge.model.attention import AttentionContext
from storyforge.model.base import BaseModel
from storyforge.model.concept import plain
from storyforge.model.denoising import SCHEDULERS, Extras, denoise, start_latents
from storyforge.model.prediction import KINDS, MOST, error_weights, target
from storyforge.model.tokens import encode
from storyforge.sample.sampler import picture
from storyforge.tasks import Method
from storyforge.train.dataset import Example
from storyforge.train.edlora import learn
from storyforge.train.trainable import TrainableConcept
from storyforge.train.training_set import TrainingSet


def drawn(base: BaseModel, name: str) -> Tensor:
    """The latents that a scheduler comes to, with guidance."""
    attention = AttentionContext(encode(base, ["a house", "a red fox"], {}))
    return denoise(
        base, attention, start_latents(base, [7]), scheduler=name, extras=Extras(seeds=(7,))
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_same_denoiser_draws_the_same_whatever_it_predicts(kind: str, name: str) -> None:
    torch.testing.assert_close(
        drawn(open_tiny(kind), name), drawn(open_tiny("sample"), name), atol=2e-3, rtol=2e-3
    )


@pytest.mark.parametrize("kind", KINDS)
def test_clean_latents_follow_from_the_target(kind: str) -> None:
    clean, noise = torch.randn(2, 3, 8, 4, 4)
    times = torch.tensor([10, 500, 900])
    signal = scheduler(kind).alphas_cumprod[times][:, None, None, None]
    noisy = scheduler(kind).add_noise(clean, noise, times)
    said = target(scheduler(kind), clean, noise, times)
    back = {
        "sample": said,
        "epsilon": (noisy - (1 - signal).sqrt() * said) / signal.sqrt(),
        "v_prediction": signal.sqrt() * noisy - (1 - signal).sqrt() * said,
    }
    torch.testing.assert_close(back[kind], clean, atol=1e-4, rtol=1e-4)


def test_an_error_counts_the_same_as_clean_latents_and_as_velocity() -> None:
    times = torch.tensor([400, 700, 999])
    signal = scheduler("sample").alphas_cumprod[times]
    as_clean = error_weights(scheduler("sample"), times)
    as_velocity = error_weights(scheduler("v_prediction"), times) / (1 - signal)
    torch.testing.assert_close(as_clean, as_velocity)


def test_nearly_clean_latents_do_not_drown_the_others() -> None:
    assert error_weights(scheduler("sample"), torch.tensor([0])).item() == MOST


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_min_snr_is_one_loss_for_all_predictions(kind: str) -> None:
    times = torch.tensor([5, 300, 999])
    signal = scheduler(kind).alphas_cumprod[times]
    squares = {"epsilon": signal / (1 - signal), "v_prediction": 1 / (1 - signal)}[kind]
    of_clean = error_weights(scheduler(kind), times, 5.0) * squares
    torch.testing.assert_close(of_clean, error_weights(scheduler("sample"), times, 5.0))


def test_another_prediction_is_refused_by_its_name() -> None:
    strange = scheduler("epsilon")
    strange.register_to_config(prediction_type="flow")
    with pytest.raises(EnvironmentProblem, match="`flow`"):
        target(strange, torch.zeros(1), torch.zeros(1), torch.zeros(1))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_layers_see_the_same_whatever_is_predicted(kind: str) -> None:
    one, other = of_base(open_tiny(kind)), of_base(open_tiny("sample"))
    for source in one.readers:
        torch.testing.assert_close(one.gram(source), other.gram(source), atol=2e-3, rtol=2e-2)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("method", [Method(), Method(enhancement=True, reinitialisation=True)])
def test_panels_are_guided_to_the_same_picture(kind: str, method: Method) -> None:
    made = [
        picture(base, plain(base), panel(base, method)).astype(float)
        for base in (open_tiny(kind), open_tiny("sample"))
    ]
    # Rounding may tip a pixel to the next of 256 values.
    assert abs(made[0] - made[1]).max() <= 2


def losses(kind: str, folder: Path) -> list[float]:
    """Of three steps of training, the last two after the weights have changed."""
    base = open_tiny(kind)
    config = replace(CONFIG, steps=3, noise_offset=0.0)
    clean = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    examples = [Example("a.png", torch.zeros(3, 128, 128), None, ("a <pip>",)) for _ in clean]
    seen = TrainingSet(examples, list(clean), [torch.ones(1, 8, 8)] * 2, None)
    made = TrainableConcept(base, "pip", "fox", config)
    return learn(base, made, seen, config, folder, silent)


def test_clean_latents_are_learnt_as_velocities_are(tmp_path: Path) -> None:
    """As long as no picture is so nearly clean that it would count more than `MOST`."""
    one, other = (losses(kind, tmp_path / kind) for kind in ("sample", "v_prediction"))
    assert one == pytest.approx(other, rel=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_prediction_is_learnt(kind: str, tmp_path: Path) -> None:
    assert len(losses(kind, tmp_path)) == 3
