"""Stage `unet`: the U-Net, and on with the text encoder, on drawings and their captions."""

import math
import shutil
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import nn
from transformers import CLIPTokenizer

from storyforge.model.patch_autoencoder import PatchAutoencoder
from storyforge.model.placement import half_on
from storyforge.pocket.pretrain import parts
from storyforge.pocket.pretrain.latents import Latents
from storyforge.pocket.pretrain.run import (
    Average,
    Clock,
    Job,
    Team,
    at_rate,
    load_checkpoint,
    narrowly,
    save_checkpoint,
    say,
)
from storyforge.pocket.pretrain.text import (
    MeaningHeads,
    captions,
    ends_of,
    meant,
    text_encoder_of,
    token_ids,
    tokenizer_of,
)

CAPTION_DROPOUT = 0.1
MEANING_LOSS = 0.2
SUBJECT_WEIGHT = 3.0
"""How much more a cell counts where a subject is: backgrounds are learnt early."""
HEAD_WEIGHT = 3.0
"""How much more again where a head is: what one looks at first is small."""
LEAST_NOISE = 0.2
"""Errors are divided by the share of noise, but by no less than this."""
WARM_UP = 20
"""Steps until the learning rate is whole."""
KEEP_EVERY = 240.0
"""Seconds between checkpoints."""
REFRESH_EVERY = 100
"""Steps between looks for drawings that were made meanwhile."""
PARTS = 2
"""Parts of a batch; free workers take the next one."""
MUON_RATE = 1.5e-3
EDGE_RATE = 3e-4
"""Of the layers that read and write latents: eight hundred inputs go into each number written, and
one step of Adam moves all of them; at .0008 the finest channels were nothing but the last step."""
AVERAGES = {"": 0.998, "-short": 0.99}
"""Moving averages that are kept."""
SHIPPED = "-short"
"""The one that is assembled and shipped: of what is small it knows more, accessories' colours above
all."""


class WideMuon(torch.optim.Muon):
    """Muon for processors without units for bfloat16, in which torch's own makes matrices
    orthogonal and is fifty times slower there."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step, as torch's Muon takes it, in float32."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._turn(matrix, matrix.grad, group)
        return loss

    def _turn(self, matrix: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
        made = orthogonal(grad.lerp(state["momentum_buffer"], group["momentum"]))
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.sub_(made, alpha=group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The matrix (m, n) with singular values near 1: five steps of a quintic Newton–Schulz
    iteration (Jordan 2024, Muon)."""
    high, wide = matrix.shape
    made = matrix.T if high > wide else matrix
    made = made / made.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = made @ made.T
        made = torch.addmm(
            made, torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315), made, beta=3.4445
        )
    return made.T if high > wide else made


class WideAttention:
    """Attention with its scores in float32: in bfloat16 its backward pass is slow on CPUs."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(b, n, d) to (b, n, d)."""
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            linear(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2).float()
            for linear, x in ((attn.to_q, hidden_states), (attn.to_k, seen), (attn.to_v, seen))
        )
        with torch.autocast(q.device.type, enabled=False):
            made = F.scaled_dot_product_attention(q, k, v)
        result: torch.Tensor = attn.to_out[0](made.transpose(1, 2).flatten(2))
        return result


class Denoiser:
    """Text encoder, U-Net and heads of meaning in training, with their averages and optimisers."""

    def __init__(self, job: Job, team: Team) -> None:
        """Go on from the checkpoint, else start from what was trained or shipped."""
        self.job, self.team = job, team
        self.tokenizer, self.scheduler = tokenizer_of(job), parts.new_scheduler()
        self.text = text_encoder_of(job)
        self.unet, self.heads = (
            _unet(job.folder).to(job.device),
            MeaningHeads(parts.TEXT_WIDTH).to(job.device),
        )
        if job.device == "cpu":
            self.unet.set_attn_processor(WideAttention())
        parts.take_over(self.heads, parts.part_folder(job.folder, "heads.safetensors"))
        self.modules: dict[str, nn.Module] = {
            "unet": self.unet,
            "text": self.text,
            "heads": self.heads,
        }
        self.averages = {
            f"{part}{suffix}": Average(self.modules[part], keep)
            for part in ("unet", "text")
            for suffix, keep in AVERAGES.items()
        }
        self.parameters = [p for module in self.modules.values() for p in module.parameters()]
        self.optimizers, matrices = _optimizers(
            self.unet, [*self.text.parameters(), *self.heads.parameters()], job.device
        )
        self.matrices = _shared_out(matrices, team.size)
        self.path = job.folder / "unet.safetensors"
        progress = load_checkpoint(self.path, self.modules, self.averages, self.optimizers)
        # A checkpoint may be older than this rule.
        parts.silence_components(self.unet)
        self.step, self.samples = int(progress.get("step", 0)), int(progress.get("samples", 0))

    def learn(self, latents: Latents, factor: float) -> float:
        """One step at `factor` of the peak learning rate; the diffusion loss of this worker's
        parts, NaN if it had none."""
        self.step += 1
        self.samples += self.job.batch_size * PARTS
        at_rate(factor, *self.optimizers)
        losses = [
            self._part(latents, np.random.default_rng((self.job.seed, 3, self.step, index)))
            for index in self.team.share(f"step {self.step}", PARTS)
        ]
        self.team.average(self.parameters, PARTS)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for owner, shared in enumerate(self.matrices):
            for matrix, parameter in shared:
                grad = parameter.grad if owner == self.team.rank else None
                matrix.grad = None if grad is None else grad.view_as(matrix)
        for optimizer in self.optimizers:
            optimizer.step()
        self.team.exchange([[matrix for matrix, _ in shared] for shared in self.matrices])
        for name, average in self.averages.items():
            average.update(self.modules[name.split("-")[0]])
        return sum(losses) / len(losses) if losses else math.nan

    def _part(self, latents: Latents, rng: np.random.Generator) -> float:
        """Gradients of one part of a batch, added to what is there; its diffusion loss."""
        device = self.job.device
        row = next(latents.batches(self.job.batch_size, rng))
        pictures = [latents.pictures[i] for i in row]
        texts, said = captions(pictures, rng), meant(pictures)
        texts = ["" if rng.random() < CAPTION_DROPOUT else t for t in texts]
        drawn, cover = latents.rows(row)
        counts = (1 + SUBJECT_WEIGHT * cover + HEAD_WEIGHT * latents.heads(row)) * latents.fineness
        counts[:, parts.READ] = 0
        clean, weight = (torch.from_numpy(each).to(device) for each in (drawn, counts))
        torch.manual_seed(int(rng.integers(2**62)))
        with narrowly(device):
            ids = token_ids(self.tokenizer, texts).to(device)
            features = self.text(ids).last_hidden_state
            loss = _diffusion_loss(self.unet, self.scheduler, clean, weight, features, rng)
        ends = ends_of(self.tokenizer, ids)
        meaning_loss = self.heads.lack(features, ends, *(each.to(device) for each in said))
        torch.autograd.backward(loss + MEANING_LOSS * meaning_loss)
        return loss.item()

    def keep(self) -> None:
        """Write the checkpoint."""
        progress: dict[str, float] = {"step": self.step, "samples": self.samples}
        save_checkpoint(self.path, self.modules, self.averages, self.optimizers, progress)


def _optimizers(
    unet: nn.Module, reading: list[nn.Parameter], device: str
) -> tuple[tuple[torch.optim.Optimizer, ...], list[tuple[nn.Parameter, nn.Parameter]]]:
    """AdamW and Muon, and Muon's view of each of the U-Net's matrices beside the parameter.

    Muon (Jordan 2024) takes matrices: convolutions are seen as (out, in·3·3). What reads latents,
    writes them or reads the time stays with AdamW, as do all vectors.
    """
    plain, edges, matrices = [], [], []
    for name, parameter in unet.named_parameters():
        if name.startswith(("conv_in", "conv_out")):
            edges.append(parameter)
        elif parameter.ndim < 2 or name.startswith("time_embedding"):
            plain.append(parameter)
        else:
            matrices.append((nn.Parameter(parameter.data.flatten(1)), parameter))
    adam = torch.optim.AdamW(
        [
            {"params": plain, "base": 6e-4},
            {"params": edges, "base": EDGE_RATE},
            {"params": reading, "base": 2e-4},
        ],
        lr=0.0,
        weight_decay=0.01,
        betas=(0.9, 0.99),
    )
    muon = (torch.optim.Muon if half_on(device) else WideMuon)(
        [{"params": [matrix for matrix, _ in matrices], "base": MUON_RATE}],
        lr=0.0,
        weight_decay=0.01,
        adjust_lr_fn="match_rms_adamw",
    )
    return (adam, muon), matrices


def _shared_out(
    matrices: list[tuple[nn.Parameter, nn.Parameter]], workers: int
) -> list[list[tuple[nn.Parameter, nn.Parameter]]]:
    """Who turns which matrices: Muon's work is shared, the costliest first to the idlest.

    What a worker does not own has no momentum there: a checkpoint keeps the first worker's, and a
    resumed run finds the others' again within twenty steps.
    """
    shares: list[list[tuple[nn.Parameter, nn.Parameter]]] = [[] for _ in range(workers)]
    costs = [0] * workers

    def cost(pair: tuple[nn.Parameter, nn.Parameter]) -> int:
        return pair[0].numel() * min(pair[0].shape)

    for pair in sorted(matrices, key=cost, reverse=True):
        idlest = costs.index(min(costs))
        shares[idlest].append(pair)
        costs[idlest] += cost(pair)
    return shares


def train_unet(job: Job, team: Team) -> None:
    """Text encoder and U-Net together; the U-Net predicts the clean latents."""
    torch.manual_seed(job.seed)
    denoiser = Denoiser(job, team)
    latents = Latents(job.folder / "latents")
    clock, kept, recent = Clock(job, WARM_UP), 0.0, deque[float](maxlen=20)
    while (spent := team.agree(clock.spent())) < 1:
        loss = denoiser.learn(latents, clock.factor(spent))
        if not math.isnan(loss):
            recent.append(loss)
        if denoiser.step % REFRESH_EVERY == 0:
            latents.refresh()
        if team.rank == 0 and denoiser.step % 10 == 0:
            minutes = spent * job.minutes
            mean = sum(recent) / len(recent)
            say(job, step=denoiser.step, samples=denoiser.samples, minutes=minutes, loss=mean)
        if team.rank == 0 and spent * job.minutes * 60 - kept > KEEP_EVERY:
            kept = spent * job.minutes * 60
            denoiser.keep()
    if team.rank == 0:
        denoiser.keep()
        averages = {part: denoiser.averages[f"{part}{SHIPPED}"] for part in ("unet", "text")}
        assemble(job.folder, averages, denoiser.tokenizer)


def _unet(folder: Path) -> UNet2DConditionModel:
    """What `folder` has or earlier runs left if it is of today's shape, else a new one."""
    unet = parts.new_unet()
    parts.take_over(unet, parts.part_folder(folder, "unet") / "diffusion_pytorch_model.safetensors")
    parts.silence_components(unet)
    return unet


def _diffusion_loss(
    unet: nn.Module,
    scheduler: DDIMScheduler,
    clean: torch.Tensor,
    weight: torch.Tensor,
    features: torch.Tensor,
    rng: np.random.Generator,
) -> torch.Tensor:
    """Error of the clean latents, weighted by `weight` and by one over the share of noise.

    weight  (b, c, h, w)  how much each cell and channel counts

    Predicting what is clean suits a narrow network: noise of all channels would have to pass
    through it whole (Li and He 2025, Back to Basics).
    """
    noise = torch.randn_like(clean)
    timesteps = torch.from_numpy(rng.integers(0, len(scheduler.betas), len(clean)))
    noisy = scheduler.add_noise(clean, noise, timesteps.to(clean.device))
    noise_share = (1 - scheduler.alphas_cumprod[timesteps]).clamp(min=LEAST_NOISE).to(clean.device)
    made = unet(parts.unheard(noisy), timesteps.to(clean.device), features).sample
    error = (made.float() - clean).square() * weight / noise_share[:, None, None, None]
    loss: torch.Tensor = error.mean() / weight.mean()
    return loss


def assemble(folder: Path, averages: dict[str, Average], tokenizer: CLIPTokenizer) -> None:
    """Write `<folder>/pipeline` in fp16, in the layout of `StableDiffusionPipeline`."""
    text, unet = parts.new_text_encoder(tokenizer), parts.new_unet()
    text.load_state_dict(averages["text"].values)
    unet.load_state_dict(averages["unet"].values)
    vae = PatchAutoencoder.from_pretrained(parts.part_folder(folder, "vae"), dtype=torch.float32)
    # Where it lay while it learnt is nobody's business.
    vae.register_to_config(_name_or_path="")
    pipe = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=parts.new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder / "pipeline")
    # A tokenizer is two files of text; diffusers writes both once more as one.
    known, made = parts.part_folder(folder, "tokenizer"), folder / "pipeline" / "tokenizer"
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(known / name, made / name)
    (made / "tokenizer.json").unlink(missing_ok=True)
