"""Training of the embedded model in seconds, and the weights that the package ships."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from storyforge.model.base import open_base
from storyforge.modelref import POCKET, Defaults
from storyforge.pocket import world
from storyforge.pocket.pretrain import parts
from storyforge.pocket.pretrain.clip import (
    PROJECTION,
    SIDE,
    go_on_from,
    nearly,
    new_clip,
    random_character,
    train_clip,
    view,
)
from storyforge.pocket.pretrain.denoiser import LabelHeads, Latents, train_text, train_unet
from storyforge.pocket.pretrain.run import (
    Average,
    Clock,
    Job,
    Team,
    load_checkpoint,
    save_checkpoint,
    scatter,
)
from storyforge.pocket.pretrain.tokenizer import build_tokenizer
from storyforge.pocket.pretrain.vae import drawings, picture_loss, psnr

ALONE = Team(0, 1)
LIMIT = 30_000_000
"""Bytes of the weights in the package."""


def job(folder: Path, **changes: object) -> Job:
    usual = {
        "stage": "unet",
        "folder": folder,
        "minutes": 0.005,
        "decay": 0.0,
        "device": "cpu",
        "workers": 1,
        "batch_size": 2,
        "pictures": 2,
        "seed": 0,
    }
    return Job(**{**usual, **changes})


class Learning:
    """A small module with everything that a checkpoint holds."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        self.average = Average(self.module, 0.9)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=0.1)

    def step(self, seed: int) -> None:
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        self.optimizer.zero_grad()
        self.module(x).square().mean().add(self.module(x).mean()).backward()
        self.optimizer.step()
        self.average.update(self.module)

    def save(self, path: Path, step: int) -> None:
        modules, averages = {"m": self.module}, {"m": self.average}
        save_checkpoint(path, modules, averages, self.optimizer, {"step": step})

    def load(self, path: Path) -> dict[str, float]:
        modules, averages = {"m": self.module}, {"m": self.average}
        return load_checkpoint(path, modules, averages, self.optimizer)

    def state(self) -> dict[str, Tensor]:
        moments = self.optimizer.state_dict()["state"]
        return {
            **{f"model {k}": v for k, v in self.module.state_dict().items()},
            **{f"average {k}": v for k, v in self.average.values.items()},
            **{f"{i} {k}": v for i, moment in moments.items() for k, v in moment.items()},
        }


def test_a_checkpoint_restores_weights_moments_and_averages_exactly(tmp_path: Path) -> None:
    one, other = Learning(0), Learning(1)
    for step in range(3):
        one.step(step)
    one.save(tmp_path / "c.safetensors", 3)
    assert other.load(tmp_path / "c.safetensors") == {"step": 3}
    for _ in range(2):
        mine, theirs = one.state(), other.state()
        assert len(mine) == len(theirs) == 4 * (2 + 3)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        one.step(7)
        other.step(7)


def test_without_a_checkpoint_nothing_is_restored(tmp_path: Path) -> None:
    one = Learning(0)
    before = copy.deepcopy(one.module.state_dict())
    assert one.load(tmp_path / "c.safetensors") == {}
    assert all(torch.equal(before[k], v) for k, v in one.module.state_dict().items())


def test_an_average_of_what_stands_still_is_what_stands_still() -> None:
    module = nn.Linear(2, 2)
    average = Average(module, 0.9)
    for _ in range(5):
        average.update(module)
    assert all(torch.equal(average.values[k], v) for k, v in module.state_dict().items())


def test_the_learning_rate_rises_stays_and_falls(tmp_path: Path) -> None:
    clock = Clock(job(tmp_path, minutes=1.0, decay=0.5), 4)
    assert [clock.factor(0.0) for _ in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert clock.factor(0.5) == 1.0
    assert clock.factor(0.75) == 0.5
    assert clock.factor(1.0) == 0.02


def test_workers_and_resumed_runs_have_noise_of_their_own(tmp_path: Path) -> None:
    def noise(rank: int, step: int) -> float:
        scatter(job(tmp_path), Team(rank, 2), step)
        return float(torch.randn(1))

    with torch.random.fork_rng():
        drawn = [noise(0, 0), noise(1, 0), noise(0, 1)]
        assert len(set(drawn)) == 3
        assert noise(0, 0) == drawn[0]


class Off:
    """Gives back every picture off by 0.2 in each value."""

    class Seen:
        def __init__(self, pixels: Tensor) -> None:
            self.latent_dist, self.mean, self.sample = self, pixels, pixels

    def encode(self, pixels: Tensor) -> Seen:
        return self.Seen(pixels)

    def decode(self, pixels: Tensor) -> Seen:
        return self.Seen(pixels - 0.2 * pixels.sign().where(pixels != 0, torch.tensor(1.0)))


def test_psnr_of_pictures_off_by_a_tenth_of_their_range_is_20_decibel() -> None:
    assert psnr(Off(), [1, 2], "cpu") == pytest.approx(20.0, abs=1e-3)


def test_the_loss_of_the_same_picture_is_nothing_and_colour_counts() -> None:
    wanted = torch.zeros(1, 3, 16, 16)
    assert picture_loss(wanted, wanted) == 0
    grey, red = torch.full_like(wanted, 0.1), torch.zeros_like(wanted)
    red[:, 0] = 0.3
    assert picture_loss(red, wanted) > picture_loss(grey, wanted) > 0


def test_drawings_are_made_by_their_seeds_and_fill_the_range() -> None:
    made = drawings([3, 4], "cpu")
    side = parts.PICTURE
    assert made.shape == (2, 3, side, side)
    assert torch.equal(made[1:], drawings([4], "cpu"))
    assert made.min() >= -1
    assert made.max() <= 1


def test_the_new_autoencoder_tells_colours_apart_before_its_first_step() -> None:
    colours = 2 * torch.eye(3) - 1
    flat = colours[..., None, None].expand(3, 3, 64, 64).contiguous()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        vae = parts.new_vae().eval()
        back = vae.decode(vae.encode(flat).latent_dist.mean).sample
    assert back.mean((2, 3)).argmax(1).tolist() == [0, 1, 2]


def test_heads_leave_out_the_labels_that_do_not_apply() -> None:
    heads = LabelHeads(4)
    features = torch.randn(2, 3, 4)
    none = torch.full((2, len(world.LABELS)), -1)
    known = none.clone()
    known[:, 0] = 1
    loss, _ = heads(features, known)
    wrong = known.clone()
    wrong[0, 1] = 0
    assert loss.isfinite()
    assert heads(features, wrong)[0] != loss


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of few words and an untrained autoencoder."""
    path = tmp_path_factory.mktemp("pocket")
    build_tokenizer(path / "tokenizer", captions=50, vocabulary=300)
    torch.manual_seed(0)
    parts.new_vae().save_pretrained(path / "vae")
    return path


def test_latents_and_covers_are_kept_and_stand_beside_their_pictures(folder: Path) -> None:
    one, other = (Latents(job(folder, pictures=3), ALONE) for _ in range(2))
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.cover, other.cover)
    assert one.pictures == other.pictures
    assert len(one.pictures) == len(one.values) == len(one.cover) == 3
    assert one.cover.shape[2:] == one.values.shape[2:]
    assert one.cover.amax((1, 2, 3)).min() > 0


def test_batches_are_of_the_size_asked_for_and_never_end(folder: Path) -> None:
    rows = Latents(job(folder, pictures=3), ALONE).batches(5, np.random.default_rng(0))
    drawn = [next(rows).tolist() for _ in range(20)]
    assert all(len(row) == 5 for row in drawn)
    assert set(sum(drawn, [])) == {0, 1, 2}


def steps_of(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


def test_text_and_unet_train_for_a_moment_each_and_go_on_from_their_checkpoint(
    folder: Path,
) -> None:
    with torch.random.fork_rng():
        train_text(job(folder, stage="text"), ALONE)
        train_unet(job(folder), ALONE)
        before = steps_of(folder / "unet.safetensors")
        train_unet(job(folder), ALONE)
    assert 0 < before < steps_of(folder / "unet.safetensors")
    base = open_base(str(folder / "pipeline"), "hash")
    assert base.side == parts.PICTURE
    assert base.defaults == Defaults()


def test_the_shipped_weights_open_with_the_stock_pipeline() -> None:
    pipe = StableDiffusionPipeline.from_pretrained(POCKET)
    sizes = {k: v.shape for k, v in pipe.unet.state_dict().items()}
    assert sizes == {k: v.shape for k, v in parts.new_unet().state_dict().items()}


def test_the_shipped_weights_are_small_and_whole() -> None:
    files = [file for file in POCKET.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LIMIT
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in files)
    assert not any(file.suffix in {".bin", ".pt", ".ckpt", ".pkl"} for file in files)


def test_the_shipped_habits_are_read() -> None:
    defaults = Defaults.read(POCKET / "storyforge.json")
    assert defaults != Defaults()
    assert defaults.prior_pictures == len(defaults.prior_prompts)


def test_views_of_one_character_differ_and_its_double_is_somebody_else() -> None:
    generator = np.random.default_rng(5)
    for _ in range(20):
        look = random_character(generator)
        assert nearly(look, generator) != look
    one, other = view(look, generator), view(look, generator)
    assert one.picture.shape == other.picture.shape == (SIDE, SIDE, 3)
    assert not np.array_equal(one.picture, other.picture)


def test_a_clip_trains_for_a_moment_and_opens_with_the_stock_class(folder: Path) -> None:
    with torch.random.fork_rng():
        train_clip(job(folder, stage="clip"), ALONE)
    before = steps_of(folder / "clip.safetensors")
    with torch.random.fork_rng():
        train_clip(job(folder, stage="clip"), ALONE)
    assert 0 < before < steps_of(folder / "clip.safetensors")
    clip = CLIPModel.from_pretrained(folder / "clip")
    assert clip.config.projection_dim == PROJECTION
    assert (folder / "clip" / "preprocessor_config.json").is_file()


def test_a_clip_that_learns_more_words_keeps_what_it_knew() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(parts.weights_folder() / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = new_clip(tokenizer)
    name = "text_model.embeddings.token_embedding.weight"
    before = clip.state_dict()[name].clone()
    known = {name: torch.ones(5, before.shape[1]), "logit_scale": torch.tensor(3.0)}
    go_on_from(clip, known)
    assert torch.equal(clip.state_dict()[name][:5], known[name])
    assert torch.equal(clip.state_dict()[name][5:], before[5:])
    assert clip.logit_scale.item() == 3.0
