"""Everything that can be asked of the stages, as plain data: the contract between words and work.

A task can be printed, compared and sent; models never travel. `plan` makes them, from a story.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from storyforge.geometry.box import Box, Corners
from storyforge.geometry.pose import Stand
from storyforge.modelref import NamedValues
from storyforge.settings import (
    Compose,
    Drawn,
    Format,
    FuseSettings,
    Kind,
    Made,
    RegionModel,
    TrainSettings,
)


@dataclass(frozen=True, slots=True)
class RegionTask:
    """What one region shows.

    box             in fractions of the picture
    weight          how strongly the prompt speaks, 1 for plainly
    z               the larger number is in front
    mask            a picture, white where the region is; None for the whole box
    polygon         corners (x, y) in fractions of the picture; None for the whole box
    soft            width of the fading edge, as a fraction of the picture's shorter side
    guidance_scale  None for the panel's
    found           the words of the panel's prompt by which its place is found while the picture
                    begins; None if its place is said
    standing        which of the times that these words stand there mean it, from 0; empty for all
    """

    name: str
    box: Box
    prompt: str
    negative: str
    weight: float
    z: int
    concept: str | None
    mask: Path | None = None
    polygon: Corners | None = None
    soft: float = 0.0
    guidance_scale: float | None = None
    found: str | None = None
    standing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ControlTask:
    """A picture that says where things stand.

    adapter     a folder, or a hub id
    weight      how strongly it speaks, 1 for plainly
    start, end  the part of the steps in which it speaks, each in [0, 1]
    picture     a file; None if it is drawn
    region      a region's name; None for the whole picture
    draw        how `stands` are drawn
    stands      who stands where, those in front last
    """

    adapter: Path | str
    picture: Path | None
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    region: str | None = None
    draw: Drawn | None = None
    stands: tuple[Stand, ...] = ()


@dataclass(frozen=True, slots=True)
class RefineTask:
    """Draw over a picture.

    picture   None for the panel's own first drawing
    scale     how much larger the result is
    strength  how much is drawn anew, in (0, 1]
    """

    picture: Path | None
    scale: float
    strength: float


@dataclass(frozen=True, slots=True)
class HeadTask:
    """A head that is drawn again, larger.

    region  the name of whose head it is
    box     around it and what is near, in fractions of the picture
    """

    region: str
    box: Box
    prompt: str


@dataclass(frozen=True, slots=True)
class Method:
    """How several concepts come into one picture.

    compose           by one fused model, or by each concept in its own region
    regions           whose weights a region with a concept is drawn with
    injection         training-free: a region's own cross-attention
    enhancement       gradient steps that pull subjects into their regions
    isolation         regions do not look at each other
    reinitialisation  regions start from the noise that suits them best
    """

    compose: Compose = "fused"
    regions: RegionModel = "fused"
    injection: bool = True
    enhancement: bool = False
    isolation: bool = False
    reinitialisation: bool = False

    @property
    def needs_concepts(self) -> bool:
        """Whether drawing needs the concepts' own files."""
        return self.compose == "training-free" or self.regions != "fused"


@dataclass(frozen=True, slots=True)
class PanelTask:
    """Draw one picture.

    page      its number in the story, from 1; not part of the key
    fused     the fused model's key; None if there is none
    size      width and height in pixels; None for the base's own
    seed      31 bits, unless the author chose another
    alt       the picture in words; not part of the key
    concepts  pairs of a name and its file's key, where the method needs the files
    loras     pairs of a LoRA's file and its weight
    defaults  how the base draws where nothing is said; part of the key alone
    guided    the part of the steps in which there is guidance; None for the base's own
    heads     those in front last
    decode    pixels along a side of the base's own square picture; None for the usual
    """

    key: str
    panel: str
    page: int
    base: str
    base_hash: str
    fused: str | None
    prompt: str
    negative: str
    regions: tuple[RegionTask, ...]
    size: tuple[int, int] | None
    steps: int | None
    guidance_scale: float | None
    scheduler: str | None
    region_blend: float
    seed: int
    alt: str | None
    guidance_rescale: float | None = None
    method: Method = Method()
    concepts: tuple[tuple[str, str], ...] = ()
    controls: tuple[ControlTask, ...] = ()
    refine: RefineTask | None = None
    loras: tuple[tuple[Path, float], ...] = ()
    defaults: NamedValues = ()
    guided: tuple[float, float] | None = None
    heads: tuple[HeadTask, ...] = ()
    decode: int | None = None


@dataclass(frozen=True, slots=True)
class OwnPictureTask:
    """Make a picture that the author brings ready for books.

    page  its number in the story, from 1
    made  who made it; None for what the file says
    """

    key: str
    panel: str
    page: int
    file: Path
    made: Made | None


@dataclass(frozen=True, slots=True)
class TrainTask:
    """Learn one concept.

    folder   where the pictures lie, with captions and masks beside them
    images   the pictures' names
    base     how to open the base model: `pocket`, an absolute path, or a hub id
    licence  under which the pictures may be used; not part of the key
    clip     how to open the CLIP that judges on the way: `pocket`, an absolute path, or a hub id;
             None if nothing is judged, or by nobody known
    """

    key: str
    concept: str
    kind: Kind
    class_phrase: str
    folder: Path
    images: tuple[str, ...]
    base: str
    base_hash: str
    settings: TrainSettings
    licence: str | None = None
    clip: str | None = None


@dataclass(frozen=True, slots=True)
class FuseTask:
    """Fuse concepts into one model; `concepts` are pairs of a name and its file's key.

    statistics  pairs of a name and the key of what the layers see while that concept is drawn
    ordinary    key of what they see while the base draws without concepts
    """

    key: str
    base: str
    base_hash: str
    concepts: tuple[tuple[str, str], ...]
    settings: FuseSettings
    statistics: tuple[tuple[str, str], ...] = ()
    ordinary: str = ""


@dataclass(frozen=True, slots=True)
class BookTask:
    """Bind one book; `panels` are pairs of a panel's id and its picture's key.

    ppi  pixels an inch of pages that are pictures; 0 for other formats
    """

    key: str
    format: Format
    language: str
    panels: tuple[tuple[str, str], ...]
    ppi: int = 0


@dataclass(frozen=True, slots=True)
class ImportTask:
    """Make a concept of another tool's file.

    class_phrase  the word for it, and what calls it up if the file does not say
    """

    key: str
    concept: str
    kind: Kind
    class_phrase: str
    file: Path
    base: str
    base_hash: str


Task = TrainTask | ImportTask | FuseTask | PanelTask | OwnPictureTask | BookTask
