"""Cameras of the drawn data set: backgrounds, light, colour, lens and framing."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

# People are drawn at twice the size of the image and reduced, which smooths edges.
HEIGHT, WIDTH, ZOOM = 128, 64, 2
_SCENE_WIDTH = 8 * WIDTH


class Camera(NamedTuple):
    """What one camera does to every image it takes.

    People walk along its scene, which is wider than an image; of the yaws in which they
    face, in radians, the first is the most frequent. The gain is for red, green and
    blue. A saturation of 0 is grey. Sharpness is the share of the pixels that the
    sensor has along each side; blur is in pixels of the image, noise in grey levels.
    """

    scene: np.ndarray
    yaws: tuple[float, ...]
    gain: np.ndarray
    gamma: float
    saturation: float
    sharpness: float
    blur: float
    noise: float


def random_camera(rng: np.random.Generator, camid: int) -> Camera:
    """Returns a camera drawn from the generator.

    Neighbouring `camid` differ by the golden angle in the hue of their light and in
    the direction they look at people, so no two cameras are alike by chance.
    """
    hue = 2 * np.pi * (0.618 * camid + rng.uniform(-0.05, 0.05))
    cast = np.cos(hue - 2 * np.pi * np.arange(3) / 3)
    yaw = np.pi / 2 * (camid % 4)
    return Camera(
        scene=_random_scene(rng),
        yaws=(yaw, yaw + np.pi, yaw + np.pi / 2),
        gain=rng.uniform(0.9, 1.1) * (1 + rng.uniform(0.04, 0.08) * cast),
        gamma=rng.uniform(0.9, 1.15),
        saturation=rng.uniform(0.75, 1.1),
        sharpness=rng.uniform(0.5, 1.0),
        blur=rng.uniform(0.2, 0.8),
        noise=rng.uniform(2, 7),
    )


def draw_background(rng: np.random.Generator, camera: Camera) -> np.ndarray:
    """Returns an empty canvas: a piece of the camera's scene with passing clutter."""
    left = rng.integers(_SCENE_WIDTH * ZOOM - WIDTH * ZOOM)
    up = rng.integers(camera.scene.shape[0] - HEIGHT * ZOOM)
    canvas = camera.scene[up:, left:][: HEIGHT * ZOOM, : WIDTH * ZOOM].copy()
    canvas *= rng.uniform(0.8, 1.2)
    for _ in range(rng.integers(0, 5)):
        _clutter(rng, canvas)
    return canvas


def draw_occluder(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Paints a thing that stands between camera and person, in place."""
    height, width = canvas.shape[:2]
    colour = _dull(rng)
    if rng.random() < 0.5:  # something low, such as a bench, a car or a hedge
        up = int(height * rng.uniform(0.62, 0.85))
        canvas[up:] = colour * _mottle(rng, (height - up, width), 0.2)
    else:  # a post or another person's shoulder at one side
        across = int(width * rng.uniform(0.15, 0.35))
        area = canvas[:, :across] if rng.random() < 0.5 else canvas[:, -across:]
        area[:] = colour * _mottle(rng, area.shape[:2], 0.2)


def take_photo(
    rng: np.random.Generator, camera: Camera, canvas: np.ndarray
) -> Image.Image:
    """Returns the image a camera takes of a canvas, RGB of `WIDTH` x `HEIGHT`."""
    light = camera.gain * rng.uniform(0.75, 1.25) * rng.uniform(0.95, 1.05, 3)
    sharpness = camera.sharpness * rng.uniform(0.8, 1.0)
    corners = [canvas[i::ZOOM, j::ZOOM] for i in range(ZOOM) for j in range(ZOOM)]
    pixels = sum(corners) / len(corners)  # (HEIGHT, WIDTH, 3)
    colours = np.clip(pixels * light, 0, 1) ** camera.gamma
    grey = colours.mean(axis=-1, keepdims=True)
    colours = np.clip(grey + camera.saturation * (colours - grey), 0, 1)
    image = Image.fromarray(np.uint8(255 * colours + 0.5))
    sensor = (round(WIDTH * sharpness), round(HEIGHT * sharpness))
    image = image.resize(sensor, Image.Resampling.BILINEAR)
    image = image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    image = image.filter(ImageFilter.GaussianBlur(camera.blur * rng.uniform(0.5, 1.5)))
    noise = rng.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32) * camera.noise
    return Image.fromarray(np.uint8(np.clip(np.asarray(image) + noise, 0, 255)))


def _random_scene(rng: np.random.Generator) -> np.ndarray:
    """Returns walls with doors and windows above a paved or grown ground."""
    height, width = int(HEIGHT * ZOOM * 1.15), _SCENE_WIDTH * ZOOM
    scene = np.empty((height, width, 3), np.float32)
    horizon = int(height * rng.uniform(0.35, 0.8))
    left = 0
    while left < width:
        right = left + rng.integers(60, 240)
        _tile(rng, scene[:horizon, left:right], 14)
        left = right
    _tile(rng, scene[horizon:], 24)
    for _ in range(rng.integers(14, 26)):
        left, up = rng.integers(width), rng.integers(horizon)
        across, down = rng.integers(10, 70), rng.integers(20, 160)
        window = scene[up : up + down, left : left + across]
        window[:] = _dull(rng) * _mottle(rng, window.shape[:2], 0.15)
    return np.clip(scene, 0, 1)


def _tile(rng: np.random.Generator, area: np.ndarray, tiles: int) -> None:
    """Fills an area with bricks, slabs or planks of one colour, in place."""
    area[:] = _dull(rng) * _mottle(rng, area.shape[:2], 0.25)
    across, down = rng.integers(8, tiles * 3, 2)
    joint = rng.uniform(0.7, 1.2)
    area[::down] *= joint
    area[:, ::across] *= joint


def _dull(rng: np.random.Generator) -> np.ndarray:
    """Returns a colour of streets and houses: grey with a tint."""
    return np.clip(rng.uniform(0.2, 0.75) + rng.normal(0, 0.04, 3), 0.05, 0.95)


def _clutter(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Paints an upright shape of random colour somewhere behind the person."""
    height, width = canvas.shape[:2]
    x, y = rng.uniform(0, width), rng.uniform(0.2, 0.9) * height
    across, down = rng.uniform(4, 22), rng.uniform(12, 70)
    rows, columns = np.ogrid[:height, :width]
    x, y = (columns - x) / across, (rows - y) / down
    round_shape = rng.random() < 0.5
    inside = x**2 + y**2 < 1 if round_shape else (abs(x) < 1) & (abs(y) < 1)
    canvas[inside] = _dull(rng) + rng.uniform(-0.2, 0.2, 3)


def _mottle(rng: np.random.Generator, shape: tuple, strength: float) -> np.ndarray:
    """Returns smooth random factors around 1, shape `(height, width, 1)`."""
    height, width = shape
    factors = np.ones((height, width), np.float32)
    for cell in (6, 24):
        coarse = rng.uniform(-1, 1, (height // cell + 2, width // cell + 2))
        image = Image.fromarray(np.float32(coarse))
        factors += strength / 2 * np.asarray(image.resize((width, height)))
    return factors[..., None]
