"""Clothes, hair and bags of drawn people, as textures wrapped around the body."""

from typing import NamedTuple

import numpy as np

# Few colours, so that many people share them and differ in cut and pattern.
UPPER_COLOURS = {
    "black": (0.10, 0.10, 0.11),
    "white": (0.88, 0.88, 0.86),
    "grey": (0.48, 0.49, 0.50),
    "navy": (0.13, 0.18, 0.38),
    "red": (0.68, 0.13, 0.15),
    "green": (0.20, 0.45, 0.25),
}
LOWER_COLOURS = {
    "black": (0.11, 0.11, 0.12),
    "denim": (0.22, 0.31, 0.48),
    "grey": (0.42, 0.42, 0.43),
    "beige": (0.66, 0.58, 0.44),
}
ACCENT_COLOURS = UPPER_COLOURS | {
    "yellow": (0.86, 0.72, 0.18),
    "orange": (0.86, 0.42, 0.12),
    "sky": (0.35, 0.58, 0.82),
    "pink": (0.85, 0.48, 0.60),
    "brown": (0.38, 0.24, 0.15),
}
SHOE_COLOURS = {
    name: ACCENT_COLOURS[name] for name in ("black", "white", "brown", "grey", "red")
}
HAIR_COLOURS = (
    (0.07, 0.06, 0.06),
    (0.25, 0.15, 0.09),
    (0.45, 0.28, 0.14),
    (0.78, 0.64, 0.36),
    (0.62, 0.62, 0.62),
    (0.55, 0.20, 0.10),
)
SKIN_COLOURS = (
    (0.92, 0.76, 0.66),
    (0.84, 0.65, 0.52),
    (0.70, 0.50, 0.37),
    (0.52, 0.35, 0.25),
    (0.36, 0.24, 0.18),
)
UPPERS = ("tank", "t-shirt", "shirt", "jacket", "open jacket", "hoodie", "coat")
LOWERS = ("trousers", "slim", "wide", "shorts", "skirt", "long skirt", "dress")
PATTERNS = ("plain", "hoops", "pinstripes", "checks", "dots", "yoke", "band", "sides")
PRINTS = ("none", "circle", "square", "triangle", "bar")
HAIRS = ("bald", "short", "bob", "long", "ponytail", "bun", "afro")
HATS = ("cap", "beanie", "brim")
BAGS = ("none", "none", "backpack", "backpack", "shoulder", "handbag", "suitcase")

# Texture coordinates: angle around the body, 0 in front; share of the way down.
ANGLE, DOWN = np.meshgrid(
    (np.arange(96) + 0.5) / 96 * 2 * np.pi - np.pi, (np.arange(48) + 0.5) / 48
)


class Piece(NamedTuple):
    """A thing worn or carried, in units of the body's height.

    Its centre is x to the person's side, y up, z forward. Width, across the person, and
    depth are halves. The texture has colours in [0, 1], of shape `(rows, columns, 3)`.
    The outline has shares of the width from top to bottom.
    """

    centre: tuple[float, float, float]
    height: float
    width: float
    depth: float
    texture: np.ndarray
    outline: tuple[float, ...] = (0.75, 1, 1, 1, 0.9)


class Lower(NamedTuple):
    """Textures below the hips; the tail is what hangs there of a skirt or a coat.

    The width of the trousers is relative to the leg. The flare is how much wider the
    tail is at the bottom.
    """

    thigh: np.ndarray
    shin: np.ndarray
    leg_width: float
    tail: np.ndarray | None
    tail_length: float
    tail_flare: float


class Outfit(NamedTuple):
    """Textures and things of one person: the face with hair, the torso with straps.

    The neck is bare skin; headwear is hats, and hair that stands off the head.
    """

    face: np.ndarray
    neck: np.ndarray
    torso: np.ndarray
    upper_arm: np.ndarray
    forearm: np.ndarray
    lower: Lower
    shoe: np.ndarray
    headwear: tuple[Piece, ...]
    bags: tuple[Piece, ...]


def random_outfit(rng: np.random.Generator) -> Outfit:
    """Returns clothes, hair and bags drawn from the generator."""
    skin = _plain(SKIN_COLOURS[rng.integers(len(SKIN_COLOURS))])
    face, headwear = _head(rng, skin)
    torso, upper_arm, forearm, tail = _upper(rng, skin)
    lower = _lower(rng, skin, torso)
    if lower.tail is None and tail is not None:
        lower = lower._replace(tail=tail, tail_length=0.14, tail_flare=0.02)
    bags = _carry(rng, torso)
    return Outfit(
        face=face,
        neck=skin,
        torso=torso,
        upper_arm=upper_arm,
        forearm=forearm,
        lower=lower,
        shoe=_plain(_pick(rng, SHOE_COLOURS)),
        headwear=headwear,
        bags=bags,
    )


def _plain(colour) -> np.ndarray:
    return np.broadcast_to(np.float32(colour), (*ANGLE.shape, 3)).copy()


def _pick(rng: np.random.Generator, colours: dict) -> np.ndarray:
    """Returns one of the colours, slightly off."""
    colour = list(colours.values())[rng.integers(len(colours))]
    return np.clip(colour + rng.normal(0, 0.02, 3), 0.04, 0.95)


def _pattern(rng: np.random.Generator, kind: str, colour, accent) -> np.ndarray:
    """Returns a cloth of one colour with a pattern in the other."""
    rows, columns = rng.integers(3, 7), rng.integers(5, 10)
    share = rng.uniform(0.3, 0.55)
    across, around = DOWN * rows % 1 < share, ANGLE / (2 * np.pi) * columns % 1 < share
    split = rng.uniform(0.25, 0.55)
    marked = {
        "plain": np.zeros_like(across),
        "hoops": across,
        "pinstripes": around,
        "checks": across ^ around,
        "dots": (DOWN * rows % 1 - 0.5) ** 2 + (ANGLE * columns / 6 % 1 - 0.5) ** 2
        < 0.09,
        "yoke": split > DOWN,
        "band": np.abs(DOWN - split) < 0.1,
        "sides": np.abs(np.sin(ANGLE)) > 0.8,
    }[kind]
    cloth = _plain(colour)
    cloth[marked] = accent
    return cloth


def _print(rng: np.random.Generator, cloth: np.ndarray) -> None:
    """Adds a print to the chest and perhaps another one to the back, in place."""
    for middle, share in ((0.0, 0.6), (np.pi, 0.35)):
        kind, colour = rng.choice(PRINTS[1:]), _pick(rng, ACCENT_COLOURS)
        size, row = rng.uniform(0.35, 0.65), rng.uniform(0.28, 0.45)
        if rng.random() > share:
            continue
        x = np.abs((ANGLE - middle + np.pi) % (2 * np.pi) - np.pi) / size
        y = (DOWN - row) * 3.2 / size
        inside = {
            "circle": x**2 + y**2 < 1,
            "square": np.maximum(x, np.abs(y)) < 0.85,
            "triangle": (np.abs(y) < 0.9) & (x < (y + 0.9) * 0.6),
            "bar": (x < 1.3) & (np.abs(y) < 0.3),
        }[str(kind)]
        cloth[inside] = colour


def _upper(rng: np.random.Generator, skin: np.ndarray) -> tuple:
    """Returns the textures of torso, upper arm, forearm and coat tail or `None`."""
    kind = rng.choice(UPPERS)
    pattern = rng.choice(PATTERNS)
    colour, accent = _pick(rng, UPPER_COLOURS), _pick(rng, ACCENT_COLOURS)
    torso = _pattern(rng, pattern, colour, accent)
    inner, plain = _pick(rng, ACCENT_COLOURS), _plain(colour)
    sleeve = _plain(accent) if rng.random() < 0.25 else plain
    if pattern in ("hoops", "checks"):
        sleeve = torso.copy()
    if pattern in ("plain", "sides") and kind != "open jacket":
        _print(rng, torso)
    upper_arm, forearm = sleeve.copy(), sleeve.copy()
    if kind in ("tank", "t-shirt"):
        upper_arm[DOWN > (0.15 if kind == "tank" else 0.65)] = skin[0, 0]
        forearm = skin
    if kind in ("jacket", "hoodie", "coat"):
        torso[np.abs(ANGLE) < 0.06] = 0.5 * colour
    if kind in ("open jacket", "coat"):
        opening = 0.3 + 0.35 * DOWN if kind == "open jacket" else 0.5 - DOWN
        torso[np.abs(ANGLE) < opening] = inner
    if kind == "hoodie":
        torso[(np.abs(ANGLE) > 2.0) & (DOWN < 0.25)] = 0.7 * accent
        torso[(np.abs(ANGLE) < 0.7) & (np.abs(DOWN - 0.75) < 0.09)] = 0.7 * colour
    return torso, upper_arm, forearm, plain if kind == "coat" else None


def _lower(rng: np.random.Generator, skin: np.ndarray, torso: np.ndarray) -> Lower:
    kind = rng.choice(LOWERS)
    colour, accent = _pick(rng, LOWER_COLOURS), _pick(rng, ACCENT_COLOURS)
    length = {"skirt": 0.2, "long skirt": 0.38, "dress": 0.24}.get(kind, 0.0)
    cloth = _plain(colour)
    if rng.random() < 0.3:
        cloth[np.abs(np.abs(ANGLE) - np.pi / 2) < 0.4] = accent
    elif rng.random() < 0.2:
        cloth = _pattern(rng, "checks", colour, accent)
    thigh, shin = cloth.copy(), cloth.copy()
    if kind == "shorts":
        shin = skin.copy()
    elif length:
        thigh, shin = skin.copy(), skin.copy()
    if rng.random() < 0.3:
        shin[rng.uniform(0.4, 0.85) < DOWN] = _pick(rng, ACCENT_COLOURS)
    return Lower(
        thigh=thigh,
        shin=shin,
        leg_width={"slim": 0.85, "wide": 1.3, "shorts": 1.1}.get(kind, 1.0),
        tail=(torso.copy() if kind == "dress" else cloth) if length else None,
        tail_length=length,
        tail_flare=rng.uniform(0.0, 0.06),
    )


def _head(rng: np.random.Generator, skin: np.ndarray) -> tuple:
    """Returns the texture of the head and the hair and hats that stand off it."""
    hair = HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))]
    kind, hat = rng.choice(HAIRS), rng.choice(HATS)
    face, locks, pieces = skin.copy(), _plain(hair), []
    ball = (0.5, 0.85, 1, 1, 0.85, 0.5)
    if kind != "bald":
        low = 0.6 if kind in ("short", "bun") else 0.9
        face[(DOWN < 0.28) | ((np.abs(ANGLE) > 1.1) & (low > DOWN))] = hair
    if rng.random() < 0.25:
        face[(np.abs(ANGLE) < 1.2) & (DOWN > 0.68)] = hair
    if rng.random() < 0.25:
        face[(np.abs(ANGLE) < 1.2) & (np.abs(DOWN - 0.47) < 0.06)] = 0.05
    if kind == "bob":
        pieces.append(Piece((0, 0.9, -0.02), 0.12, 0.072, 0.06, locks))
    elif kind == "long":
        pieces.append(Piece((0, 0.84, -0.055), 0.24, 0.07, 0.035, locks))
    elif kind == "ponytail":
        pieces.append(Piece((0, 0.86, -0.09), 0.17, 0.025, 0.03, locks))
    elif kind == "bun":
        pieces.append(Piece((0, 0.985, -0.05), 0.06, 0.035, 0.035, locks, ball))
    elif kind == "afro":
        pieces.append(Piece((0, 0.965, -0.025), 0.14, 0.09, 0.08, locks, ball))
    if rng.random() < 0.3:
        cloth = _plain(_pick(rng, ACCENT_COLOURS))
        dome = (0.5, 0.9, 1, 1)
        pieces.append(Piece((0, 0.985, 0.01), 0.065, 0.066, 0.075, cloth, dome))
        if hat == "cap":
            pieces.append(Piece((0, 0.955, 0.07), 0.018, 0.05, 0.05, cloth))
        elif hat == "brim":
            pieces.append(Piece((0, 0.957, 0.01), 0.02, 0.11, 0.11, cloth))
    return face, tuple(pieces)


def _carry(rng: np.random.Generator, torso: np.ndarray) -> tuple[Piece, ...]:
    """Returns the bags; draws their straps onto the torso, in place."""
    kind, side = rng.choice(BAGS), rng.choice((-1, 1))
    colour, accent = _pick(rng, ACCENT_COLOURS), _pick(rng, ACCENT_COLOURS)
    cloth, size = _plain(colour), rng.uniform(0.85, 1.2)
    if rng.random() < 0.5:
        cloth[(DOWN > 0.55) & (DOWN < 0.85)] = accent
    if kind == "backpack":
        torso[(np.abs(np.abs(ANGLE) - 0.6) < 0.14) & (DOWN < 0.6)] = colour
        return (Piece((0, 0.69, -0.11), 0.24 * size, 0.085 * size, 0.05, cloth),)
    if kind == "shoulder":
        across = np.arcsin(np.sin(ANGLE))  # the same line in front and behind
        torso[np.abs(side * across - (DOWN - 0.4) * 2.6) < 0.17] = colour
        return (Piece((side * 0.12, 0.47, 0), 0.14 * size, 0.035, 0.085, cloth),)
    if kind == "handbag":
        return (Piece((side * 0.17, 0.37, 0.02), 0.13 * size, 0.04, 0.08, cloth),)
    if kind == "suitcase":
        return (Piece((side * 0.2, 0.16, -0.08), 0.28 * size, 0.07, 0.045, cloth),)
    return ()
