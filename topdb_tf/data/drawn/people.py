"""Drawn people: what an identity looks like, how it moves, how it is painted.

A body is a list of upright parts with elliptic cross-sections (limbs, torso, head,
bags), each wrapped in a texture whose columns run around the body. Turning a person
turns the textures, so a logo is seen from the front and a backpack from behind.
"""

import math
from typing import NamedTuple

import numpy as np

from topdb_tf.data.drawn.clothes import Outfit, Piece, random_outfit


class Part(NamedTuple):
    """One textured piece of a body, in units of the body's height.

    Args:
        top: Upper end: x to the person's side, y up from the ground, z forward.
        bottom: Lower end.
        radii: Half widths across the person, evenly spaced from top to bottom.
        depth: Half depth as a share of the half width.
        texture: Colours in [0, 1], shape `(rows, columns, 3)`; the middle column
            faces forward.
        bias: Added to the part's nearness when deciding what covers what.
    """

    top: tuple[float, float, float]
    bottom: tuple[float, float, float]
    radii: tuple[float, ...]
    depth: float
    texture: np.ndarray
    bias: float = 0.0


class Person(NamedTuple):
    """What makes an identity: its outfit, and the body relative to the average one.

    The build is the width of torso and hips, and the shoulders are relative to it.
    """

    build: float
    limbs: float
    shoulders: float
    head: float
    outfit: Outfit


class Pose(NamedTuple):
    """How a person stands in one image, lengths in units of the body's height.

    Yaw, where the person faces, and light are in radians from the camera. The sign of
    the stride tells which leg is in front; the arms swing relative to it. The spread
    is that of the hands from the hips, the lean that of the head, both sideways.
    """

    yaw: float
    stride: float
    arms: float
    spread: float
    lean: float
    light: float


def random_person(rng: np.random.Generator) -> Person:
    """Returns a person drawn from the generator."""
    return Person(
        build=rng.uniform(0.8, 1.3),
        limbs=rng.uniform(0.8, 1.25),
        shoulders=rng.uniform(0.9, 1.12),
        head=rng.uniform(0.9, 1.12),
        outfit=random_outfit(rng),
    )


def random_pose(rng: np.random.Generator, yaw: float) -> Pose:
    """Returns a moment of a walk drawn from the generator, facing about `yaw`."""
    return Pose(
        yaw=yaw + rng.normal(0, 0.25),
        stride=0.13 * np.sin(rng.uniform(0, 2 * np.pi)),
        arms=rng.uniform(0.4, 1.3),
        spread=rng.uniform(0.0, 0.05),
        lean=rng.normal(0, 0.012),
        light=rng.uniform(-0.9, 0.9),
    )


def draw_person(
    canvas: np.ndarray,
    person: Person,
    pose: Pose,
    *,
    foot: tuple[float, float],
    height: float,
) -> None:
    """Paints a person onto a canvas of colours in [0, 1], in place.

    The foot is the point of the ground on which the person stands, x and y in pixels,
    as the height is.
    """
    parts = body_parts(person, pose)
    cos, sin = np.cos(pose.yaw), np.sin(pose.yaw)
    width = 1.2 * height  # boxes around people are brought to one shape

    def nearness(part):
        x, _, z = (np.add(part.top, part.bottom)) / 2
        return z * cos - x * sin + part.bias

    for part in sorted(parts, key=nearness):
        x, y, z = np.transpose([part.top, part.bottom])
        across = x * cos + z * sin + pose.lean * y
        # Cameras look down a little: what is nearer stands lower in the image.
        up = y - 0.15 * (z * cos - x * sin)
        ends = np.stack([foot[0] + width * across, foot[1] - height * up], axis=-1)
        radii = np.multiply(part.radii, width * np.hypot(cos, part.depth * sin))
        _paint(canvas, ends, radii, part.texture, pose)


def body_parts(person: Person, pose: Pose) -> list[Part]:
    """Returns the parts of a posed person, in no particular order."""
    parts = [*_head(person), *_torso(person)]
    for side in (-1, 1):
        parts += _leg(person, pose, side)
        parts += _arm(person, pose, side)
    return parts + [_thing(bag, away=person.build) for bag in person.outfit.bags]


def _thing(piece: Piece, *, away=1.0, size=1.0, bias=0.0) -> Part:
    """Returns a thing that a person of this build, or a head of this size, carries."""
    x, y, z = piece.centre
    half = piece.height / 2
    return Part(
        (x * away, y + half, z * away),
        (x * away, y - half, z * away),
        tuple(piece.width * size * share for share in piece.outline),
        piece.depth / piece.width,
        piece.texture,
        bias,
    )


def _head(person: Person) -> list[Part]:
    outfit, size = person.outfit, person.head
    skull = tuple(0.062 * size * r for r in (0.3, 0.75, 0.95, 1, 0.95, 0.8, 0.4))
    return [
        Part((0, 0.88, 0), (0, 0.8, 0), (0.033, 0.04), 1.0, outfit.neck),
        Part((0, 1.0, 0.01), (0, 0.855, 0.01), skull, 1.15, outfit.face, 0.02),
        *(_thing(piece, size=size, bias=0.03) for piece in outfit.headwear),
    ]


def _torso(person: Person) -> list[Part]:
    outfit, build = person.outfit, person.build
    wide = person.shoulders * build
    radii = (0.05, 0.115 * wide, 0.122 * wide, 0.112 * build, 0.1 * build)
    radii += (0.1 * build, 0.104 * build)
    parts = [Part((0, 0.84, 0), (0, 0.48, 0), radii, 0.68, outfit.torso)]
    if outfit.lower.tail is not None:
        low = 0.5 - outfit.lower.tail_length
        flare = (0.1 * build, 0.105 * build, (0.1 + outfit.lower.tail_flare) * build)
        parts.append(
            Part((0, 0.52, 0), (0, low, 0), flare, 0.75, outfit.lower.tail, -0.08)
        )
    return parts


def _leg(person: Person, pose: Pose, side: int) -> list[Part]:
    outfit, limbs = person.outfit, person.limbs
    swing = side * pose.stride
    hip = (side * 0.052 * person.build, 0.52, 0)
    knee = (side * 0.05 * person.build, 0.28, 0.55 * swing + 0.02)
    # The leg that swings back is lifted off the ground.
    lift = max(0.0, -swing) * 0.25
    ankle = (side * 0.05 * person.build, 0.035 + lift, swing)
    toe = (ankle[0], lift, swing + 0.025)
    thigh = tuple(r * limbs * outfit.lower.leg_width for r in (0.066, 0.06, 0.048))
    shin = tuple(r * limbs * outfit.lower.leg_width for r in (0.048, 0.044, 0.033))
    shoe = (0.026, 0.032, 0.034)
    return [
        Part(hip, knee, thigh, 1.0, outfit.lower.thigh, -0.2),
        Part(knee, ankle, shin, 1.0, outfit.lower.shin, -0.21),
        Part((toe[0], toe[1] + 0.05, toe[2]), toe, shoe, 2.0, outfit.shoe, -0.2),
    ]


def _arm(person: Person, pose: Pose, side: int) -> list[Part]:
    outfit, limbs = person.outfit, person.limbs
    swing = -side * pose.stride * pose.arms
    across = 0.122 * person.build * person.shoulders
    shoulder = (side * across, 0.805, 0)
    elbow = (side * (across + 0.02 + pose.spread / 2), 0.64, 0.45 * swing - 0.01)
    wrist = (side * (across + 0.015 + pose.spread), 0.49, swing + 0.03)
    hand = (wrist[0], wrist[1] - 0.05, wrist[2])
    upper = tuple(r * limbs for r in (0.025, 0.04, 0.036, 0.033))
    lower = tuple(r * limbs for r in (0.033, 0.032, 0.026))
    palm = tuple(r * limbs for r in (0.02, 0.024, 0.015))
    return [
        Part(shoulder, elbow, upper, 1.0, outfit.upper_arm),
        Part(elbow, wrist, lower, 1.0, outfit.forearm, 0.01),
        Part(wrist, hand, palm, 1.0, outfit.neck, 0.01),
    ]


def _paint(canvas, ends, radii, texture, pose):
    """Paints one part between two points of the canvas."""
    overlap = 0.04 * (ends[1] - ends[0])  # closes bent elbows and knees
    ax, ay, bx, by = np.concatenate([ends[0] - overlap, ends[1] + overlap]).tolist()
    length = max(math.hypot(bx - ax, by - ay), 1e-3)
    dx, dy = (bx - ax) / length, (by - ay) / length
    reach_x, reach_y = float(radii.max()) * abs(dy), float(radii.max()) * abs(dx)
    left, up = int(max(min(ax, bx) - reach_x, 0)), int(max(min(ay, by) - reach_y, 0))
    right, down = int(max(ax, bx) + reach_x + 1), int(max(ay, by) + reach_y + 1)
    window = canvas[up : max(down, 0), left : max(right, 0)]
    if window.size == 0:
        return
    x = np.arange(left, left + window.shape[1], dtype=np.float32) + (0.5 - ax)
    y = np.arange(up, up + window.shape[0], dtype=np.float32)[:, None] + (0.5 - ay)
    along, across = (x * dx + y * dy) / length, x * dy - y * dx  # (rows, columns)
    knots = np.linspace(0, 1, len(radii))
    radius = np.interp(along, knots, radii, left=0, right=0).astype(np.float32)
    inside = np.abs(across) < radius
    along, angle = along[inside], np.arcsin(across[inside] / radius[inside])
    num_rows, num_columns = texture.shape[:2]
    turn = angle / (2 * math.pi) + (1.5 - float(pose.yaw) / (2 * math.pi) % 1)
    row = np.minimum((along * num_rows).astype(np.int32), num_rows - 1)
    column = (turn * num_columns).astype(np.int32) % num_columns
    colours = texture.reshape(-1, 3).take(row * num_columns + column, axis=0)
    shade = 0.7 + 0.3 * np.cos(angle - pose.light)
    window[inside] = colours * shade[:, None]
