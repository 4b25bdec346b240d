"""The illustrator: picture-book scenes by seed, with captions, labels and masks. No torch.

A `Picture` says what is to be seen, `imagine` throws one at random, `draw` paints it, `describe`
words it, differently each time and sometimes leaving things unsaid. The embedded model learns from
these pairs. What it shall learn as a concept is held out: `is_held_out` knows it. Not covered:
anything a camera could see.
"""

from storyforge.pocket.world.captions import SAID, describe, look_words, tell
from storyforge.pocket.world.drawing import (
    Face,
    draw,
    faces,
    falling,
    ground,
    ink_width,
    layer,
    put,
    shadow,
    sheet,
)
from storyforge.pocket.world.frames import atlases, face_frame, frames
from storyforge.pocket.world.imagination import imagine, random_look, random_thing
from storyforge.pocket.world.instances import is_held_out, look_held_out
from storyforge.pocket.world.labels import EACH, LABELS, SLOTS, labels
from storyforge.pocket.world.looks import FEATURES, FURS, SKINS, Look
from storyforge.pocket.world.meaning import (
    COLOURS_TOLD,
    FIELDS,
    HAD_BY,
    KIND_CODES,
    MEANINGS,
    MIRROR,
    PLACE_OF,
    SIZE_LAW,
    SOLVED,
    SPOT,
    kinds,
    landmark_groups,
    landmarks,
    meanings,
    named,
    recoloured,
    told_of,
    tried,
)
from storyforge.pocket.world.picture import HOLDABLE, SIDES, VIEWS, Picture, Subject, Thing
from storyforge.pocket.world.places import PLACES

__all__ = [
    "COLOURS_TOLD",
    "EACH",
    "FEATURES",
    "FIELDS",
    "FURS",
    "HOLDABLE",
    "LABELS",
    "KIND_CODES",
    "MEANINGS",
    "MIRROR",
    "HAD_BY",
    "SOLVED",
    "PLACE_OF",
    "PLACES",
    "SAID",
    "SIDES",
    "SIZE_LAW",
    "SKINS",
    "SLOTS",
    "SPOT",
    "VIEWS",
    "Face",
    "Look",
    "Picture",
    "Subject",
    "Thing",
    "describe",
    "atlases",
    "draw",
    "faces",
    "face_frame",
    "falling",
    "frames",
    "ground",
    "imagine",
    "ink_width",
    "is_held_out",
    "kinds",
    "labels",
    "landmark_groups",
    "landmarks",
    "layer",
    "look_held_out",
    "look_words",
    "meanings",
    "named",
    "put",
    "random_look",
    "random_thing",
    "recoloured",
    "shadow",
    "sheet",
    "tell",
    "told_of",
    "tried",
]
