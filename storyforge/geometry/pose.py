"""Named poses as keypoints, and pictures of them: stick figures and outlines, for the model's eye.

Keypoints are those of COCO as OpenPose orders and colours them (Cao et al., 2019,
https://arxiv.org/abs/1812.08008; 17 of COCO, and the neck between the shoulders). Faces, hands and
the bodies of four-legged animals are not covered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from PIL import Image, ImageDraw

from storyforge.geometry.box import Box

Pose = Literal["standing", "waving", "sitting", "jumping", "running", "holding"]

Facing = Literal["left", "right"]


POSES: Final[tuple[Pose, ...]] = get_args(Pose)

KEYPOINTS: Final = (
    ("nose", "neck")
    + ("right_shoulder", "right_elbow", "right_wrist")
    + ("left_shoulder", "left_elbow", "left_wrist")
    + ("right_hip", "right_knee", "right_ankle")
    + ("left_hip", "left_knee", "left_ankle")
    + ("right_eye", "left_eye", "right_ear", "left_ear")
)
"""The names of the 18 keypoints in OpenPose's COCO order; left and right are the figure's own."""

LIMBS: Final = ((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10)) + (
    (1, 11),
    (11, 12),
    (12, 13),
    (1, 0),
    (0, 14),
    (14, 16),
    (0, 15),
    (15, 17),
)
"""Pairs of keypoints that a stick joins, in the order of `COLOURS`."""

COLOURS: Final = (
    ((255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0))
    + ((0, 255, 0), (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255))
    + ((0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85))
)
"""RGB of the 18 keypoints; the first 17 are those of the sticks, which are drawn darker."""

BODY: Final = LIMBS[:12]
"""Arms, trunk and legs, without the lines of the face."""

WIDTH: Final = 0.7
"""The room of a pose is this wide and 1 high, with the ground at its lower edge."""

_STICK: Final = 4 / 512
"""Half the width of a stick and radius of a joint, in sides of the picture: as ControlNet's."""

_DARKER: Final = 0.6
_THICK: Final = 0.34
"""Half the width of a limb in a sketch, in radiuses of the head."""

_FINER: Final = 4
"""Pictures are drawn this much larger and shrunk, for smooth edges."""


class Joint(NamedTuple):
    """A keypoint's place, from the top left corner."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A body in a pose.

    joints  18, in the order of `KEYPOINTS`; None for those that are turned away
    head    the middle of the head
    radius  of the head
    """

    joints: tuple[Joint | None, ...]
    head: Joint
    radius: float

    def placed(self, left: float, top: float, width: float, height: float) -> Skeleton:
        """From the pose's own room into a box of any unit: as large as fits, on its floor."""
        scale = min(height, width / WIDTH)
        x, y = left + (width - WIDTH * scale) / 2, top + height - scale

        return self.enlarged(scale)._shifted(x, y)

    def enlarged(self, times: float) -> Skeleton:
        """All of it, its place too, in a unit that is smaller by so much."""
        joints = tuple(j and Joint(times * j.x, times * j.y) for j in self.joints)
        head = Joint(times * self.head.x, times * self.head.y)
        return Skeleton(joints, head, times * self.radius)

    def _shifted(self, x: float, y: float) -> Skeleton:
        joints = tuple(j and Joint(x + j.x, y + j.y) for j in self.joints)
        return Skeleton(joints, Joint(x + self.head.x, y + self.head.y), self.radius)

    def mirrored(self) -> Skeleton:
        """The pose turned to the other side of its room; the right hand stays a right hand."""

        def turned(joint: Joint | None) -> Joint | None:
            """A joint seen from the other side."""
            return None if joint is None else Joint(WIDTH - joint.x, joint.y)

        joints = tuple(turned(self.joints[_OTHER_SIDE[index]]) for index in range(len(KEYPOINTS)))
        return Skeleton(joints, Joint(WIDTH - self.head.x, self.head.y), self.radius)

    def limbs(self) -> list[tuple[Joint, Joint]]:
        """The ends of arms, trunk and legs."""
        ends = [(self.joints[a], self.joints[b]) for a, b in BODY]
        return [(a, b) for a, b in ends if a is not None and b is not None]


def _other_side(name: str) -> str:
    side, _, part = name.partition("_")
    return {"right": f"left_{part}", "left": f"right_{part}"}.get(side, name)


_OTHER_SIDE: Final = tuple(KEYPOINTS.index(_other_side(name)) for name in KEYPOINTS)

_Point = tuple[float, float]


def _body(
    right_arm: tuple[_Point, _Point],
    left_arm: tuple[_Point, _Point],
    right_leg: tuple[_Point, _Point],
    left_leg: tuple[_Point, _Point],
    lower: float = 0.0,
) -> Skeleton:
    """A child of four heads' height that faces us, its trunk `lower` than one that stands.

    Limbs are elbow and wrist, knee and ankle, in heights, from the middle and the top; the trunk
    and the face are the same in every pose.
    """
    face = ((0.0, 0.17), (0.0, 0.31))
    look = ((-0.045, 0.14), (0.045, 0.14), (-0.1, 0.16), (0.1, 0.16))
    shoulders, hips = ((-0.1, 0.31), (0.1, 0.31)), ((-0.06, 0.6), (0.06, 0.6))

    def sunk(points: Sequence[_Point]) -> list[_Point]:
        """Points as far down as the body sits."""
        return [(x, y + lower) for x, y in points]

    right_shoulder, left_shoulder = sunk(shoulders)
    right_hip, left_hip = sunk(hips)
    points = [
        *sunk(face),
        *(right_shoulder, *right_arm),
        *(left_shoulder, *left_arm),
        *(right_hip, *right_leg),
        *(left_hip, *left_leg),
        *sunk(look),
    ]
    joints = tuple(Joint(x + WIDTH / 2, y) for x, y in points)
    return Skeleton(joints, Joint(WIDTH / 2, 0.14 + lower), 0.125)


def _runner() -> Skeleton:
    """Seen from its right side, on its way to the right of the picture."""
    points: tuple[_Point | None, ...] = (
        *((0.13, 0.18), (0.05, 0.31)),
        *((0.02, 0.32), (-0.14, 0.4), (-0.14, 0.54)),
        *((0.08, 0.31), (0.16, 0.44), (0.28, 0.36)),
        *((-0.03, 0.6), (-0.08, 0.79), (-0.28, 0.82)),
        *((0.03, 0.6), (0.18, 0.71), (0.19, 0.93)),
        *((0.1, 0.14), None, (0.02, 0.16), None),
    )
    joints = tuple(
        None if point is None else Joint(point[0] + WIDTH / 2, point[1]) for point in points
    )
    return Skeleton(joints, Joint(WIDTH / 2 + 0.05, 0.15), 0.125)


_DOWN: Final[tuple[tuple[_Point, _Point], tuple[_Point, _Point]]] = (
    ((-0.16, 0.44), (-0.17, 0.58)),
    ((0.16, 0.44), (0.17, 0.58)),
)
_UPRIGHT: Final[tuple[tuple[_Point, _Point], tuple[_Point, _Point]]] = (
    ((-0.07, 0.78), (-0.07, 0.96)),
    ((0.07, 0.78), (0.07, 0.96)),
)

_SKELETONS: Final[dict[Pose, Skeleton]] = {
    "standing": _body(*_DOWN, *_UPRIGHT),
    "waving": _body(_DOWN[0], ((0.22, 0.27), (0.29, 0.11)), *_UPRIGHT),
    "sitting": _body(
        ((-0.18, 0.67), (-0.14, 0.8)),
        ((0.18, 0.67), (0.14, 0.8)),
        ((-0.2, 0.78), (-0.13, 0.95)),
        ((0.2, 0.78), (0.13, 0.95)),
        lower=0.22,
    ),
    "jumping": _body(
        ((-0.21, 0.24), (-0.28, 0.08)),
        ((0.21, 0.24), (0.28, 0.08)),
        ((-0.19, 0.68), (-0.13, 0.84)),
        ((0.19, 0.68), (0.13, 0.84)),
        lower=-0.01,
    ),
    "running": _runner(),
    "holding": _body(((-0.19, 0.44), (-0.08, 0.48)), ((0.19, 0.44), (0.08, 0.48)), *_UPRIGHT),
}
"""In the room of a pose. All look at us, but for the one that runs to the right of the picture."""

_GLANCE: Final = 0.045
"""How far, in heights, a face moves that turns to the side."""


def skeleton(pose: Pose, facing: Facing | None = None) -> Skeleton:
    """The body in a pose, in a room 0.7 wide and 1 high; to the left it is mirrored."""
    made = _SKELETONS[pose]
    if facing is None:
        return made
    right = _glancing_right(made)
    return right.mirrored() if facing == "left" else right


def _glancing_right(body: Skeleton) -> Skeleton:
    """The face turned to the right of the picture, the far ear out of sight."""
    joints = list(body.joints)
    far = KEYPOINTS.index("left_ear")
    if joints[far] is None:
        return body
    joints[far] = None
    for name in ("nose", "right_eye", "left_eye", "right_ear"):
        index = KEYPOINTS.index(name)
        joint = joints[index]
        if joint is not None:
            joints[index] = Joint(joint.x + _GLANCE, joint.y)
    return Skeleton(tuple(joints), body.head, body.radius)


@dataclass(frozen=True, slots=True)
class Stand:
    """Somebody or something in its place in a picture; no pose for what is no body.

    box  in fractions of the picture
    """

    box: Box
    pose: Pose | None = "standing"
    facing: Facing | None = None

    def skeleton(self, width: float, height: float) -> Skeleton | None:
        """The body in a picture of this size."""
        if self.pose is None:
            return None
        box = self.box
        return skeleton(self.pose, self.facing).placed(
            box.x0 * width, box.y0 * height, box.width * width, box.height * height
        )


HEAD_ROOM: Final = 0.72
"""Side of the square around a head with what it wears, in heights of the figure: drawn creatures
have larger heads than people, and hats."""


def head_box(stand: Stand, aspect: float) -> Box:
    """The square around the head of who stands there, in fractions of a picture.

    aspect  the picture's width by its height
    """
    body = stand.skeleton(aspect, 1.0)
    if body is None:
        raise ValueError("what has no pose has no head")
    box = stand.box
    tall = min(box.height, box.width * aspect / WIDTH)
    side = HEAD_ROOM * tall
    # Hats and ears are above the head.
    top = body.head.y - body.radius - 0.1 * tall
    left = (body.head.x - side / 2) / aspect
    return Box(
        x0=max(0.0, left),
        y0=max(0.0, top),
        x1=min(1.0, left + side / aspect),
        y1=min(1.0, top + side),
    )


def keypoint_picture(stands: Sequence[Stand], width: int, height: int) -> Image.Image:
    """Stick figures in OpenPose's colours on black, RGB, `width` x `height` pixels.

    Later figures are drawn over earlier ones; what has no pose is left out.
    """
    bodies = [stand.skeleton(width, height) for stand in stands]
    return stick_figures([body for body in bodies if body is not None], width, height)


def stick_figures(bodies: Sequence[Skeleton], width: int, height: int) -> Image.Image:
    """Bodies, placed in pixels, as `keypoint_picture` draws them."""
    picture = Image.new("RGB", (width * _FINER, height * _FINER))
    pen = ImageDraw.Draw(picture)
    radius = max(1.0, _STICK * min(width, height)) * _FINER
    for body in (each.enlarged(_FINER) for each in bodies):
        for (a, b), colour in zip(LIMBS, COLOURS, strict=False):
            start, end = body.joints[a], body.joints[b]
            if start is not None and end is not None:
                darker = tuple(round(_DARKER * channel) for channel in colour)
                pen.polygon(_spindle(start, end, radius), darker)
        for joint, colour in zip(body.joints, COLOURS, strict=True):
            if joint is not None:
                pen.ellipse(_circle(joint, radius), colour)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def sketch_picture(stands: Sequence[Stand], width: int, height: int) -> Image.Image:
    """Outlines in white on black, greyscale, `width` x `height` pixels.

    Later figures hide what is behind them; what has no pose is a rounded shape that fills its box.
    """
    picture = Image.new("L", (width * _FINER, height * _FINER))
    pen = ImageDraw.Draw(picture)
    line = max(1.0, _STICK * min(width, height)) * _FINER
    for stand in stands:
        body = stand.skeleton(*picture.size)
        if body is None:
            _draw_thing(pen, stand.box, picture.size, line)
        else:
            _draw_body(pen, body, line)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _draw_thing(pen: ImageDraw.ImageDraw, box: Box, size: tuple[int, int], line: float) -> None:
    width, height = size
    corners = (box.x0 * width, box.y0 * height, box.x1 * width, box.y1 * height)
    inner = (corners[0] + line, corners[1] + line, corners[2] - line, corners[3] - line)
    radius = 0.35 * min(box.width * width, box.height * height)
    pen.rounded_rectangle(inner, radius, fill=0, outline=255, width=max(1, round(line)))


def _draw_body(pen: ImageDraw.ImageDraw, body: Skeleton, line: float) -> None:
    """All parts in white, then all of them smaller in black: their common outline is left."""
    thick = _THICK * body.radius
    corners = [joint for index in (2, 5, 11, 8) if (joint := body.joints[index]) is not None]
    sides = list(zip(corners, (*corners[1:], corners[0]), strict=True))
    for grow, grey in ((line, 255), (0.0, 0)):
        pen.polygon(corners, grey)
        for a, b in (*body.limbs(), *sides):
            _draw_capsule(pen, a, b, thick + grow, grey)
    for shoulder, elbow, wrist in (body.joints[2:5], body.joints[5:8]):
        if shoulder is not None and elbow is not None and wrist is not None:
            _draw_capsule(pen, elbow, wrist, thick + line, 255)
            _draw_capsule(pen, elbow, wrist, thick, 0)
            _draw_capsule(pen, shoulder, elbow, thick, 0)
    pen.ellipse(_circle(body.head, body.radius + line), 255)
    pen.ellipse(_circle(body.head, body.radius), 0)
    for eye in body.joints[14:16]:
        if eye is not None:
            pen.ellipse(_circle(eye, 0.12 * body.radius), 255)


def _draw_capsule(pen: ImageDraw.ImageDraw, a: Joint, b: Joint, radius: float, grey: int) -> None:
    pen.line((a, b), grey, round(2 * radius))
    for end in (a, b):
        pen.ellipse(_circle(end, radius), grey)


def _circle(centre: Joint, radius: float) -> tuple[float, float, float, float]:
    return centre.x - radius, centre.y - radius, centre.x + radius, centre.y + radius


def _spindle(a: Joint, b: Joint, radius: float) -> list[tuple[float, float]]:
    """An ellipse from end to end, as OpenPose draws a limb."""
    length, turn = math.dist(a, b) / 2, math.atan2(b.y - a.y, b.x - a.x)
    middle = Joint((a.x + b.x) / 2, (a.y + b.y) / 2)
    outline = []
    for step in range(48):
        along = length * math.cos(math.tau * step / 48)
        across = radius * math.sin(math.tau * step / 48)
        outline.append(
            (
                middle.x + along * math.cos(turn) - across * math.sin(turn),
                middle.y + along * math.sin(turn) + across * math.cos(turn),
            )
        )
    return outline
