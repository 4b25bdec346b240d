"""Other tools' files: taken in as concepts, written from concepts, and looked at.

Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from storyforge.errors import EnvironmentProblem, StoryForgeError
from storyforge.headers.bases import look_at_base
from storyforge.headers.finite import broken_in
from storyforge.headers.fit import misfit
from storyforge.headers.header import read_header
from storyforge.headers.kinds import ADAPTERS, Described, describe, licence_of, trigger_of
from storyforge.headers.whole import counted, unknown_layers, unsound, without_alpha
from storyforge.modelref import base_at, files_here

if TYPE_CHECKING:
    from storyforge.model.formats.export import Exported, Target
    from storyforge.model.formats.foreign import Imported, Wanted

CLOSE: Final = 1.0
"""Of 255: what two roads of the same picture may differ by."""

READ_BACK: Final = {"mix-of-show": "words and changes are", "xti": "words are"}
"""Layer-wise forms, which stock diffusers does not read -> what of them comes back."""

_MOST: Final = 5
"""Of each kind of trouble, so many are named."""


def import_file(
    file: Path, wanted: Wanted, base: str, out: Path, statistics: str | None = None
) -> Imported:
    """Make a concept of a file, and write it to `out`.

    statistics  `full` or `compact`: keep what fusing needs to know in the file, too
    """
    from storyforge.fuse import carried
    from storyforge.fuse import statistics as watched
    from storyforge.fuse.packing import Compact, Full
    from storyforge.model.base import open_base
    from storyforge.model.concept import Concept
    from storyforge.model.formats.foreign import import_concept

    ref = base_at(base, Path.cwd())
    opened = open_base(ref.reference, ref.hash)
    made = import_concept(opened, file, wanted)
    out.parent.mkdir(parents=True, exist_ok=True)
    made.concept.save(out)
    if statistics is not None:
        packing = Compact if statistics == "compact" else Full
        carried.carry(out, watched.of_concept(opened, Concept.load(out), packing))
    return made


def export_file(file: Path, to: Target, folder: Path) -> Exported:
    """Write a concept's file in another program's form into a folder."""
    from storyforge.model.concept import Concept
    from storyforge.model.formats.export import export_concept

    return export_concept(Concept.load(file), to, folder)


def verify_export(file: Path, to: Target, exported: Exported, base: str) -> float:
    """The largest difference, of 255, between pictures drawn here and by stock diffusers.

    Layer-wise forms, which stock diffusers does not read, are read back instead: 0 if nothing of
    words and changes is different, else EnvironmentProblem.
    """
    from dataclasses import replace

    from storyforge.model.base import open_base
    from storyforge.model.concept import Concept
    from storyforge.model.formats.export import halved
    from storyforge.model.formats.foreign import Wanted, import_concept
    from storyforge.sample.verify import difference, drawn_by_stock, drawn_here

    concept = Concept.load(file)
    ref = base_at(base, Path.cwd())
    opened = open_base(ref.reference, ref.hash)
    concept.fits(opened)
    if to in READ_BACK:
        wanted = Wanted(concept.name, concept.kind, concept.class_phrase)
        again = import_concept(opened, exported.files[0], wanted).concept
        same = again.tokens.words.equal(concept.tokens.words)
        for name, delta in again.deltas.items():
            same = same and delta.weight().equal(concept.deltas[name].weight())
        if not same or (to == "mix-of-show" and again.deltas.keys() != concept.deltas.keys()):
            raise EnvironmentProblem(f"`{exported.files[0]}` does not come back as it was written")
        return 0.0
    if opened.door is not None:
        hint = "`load_lora_weights` reads the LoRA"
        raise StoryForgeError(f"{opened.door.name}'s pipeline has no place for words", hint=hint)
    lean = halved(concept)
    lean = replace(lean, deltas={}) if to == "ti" else lean
    here = drawn_here(opened, lean)
    return difference(here, drawn_by_stock(opened, concept.name, exported.files))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a file is, and what is broken in it.

    ranks      rank -> of how many layers
    strengths  alpha / rank -> of how many layers
    layers     model -> how many of its layers are changed
    beside     how many of them are no attention
    unstated   how many layers with a rank have no alpha
    troubles   what is wrong
    """

    path: Path
    told: Described
    ranks: Mapping[int, int]
    strengths: Mapping[float, int]
    layers: Mapping[str, int]
    beside: int
    unstated: int
    licence: str | None
    trigger: str | None
    troubles: tuple[str, ...] = field(default_factory=tuple)


def diagnose(path: Path, base: str | None) -> Diagnosis:
    """Look at a file, and whether it fits a base.

    Raises:
      StoryForgeError: if there is no such file; EnvironmentProblem if it cannot be read.
    """
    if not path.exists():
        raise StoryForgeError(f"no file at `{path}`")
    header = read_header(path)
    told = describe(header)
    troubles = list(_troubles(path, told))
    if base is not None:
        troubles += _base_troubles(told, base)
    layers: dict[str, int] = {}
    for name in told.layers:
        layers[name.split(" ")[0]] = layers.get(name.split(" ")[0], 0) + 1
    beside = sum(not _attention(name) for name in told.layers)
    return Diagnosis(
        path,
        told,
        told.ranks,
        {} if troubles else _strengths(path, told),
        layers,
        beside,
        len(without_alpha(told)),
        licence_of(header),
        trigger_of(header),
        tuple(troubles),
    )


def _troubles(path: Path, told: Described) -> Iterator[str]:
    """What is wrong with a file by itself."""
    if (broken := _broken(path, told)) is not None:
        yield broken
    if told.kind == "unknown":
        first = next(iter(told.header.shapes), None)
        yield f"`{first}` belongs to nothing that is known" if first else "it holds no tensors"
    yield from (f"`{key}` belongs to nothing that is known" for key in told.strange[:_MOST])
    yield from (f"`{name}` {why}" for name, why in list(unsound(told).items())[:_MOST])
    if unknown := unknown_layers(told):
        yield f"{counted(unknown)} of no model that is known"
    bare = without_alpha(told)
    stating = {
        n for n, keys in told.layers.items() if any(p.role == "alpha" for p in keys.values())
    }
    if bare and stating:
        yield f"{counted(bare)} without an alpha, and others have one"


def _broken(path: Path, told: Described) -> str | None:
    """What is broken in its numbers, as the end of a sentence."""
    if not told.header.pickled:
        return broken_in(path)
    from storyforge.model.formats.tensors import finite, raw_tensors

    tensors = raw_tensors(path)[1]
    names = (name for name, tensor in tensors.items() if not finite(tensor))
    return next((f"`{name}` holds numbers that are not finite" for name in names), None)


def _base_troubles(told: Described, base: str) -> list[str]:
    """Why a file does not fit a base; StoryForgeError if there is no such base here."""
    path = files_here(base)
    if not path.exists():
        hint = "`--base` takes `pocket`, a folder, a file, or a hub id that was fetched before"
        raise StoryForgeError(f"no base `{base}` on this machine", hint=hint)
    header = look_at_base(path)
    if header.trouble is not None:
        said = f"`{base}` {header.trouble.what}; {header.trouble.remedy}"
        return [f"whether it fits cannot be told: {said}"]
    why = misfit(told, header)
    return [f"it does not fit `{base}`: {why}"] if why else []


def _strengths(path: Path, told: Described) -> dict[float, int]:
    """alpha / rank -> of how many layers, of a sound adapter."""
    strengths: dict[float, int] = {}
    if told.kind in ADAPTERS:
        from storyforge.model.formats.adapter import read_adapter

        for parts in read_adapter(path).layers.values():
            scale = round(parts.scale, 6)
            strengths[scale] = strengths.get(scale, 0) + 1
    return strengths


def _attention(layer: str) -> bool:
    return any(part in layer for part in ("_attn1_to_", "_attn2_to_", "_self_attn_"))


def repair(path: Path, out: Path) -> tuple[str, ...]:
    """Write what can be read of a file as safetensors, each layer with its own alpha.

    Returns what was changed; StoryForgeError if nothing of it is left or known, or `out` is there.
    """
    from storyforge.model.formats.repair import repaired

    if out.exists():
        raise StoryForgeError(f"`{out}` is there already", hint="name a new file with `--repair`")
    return repaired(path, out)
