"""Stage `vae`: the autoencoder; stage `polish`: its decoder alone, once latents are settled."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from storyforge.pocket import world
from storyforge.pocket.pretrain import parts
from storyforge.pocket.pretrain.run import (
    Average,
    Clock,
    Job,
    Team,
    load_checkpoint,
    save_checkpoint,
    say,
    scatter,
)

HELD_OUT_SEED = 1 << 40
LATENT_NOISE = 0.05
POLISH_NOISE = 0.5
"""Most noise on latents while polishing: a U-Net's are not as clean as an encoder's."""
SAVE_EVERY = 240.0


def drawings(seeds: list[int], device: str) -> torch.Tensor:
    """(n, 3, 256, 256) in [−1, 1]: the pictures that these seeds imagine."""
    arrays = [world.draw(world.imagine(np.random.default_rng(seed)))[0] for seed in seeds]
    pixels = torch.from_numpy(np.stack(arrays)).to(device).float().permute(0, 3, 1, 2)
    return (pixels / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def picture_loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 + MSE + edges + colour at 1/2, 1/4 and 1/8 of the size."""
    loss = F.l1_loss(made, wanted) + F.mse_loss(made, wanted)
    for dim in (2, 3):
        loss = loss + 0.5 * F.l1_loss(made.diff(dim=dim), wanted.diff(dim=dim))
    for scale in (2, 4, 8):
        small, goal = F.avg_pool2d(made, scale), F.avg_pool2d(wanted, scale)
        grey = (small - goal).mean(1, keepdim=True)
        loss = loss + 0.5 * ((small - goal) - grey).abs().mean()
    return loss


def train_vae(job: Job, team: Team) -> None:
    """Train encoder and decoder, or the decoder alone in stage `polish`."""
    torch.manual_seed(job.seed)
    vae = parts.new_vae()
    polish = job.stage == "polish"
    if polish:
        vae = AutoencoderKL.from_pretrained(
            parts.part_folder(job.folder, "vae"), dtype=torch.float32
        )
    vae.to(job.device, memory_format=torch.channels_last)
    vae.requires_grad_(not polish)
    vae.decoder.requires_grad_(True)
    parameters = [p for p in vae.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average(vae, 0.995)
    path = job.folder / f"{job.stage}.safetensors"
    progress = load_checkpoint(path, {"vae": vae}, {"vae": average}, optimizer)
    step, clock, saved = int(progress.get("step", 0)), Clock(job, 50), 0.0
    scatter(job, team, step)
    while (spent := team.agree(clock.spent())) < 1:
        step += 1
        first = job.seed + (step * team.size + team.rank) * job.batch_size
        wanted = drawings(list(range(first, first + job.batch_size)), job.device)
        for group in optimizer.param_groups:
            group["lr"] = (5e-4 if polish else 1e-3) * clock.factor(spent)
        loss = _loss(vae, wanted, anchor=max(0.05, 0.5 - step / 1000), polish=polish)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        team.average(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        average.update(vae)
        if team.rank == 0 and step % 50 == 0:
            say(job, step=step, spent=spent, loss=loss.item())
        if team.rank == 0 and clock.spent() * job.minutes * 60 - saved > SAVE_EVERY:
            saved = clock.spent() * job.minutes * 60
            save_checkpoint(path, {"vae": vae}, {"vae": average}, optimizer, {"step": step})
            say(job, step=step, psnr=_held_out(vae, average, job))
    if team.rank == 0:
        save_checkpoint(path, {"vae": vae}, {"vae": average}, optimizer, {"step": step})
        say(job, step=step, psnr=_held_out(vae, average, job))
        vae.load_state_dict(average.values)
        if not polish:
            _normalise(vae, job)
        vae.save_pretrained(job.folder / "vae")


def _loss(vae: AutoencoderKL, wanted: torch.Tensor, *, anchor: float, polish: bool) -> torch.Tensor:
    with torch.autocast(wanted.device.type, torch.bfloat16):
        with torch.set_grad_enabled(not polish):
            latents = vae.encode(wanted).latent_dist.mean
        most = POLISH_NOISE * torch.rand_like(latents[:, :1, :1, :1]) if polish else LATENT_NOISE
        noisy = latents + most * torch.randn_like(latents)
        made = vae.decode(noisy).sample
    loss: torch.Tensor = picture_loss(made.float(), wanted)
    if polish:
        return loss
    colours = 2 * F.avg_pool2d(wanted, wanted.shape[-1] // latents.shape[-1])
    loss = loss + anchor * F.l1_loss(latents[:, :3].float(), colours)
    spread: torch.Tensor = latents.float().square().mean()
    return loss + 1e-3 * spread


@torch.no_grad()
def psnr(vae: AutoencoderKL, seeds: list[int], device: str) -> float:
    """Mean peak signal-to-noise ratio in dB over the drawings of `seeds`."""
    total = 0.0
    for seed in seeds:
        wanted = drawings([seed], device)
        made = vae.decode(vae.encode(wanted).latent_dist.mean).sample.clamp(-1, 1)
        total += -10 * math.log10(F.mse_loss(made, wanted).item() / 4)
    return total / len(seeds)


def _held_out(vae: AutoencoderKL, average: Average, job: Job) -> float:
    live = {k: v.clone() for k, v in vae.state_dict().items()}
    vae.load_state_dict(average.values)
    found = psnr(vae, [HELD_OUT_SEED + i for i in range(12)], job.device)
    vae.load_state_dict(live)
    return found


@torch.no_grad()
def _normalise(vae: AutoencoderKL, job: Job) -> None:
    """Fold mean and spread of each latent channel into the quant convolutions."""
    seeds = [job.seed + i for i in range(96)]
    latents = torch.cat([vae.encode(drawings([s], job.device)).latent_dist.mean for s in seeds])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3)).clamp(min=1e-3)
    channels = parts.LATENT_CHANNELS
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.weight[channels:] = 0
    quant.bias[channels:] = 2 * math.log(LATENT_NOISE)
    post.bias += (post.weight[:, :, 0, 0] @ mean).to(post.bias)
    post.weight *= std[None, :, None, None]
