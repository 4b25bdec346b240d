"""What a merged checkpoint says of itself in its header, by ModelSpec's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from storyforge.headers.bases import look_at_base
from storyforge.model.base import BaseModel
from storyforge.model.concept import ARCHITECTURES, FusedModel
from storyforge.model.denoising import make_scheduler
from storyforge.modelref import BaseParts, files_here

_PREDICTIONS: Final = {"v_prediction": "v"}


def modelspec(base: BaseModel, fused: FusedModel, licences: Mapping[str, str]) -> dict[str, str]:
    """The metadata; what is not known is left out.

    licences  concept -> its licence
    """
    predicts = str(make_scheduler(base, None).config.prediction_type)
    names = ", ".join(fused.tokens)
    told = {
        "sai_model_spec": "1.0.1",
        "architecture": architecture_of(base.widths, predicts),
        "implementation": "sgm",  # whose names the tensors have
        "title": names or base.name,
        "prediction_type": _PREDICTIONS.get(predicts, predicts),
        "license": _licence(base, licences),
        "trigger_phrase": names,
        "merged_from": ", ".join([base.name, *fused.tokens]),
    }
    return {f"modelspec.{name}": said for name, said in told.items() if said}


def architecture_of(widths: list[int], predicts: str) -> str | None:
    """What ModelSpec calls a base whose text encoders have words of so many numbers."""
    name = ARCHITECTURES.get(sum(widths))
    if widths == [1024]:
        return f"{name}-{'768-v' if predicts == 'v_prediction' else '512'}"
    return name


def _licence(base: BaseModel, licences: Mapping[str, str]) -> str:
    """Whose is under which licence, of all that state one."""
    path = files_here(BaseParts.of(base.reference).model)
    own = look_at_base(path).licence if path.exists() else None
    stated = {base.name: own, **licences}
    return "; ".join(f"{name}: {said}" for name, said in stated.items() if said)
