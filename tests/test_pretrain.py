"""Training of the embedded model in seconds, and the weights that the package ships."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from storyforge.model.base import open_base
from storyforge.model.patch_autoencoder import PatchAutoencoder
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
from storyforge.pocket.pretrain.code import Code, fit_code, patches
from storyforge.pocket.pretrain.denoiser import WideMuon, _shared_out, train_unet
from storyforge.pocket.pretrain.latents import (
    KINDS,
    Latents,
    autoencoder_of,
    draw_latents,
    latents_of,
    who_is_where,
)
from storyforge.pocket.pretrain.run import (
    Average,
    Clock,
    Job,
    Team,
    load_checkpoint,
    save_checkpoint,
    scatter,
)
from storyforge.pocket.pretrain.text import OWN, MeaningHeads, learn_words, meant, train_text
from storyforge.pocket.pretrain.tokenizer import grow_text_encoder, grow_tokenizer

ALONE = Team(0, 1)
LIMIT = 60_000_000
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


def test_what_captions_mean_is_what_latents_tell_of_each_subject_and_the_place() -> None:
    pictures = [world.imagine(np.random.default_rng(seed)) for seed in range(8)]
    told, there = meant(pictures)
    for row, (picture, said) in enumerate(zip(pictures, told, strict=True)):
        assert there[row].tolist() == [
            *(1.0 if slot < len(picture.subjects) else 0.0 for slot in range(world.SLOTS)),
            1.0,
        ]
        *subjects, place = world.told_of(picture)
        np.testing.assert_array_equal(said[-1], place[OWN:])
        for slot, each in enumerate(subjects):
            np.testing.assert_array_equal(said[slot], each[OWN:])


def test_heads_are_asked_only_for_what_is_there() -> None:
    heads, features = MeaningHeads(10), torch.randn(2, 3, 10)
    ends = torch.tensor([[False, True, True], [False, False, True]])
    told, there = torch.randn(2, 5, world.MEANINGS - OWN), torch.zeros(2, 5)
    there[:, 0] = 1
    loss = heads.lack(features, ends, told, there)
    told[:, 1:] = 7
    assert heads.lack(features, ends, told, there) == loss
    features = features[:1].expand(2, -1, -1)
    told[:, 0] = heads(features)[:, 0].detach()
    with torch.no_grad():
        heads.ends.weight.zero_()
        heads.ends.bias[: told.shape[-1]] = told[0, 0]
    assert heads.lack(features, ends, told, there) < 1e-10


TELLING = list(range(parts.LATENT_CHANNELS))[parts.TOLD]


def heard(unet: UNet2DConditionModel) -> list[int]:
    """The channels that it reads anything of."""
    read: list[int] = unet.conv_in.weight.abs().amax((0, 2, 3)).nonzero()[:, 0].tolist()
    return read


def spoken(unet: UNet2DConditionModel) -> list[int]:
    """The channels that it says anything of."""
    out = unet.conv_out
    said: list[int] = (out.weight.abs().amax((1, 2, 3)) + out.bias.abs()).nonzero()[:, 0].tolist()
    return said


def coded(code: Code) -> PatchAutoencoder:
    """An autoencoder that begins with a code."""
    model = parts.new_autoencoder()
    model.set_code(*(torch.tensor(each) for each in (code.mean, code.basis, code.scale)))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a code of four drawings, an untrained decoder and six drawings as latents."""
    path = tmp_path_factory.mktemp("pocket")
    coded(fit_code(pictures=4)).save_pretrained(path / "vae")
    draw_latents(job(path, pictures=6), ALONE)
    return path


def test_the_code_is_orthonormal_and_its_first_channels_say_most() -> None:
    code = fit_code(pictures=4)
    np.testing.assert_allclose(code.basis.T @ code.basis, np.eye(parts.COMPONENTS), atol=1e-4)
    seen = world.draw(world.imagine(np.random.default_rng(3)))[0]
    spread = code.encode(seen[None])[0].reshape(parts.COMPONENTS, -1).std(1)
    assert spread[0] > spread[parts.COMPONENTS // 2] > spread[-1]
    flat = patches(seen[None] / np.float32(127.5) - 1)
    cells = code.encode(seen[None]).transpose(0, 2, 3, 1) * code.scale
    back = cells @ code.basis.T + code.mean
    lost = ((flat - back) @ code.basis).reshape(-1)
    np.testing.assert_allclose(lost, 0, atol=1e-3)  # what is lost is in no channel
    assert np.square(flat - back).mean() < np.square(flat - code.mean).mean() / 4


def test_latents_and_covers_stand_beside_the_pictures_that_were_drawn(folder: Path) -> None:
    kept, model = Latents(folder / "latents"), autoencoder_of(folder)
    assert len(kept) == 6
    latents, cover = kept.rows(np.array([4, 0]))
    picture, masks = world.draw(kept.pictures[4])
    told = world.meanings(kept.pictures[4], *who_is_where(masks, parts.DOWNSCALE))
    wanted = latents_of(model, picture[None], told[None])[0]
    np.testing.assert_allclose(latents[0], wanted, rtol=2e-3, atol=2e-3)
    covered = masks.max(0) / 255
    assert cover[0].mean() == pytest.approx(float(covered.mean()), abs=0.01)
    assert not np.array_equal(latents[0], latents[1])


def test_drawings_that_are_added_later_are_taken_in(folder: Path, tmp_path: Path) -> None:
    coded(fit_code(pictures=2)).save_pretrained(tmp_path / "vae")
    draw_latents(job(tmp_path, pictures=2), ALONE)
    kept = Latents(tmp_path / "latents")
    first = kept.pictures[0]
    for name in KINDS:
        shutil.copy(
            tmp_path / "latents" / f"0000.{name}.npy", tmp_path / "latents" / f"0001.{name}.npy"
        )
    kept.refresh()
    assert len(kept) == 4
    assert kept.pictures[0] == first


def test_cells_of_a_head_lie_within_its_box(folder: Path) -> None:
    kept = Latents(folder / "latents")
    for row, picture in enumerate(kept.pictures):
        heads = kept.heads(np.array([row]))[0, 0]
        boxes = [face.head for face in world.faces(picture) if face is not None]
        areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
        assert heads.max(initial=0) <= 1
        assert heads.mean() <= sum(areas) + 1e-6
        assert heads.mean() >= max(areas, default=0) - 1e-6


def test_each_matrix_is_turned_by_one_worker_and_the_work_is_even() -> None:
    matrices = [
        (nn.Parameter(torch.zeros(8, wide)), nn.Parameter(torch.zeros(8, wide)))
        for wide in (8, 16, 24, 32, 40)
    ]
    shares = _shared_out(matrices, 2)
    assert sorted(id(m) for share in shares for m, _ in share) == sorted(id(m) for m, _ in matrices)
    wide = [sum(m.shape[1] for m, _ in share) for share in shares]
    assert max(wide) - min(wide) <= 8


def test_batches_are_of_the_size_asked_for_and_never_end(folder: Path) -> None:
    rows = Latents(folder / "latents").batches(5, np.random.default_rng(0))
    drawn = [next(rows).tolist() for _ in range(30)]
    assert all(len(row) == 5 for row in drawn)
    assert set(sum(drawn, [])) == set(range(6))


def narrower(folder: Path) -> Path:
    """A tokenizer of the first words that the shipped one learnt: antlers are not among them."""
    shipped = POCKET / "tokenizer"
    vocab = json.loads((shipped / "vocab.json").read_text(encoding="utf-8"))
    vocab = {word: index for word, index in vocab.items() if index < 857}
    first, *merges = (shipped / "merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [pair for pair in merges if pair.replace(" ", "") in vocab]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join([first, *merges]) + "\n", encoding="utf-8")
    shutil.copy(shipped / "tokenizer_config.json", folder)
    return folder


def test_a_tokenizer_that_grows_keeps_every_id_and_says_new_words_in_one_piece(
    tmp_path: Path,
) -> None:
    known = narrower(tmp_path / "known")
    before = CLIPTokenizer.from_pretrained(known)
    after = grow_tokenizer(tmp_path, known, captions=3000)
    old = before.get_vocab()
    assert {word: after.get_vocab()[word] for word in old} == old
    assert len(after.tokenize("antlers")) == 1 < len(before.tokenize("antlers"))
    assert after.decode(after("a fox with antlers", add_special_tokens=False).input_ids).strip()


def test_a_text_encoder_that_grows_says_of_old_words_what_it_said(tmp_path: Path) -> None:
    known = narrower(tmp_path / "known")
    before = CLIPTokenizer.from_pretrained(known)
    after = grow_tokenizer(tmp_path, known, captions=3000)
    text = CLIPTextModel.from_pretrained(POCKET / "text_encoder", dtype=torch.float32)
    text.resize_token_embeddings(len(before), mean_resizing=False)
    old = text.get_input_embeddings().weight.detach().clone()
    grown = grow_text_encoder(text, before, after).get_input_embeddings().weight
    assert torch.equal(grown[: len(before)], old)
    word = after.convert_tokens_to_ids("antlers</w>")
    pieces = before("antlers", add_special_tokens=False).input_ids
    torch.testing.assert_close(grown[word], old[pieces].mean(0))


def test_parts_of_a_batch_are_each_taken_once() -> None:
    assert list(ALONE.share("step", 3)) == [0, 1, 2]
    server = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)
    one, other = Team(0, 2, server), Team(1, 2, server)
    taken = [*zip(one.share("step", 4), other.share("step", 4), strict=False)]
    assert sorted(sum(taken, ())) == [0, 1, 2, 3]


def steps_of(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return int(json.loads(file.metadata()["progress"])["step"])


def test_text_and_unet_train_for_a_moment_each_and_go_on_from_their_checkpoint(
    folder: Path,
) -> None:
    with torch.random.fork_rng():
        learn_words(job(folder, stage="words"), ALONE)
        train_text(job(folder, stage="text"), ALONE)
        train_unet(job(folder), ALONE)
        before = steps_of(folder / "unet.safetensors")
        train_unet(job(folder), ALONE)
    assert 0 < before < steps_of(folder / "unet.safetensors")
    base = open_base(str(folder / "pipeline"), "hash")
    assert spoken(base.unet) == heard(base.unet) == TELLING
    assert base.defaults == Defaults()
    noise = json.loads((folder / "pipeline" / "scheduler" / "scheduler_config.json").read_text())
    assert noise["prediction_type"] == "sample"
    assert str(folder) not in (folder / "pipeline" / "vae" / "config.json").read_text()


def test_the_schedule_leans_towards_noise_and_ends_in_nothing_else() -> None:
    power = parts.new_scheduler().alphas_cumprod
    usual = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        rescale_betas_zero_snr=True,
    ).alphas_cumprod
    assert (power.diff() < 0).all()
    assert power[-1] == 0
    # Half of the way is four fifths of the usual one.
    assert power[499] == pytest.approx(float(usual[799]), rel=1e-3)


def test_the_shipped_weights_open_with_the_stock_pipeline() -> None:
    pipe = StableDiffusionPipeline.from_pretrained(POCKET)
    assert pipe.unet.config.cross_attention_dim == pipe.text_encoder.config.hidden_size
    assert len([name for name in pipe.unet.attn_processors if "attn2" in name]) == 16


def test_the_shipped_unet_hears_and_says_nothing_of_components() -> None:
    unet = open_base(str(POCKET), "hash").unet
    assert spoken(unet) == heard(unet) == TELLING


def test_the_shipped_code_is_orthonormal_and_drawn_as_it_was_read() -> None:
    code = PatchAutoencoder.from_pretrained(POCKET / "vae").float().patches
    torch.testing.assert_close(
        code.basis @ code.basis.mT, torch.eye(parts.COMPONENTS), atol=2e-3, rtol=0
    )
    components = torch.randn(1, parts.COMPONENTS, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(code.read(code.blurred(components)), components, atol=1e-2, rtol=0)


def test_in_float32_muon_steps_as_torchs_does_in_bfloat16() -> None:
    chance = torch.Generator().manual_seed(0)
    begun = [torch.randn(shape, generator=chance) for shape in ((6, 10), (12, 5))]
    ends = []
    for kind in (torch.optim.Muon, WideMuon):
        matrices = [nn.Parameter(each.clone()) for each in begun]
        muon = kind(matrices, lr=0.1, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
        for _ in range(3):
            muon.zero_grad()
            sum(matrix.pow(3).sum() for matrix in matrices).backward()
            muon.step()
        ends.append(matrices)
    for one, other, first in zip(*ends, begun, strict=True):
        assert (one - other).norm() < 0.03 * (one - first).norm()


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
