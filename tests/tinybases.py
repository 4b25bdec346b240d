"""Tiny bases of random weights in the classes of the real ones, for tests of what differs."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

from storyforge.model.base import BaseModel
from storyforge.model.dit.doors import DOORS
from storyforge.modelref import POCKET, Defaults

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
WIDTH = 32
"""Numbers of a token in one text encoder."""


def tokenizer() -> CLIPTokenizer:
    """The embedded model's."""
    made: CLIPTokenizer = CLIPTokenizer.from_pretrained(POCKET / "tokenizer", model_max_length=77)
    return made


def text_config(act: str, width: int, layers: int = 3) -> CLIPTextConfig:
    """Of a text encoder of CLIP's class that reads the embedded model's words."""
    words = tokenizer()
    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act=act,
        projection_dim=width,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.eos_token_id,
    )


def _autoencoder(width: int, **more: object) -> dict[str, object]:
    """What the autoencoders of all kinds here have in common: two levels, four channels."""
    return {
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "block_out_channels": (width, width),
        "latent_channels": 4,
        "norm_num_groups": width // 2,
        "sample_size": 32,
        **more,
    }


def _vae(scaling_factor: float) -> AutoencoderKL:
    return AutoencoderKL(**_autoencoder(16, scaling_factor=scaling_factor))


def unet(**more: object) -> UNet2DConditionModel:
    """Of two levels, one of them with cross-attention, unless more is said."""
    settings: dict[str, object] = {
        "sample_size": 16,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 16,
    }
    return UNet2DConditionModel(**settings | more)


def _one_encoder(
    act: str, denoiser: UNet2DConditionModel, scheduler: object
) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=_vae(0.18215),
        text_encoder=CLIPTextModel(text_config(act, WIDTH)),
        tokenizer=tokenizer(),
        unet=denoiser,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd1() -> StableDiffusionPipeline:
    """As Stable Diffusion 1.x: PNDM, no word of `clip_sample`."""
    scheduler = PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1)
    return _one_encoder("quick_gelu", unet(), scheduler)


def sd2() -> StableDiffusionPipeline:
    """As Stable Diffusion 2.x: v-prediction, linear projections, heads of one width."""
    scheduler = DDIMScheduler(
        **BETAS,
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type="v_prediction",
    )
    denoiser = unet(attention_head_dim=(2, 4), use_linear_projection=True)
    return _one_encoder("gelu", denoiser, scheduler)


def _sdxl(scheduler: object) -> StableDiffusionXLPipeline:
    wide = WIDTH + 16
    return StableDiffusionXLPipeline(
        vae=_vae(0.13025),
        text_encoder=CLIPTextModel(text_config("quick_gelu", WIDTH)),
        text_encoder_2=CLIPTextModelWithProjection(text_config("gelu", wide)),
        tokenizer=tokenizer(),
        tokenizer_2=CLIPTokenizer.from_pretrained(
            POCKET / "tokenizer", model_max_length=77, pad_token="!"
        ),
        unet=unet(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(16, 32, 64),
            cross_attention_dim=WIDTH + wide,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + wide,
            transformer_layers_per_block=(1, 2, 3),
            use_linear_projection=True,
            attention_head_dim=(1, 2, 4),
        ),
        scheduler=scheduler,
    )


def sdxl() -> StableDiffusionXLPipeline:
    """As SDXL: two text encoders of different width, several sites in a block."""
    scheduler = EulerDiscreteScheduler(**BETAS, steps_offset=1, timestep_spacing="leading")
    return _sdxl(scheduler)


def sdxl_v() -> StableDiffusionXLPipeline:
    """As NoobAI's v-prediction of SDXL: the last timestep is noise alone."""
    scheduler = EulerDiscreteScheduler(
        **BETAS,
        steps_offset=1,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
    )
    return _sdxl(scheduler)


ENDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FRAME = """\
{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if not enable_thinking %}<think>

</think>

{% endif %}{% endif %}"""
"""As Qwen 3 frames what it is asked; where it need not think, the empty thought looks like a
concept."""


def asked_tokenizer() -> Qwen2Tokenizer:
    """Qwen's, of single bytes and a few words."""
    merges = [
        ("f", "o"),
        ("fo", "x"),
        ("r", "e"),
        ("re", "d"),
        ("\u0120", "fox"),
        ("\u0120", "red"),
    ]
    letters = [chr(n) for n in (*range(33, 127), *range(161, 173), *range(174, 324))]
    words = [*letters, *("".join(pair) for pair in merges), *ENDS]
    vocabulary = {word: number for number, word in enumerate(words)}
    made = Qwen2Tokenizer(vocab=vocabulary, merges=merges, chat_template=FRAME)
    made.add_special_tokens({"additional_special_tokens": list(ENDS[1:])})
    return made


def _qwen(kind: type[Qwen3Model | Qwen3ForCausalLM]) -> Qwen3Model | Qwen3ForCausalLM:
    return kind(
        Qwen3Config(
            vocab_size=len(asked_tokenizer()),
            hidden_size=WIDTH // 2,
            intermediate_size=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    )


def flux2() -> Flux2KleinPipeline:
    """As FLUX.2-klein, with guidance."""
    vae = AutoencoderKLFlux2(**_autoencoder(8, layers_per_block=1))
    vae.bn.running_mean += torch.linspace(-0.5, 0.5, 16)
    vae.bn.running_var *= torch.linspace(0.5, 2, 16)
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae,
        text_encoder=_qwen(Qwen3ForCausalLM),
        tokenizer=asked_tokenizer(),
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=3 * WIDTH // 2,
            timestep_guidance_channels=16,
            axes_dims_rope=(2, 2, 2, 2),
            guidance_embeds=False,
        ),
    )


def z_image() -> ZImagePipeline:
    """As Z-Image."""
    convolved = dict.fromkeys(("use_quant_conv", "use_post_quant_conv"), False)
    vae = AutoencoderKL(**_autoencoder(8, scaling_factor=0.36, shift_factor=0.11, **convolved))
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=vae,
        text_encoder=_qwen(Qwen3Model),
        tokenizer=asked_tokenizer(),
        transformer=ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=2,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=WIDTH // 2,
            axes_dims=[4, 6, 6],
            axes_lens=[1024, 32, 32],
        ),
    )


KINDS = {"sd1": sd1, "sd2": sd2, "sdxl": sdxl, "sdxl-v": sdxl_v}


JOINT = {"flux2": flux2, "z-image": z_image}
"""Kinds that are transformers."""


def tiny_pipeline(kind: str) -> DiffusionPipeline:
    """One of `KINDS` or `JOINT`, always of the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = (KINDS | JOINT)[kind]()
        for module in pipeline.components.values():
            if isinstance(module, torch.nn.Module):
                _lively(module)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


_SPOKEN = ("to_v", "to_out", "v_proj", "out_proj")


def _lively(module: torch.nn.Module) -> None:
    """Let attention say something; what it asks stays vague, or rounding would be magnified."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim == 2 and any(part in name for part in _SPOKEN):
                weight.mul_(3)


def base_of(pipeline: DiffusionPipeline, reference: str = "tiny") -> BaseModel:
    """The pipeline's parts as a base; they are shared, so whoever changes them puts them back."""
    second = getattr(pipeline, "text_encoder_2", None)
    door = DOORS.get(type(pipeline).__name__)
    return BaseModel(
        reference=reference,
        hash="tiny-hash",
        unet=pipeline.transformer if door else pipeline.unet,
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        scheduler_config=dict(pipeline.scheduler.config),
        defaults=Defaults(),
        door=door,
        text_encoder_2=second,
        tokenizer_2=None if second is None else pipeline.tokenizer_2,
        empty_is_zero=bool(pipeline.config.get("force_zeros_for_empty_prompt")),
    )
