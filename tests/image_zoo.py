"""Image files of many kinds, and whether they are taken.

`GOOD` are files that people bring, `BAD` those that are refused with the reason.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(height=40, width=24, seed=0):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (-(-height // 4), -(-width // 4), 3))
    return np.kron(blocks, np.ones((4, 4, 1)))[:height, :width].astype(np.uint8)


def encoded(image, kind="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def jpeg(height=128, width=64, seed=0, **options):
    return encoded(picture(height, width, seed), "JPEG", **options)


def chunk(name, fields):
    check = zlib.crc32(name + fields).to_bytes(4, "big")
    return len(fields).to_bytes(4, "big") + name + fields + check


def png_header(width, height, depth=8):
    """The start of a PNG that claims a size; there is nothing behind it."""
    fields = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields)


def ended(contents, share):
    """A JPEG of which the end is lost, as a repaired download has it."""
    return contents[: int(len(contents) * share)] + b"\xff\xd9"


def claiming(contents, height, width):
    """A JPEG whose header claims another size."""
    place = contents.index(b"\xff\xc0") + 5
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return contents[:place] + size + contents[place + 4 :]


def without_scans(contents, kept):
    """A progressive JPEG of which the first scans are left."""
    place = -1
    for _ in range(kept + 1):
        place = contents.index(b"\xff\xda", place + 1)
    cut = contents.rfind(b"\xff\xc4", 0, place)  # tables before the scan, if any
    between = contents.rfind(b"\xff\xda", 0, place)
    return contents[: cut if cut > between else place] + b"\xff\xd9"


def with_exif(thumbnail=None, orientation=None):
    """A JPEG with a note of how the camera was held, or with a copy in small."""
    contents = jpeg()
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    block = exif.tobytes() + (thumbnail or b"")
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
    return contents[:2] + segment + contents[2:]


def with_bad_check(contents, name):
    """A PNG with a wrong checksum of the first chunk of that name."""
    place = contents.index(name)
    length = int.from_bytes(contents[place - 4 : place], "big")
    changed = bytearray(contents)
    changed[place + 4 + length] ^= 1
    return bytes(changed)


def cut_png(contents, share):
    """A PNG whose data is cut, with right checksums and an end mark."""
    place = contents.index(b"IDAT")
    length = int.from_bytes(contents[place - 4 : place], "big")
    data = contents[place + 4 : place + 4 + int(length * share)]
    return contents[: place - 4] + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bomb(side):
    """A small PNG of many grey pixels."""
    fields = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes((side + 1) * side), 9)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields)
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def scan_bomb(count):
    """A progressive JPEG that sends the same scan again and again."""
    contents = jpeg(progressive=True)
    place = contents.rindex(b"\xff\xda")
    return contents[:place] + contents[place:-2] * count + b"\xff\xd9"


def frames(kind, **options):
    first, second = (Image.fromarray(picture(seed=seed)) for seed in (0, 1))
    return encoded(first, kind, save_all=True, append_images=[second], **options)


def interlaced_png():
    """A PNG in seven passes (Adam7), grey and without filters."""
    height, width = 24, 16
    pixels = picture(height, width)[..., 0]
    steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4))
    steps += ((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, right in steps
        for row in pixels[top::down, left::right]
    )
    fields = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields)
    return start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


_COLOUR = Image.fromarray(picture(128, 64))
_JPEG, _PNG = jpeg(), encoded(_COLOUR)
_PROGRESSIVE = jpeg(progressive=True)
_GREY = np.full((128, 64, 3), 128, np.uint8)
_HALF_GREY = np.concatenate([picture(64, 64), _GREY[:64]])

GOOD = {
    "jpeg": _JPEG,
    "grey jpeg": encoded(picture()[..., 0], "JPEG"),
    "progressive jpeg": _PROGRESSIVE,
    "progressive grey jpeg": encoded(_COLOUR.convert("L"), "JPEG", progressive=True),
    "optimized jpeg": jpeg(optimize=True),
    "jpeg 4:4:4": jpeg(subsampling=0),
    "jpeg 4:2:2": jpeg(subsampling=1),
    "jpeg of RGB": jpeg(keep_rgb=True),
    "jpeg of odd size": jpeg(97, 33),
    "jpeg with restarts": jpeg(restart_marker_blocks=2),
    "progressive with restarts": jpeg(progressive=True, restart_marker_rows=1),
    "jpeg of quality 1": jpeg(quality=1),
    "jpeg with a comment": jpeg(comment=b"\xff\xd9\xff\xda\xff\xc2"),
    "jpeg with a thumbnail": with_exif(thumbnail=jpeg(16, 8)),
    "progressive thumbnail": with_exif(thumbnail=jpeg(16, 8, progressive=True)),
    "turned by EXIF": with_exif(orientation=6),
    "jpeg with a profile": jpeg(icc_profile=b"\xff\xda\xff\xc2" * 100),
    "junk behind a jpeg": _JPEG + b"\xff\xda\xff\xd9 junk" * 9,
    "two jpegs (MPO)": frames("MPO"),
    "one grey": encoded(_GREY, "JPEG"),
    "one grey, progressive": encoded(_GREY, "JPEG", progressive=True),
    "grey below": encoded(_HALF_GREY, "JPEG"),
    "black": encoded(_GREY * 0, "JPEG"),
    "slender jpeg": jpeg(1000, 8),
    "smallest": encoded(picture(4, 4)),
    "png": _PNG,
    "grey png": encoded(picture()[..., 0]),
    "palette png": encoded(_COLOUR.quantize(16)),
    "palette with transparency": encoded(_COLOUR.quantize(16), transparency=3),
    "png of one bit": encoded(_COLOUR.convert("1")),
    "grey with transparency": encoded(_COLOUR.convert("LA")),
    "png with transparency": encoded(_COLOUR.convert("RGBA")),
    "interlaced png": interlaced_png(),
    "junk behind a png": _PNG + b"junk",
    "png called jpg": _PNG,
}

BAD = {
    "empty": (b"", "is empty"),
    "one byte": (b"\xff", "neither a JPEG nor a PNG"),
    "text": (b"no image at all", "neither a JPEG nor a PNG"),
    "page": (b"<!DOCTYPE html><html>404</html>" * 9, "neither a JPEG nor a PNG"),
    "zeros": (bytes(5000), "neither a JPEG nor a PNG"),
    "gif": (encoded(_COLOUR, "GIF"), "neither a JPEG nor a PNG"),
    "moving gif": (frames("GIF"), "neither a JPEG nor a PNG"),
    "bmp": (encoded(_COLOUR, "BMP"), "neither a JPEG nor a PNG"),
    "grey bmp": (encoded(_COLOUR.convert("L"), "BMP"), "neither a JPEG nor a PNG"),
    "webp": (encoded(_COLOUR, "WEBP"), "neither a JPEG nor a PNG"),
    "moving webp": (frames("WEBP"), "neither a JPEG nor a PNG"),
    "tiff": (encoded(_COLOUR, "TIFF"), "neither a JPEG nor a PNG"),
    "ppm": (encoded(_COLOUR, "PPM"), "neither a JPEG nor a PNG"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "neither a JPEG nor a PNG"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(99), "neither a JPEG nor a PNG"),
    "avif": (b"\0\0\0\x18ftypavif" + bytes(99), "neither a JPEG nor a PNG"),
    "start of a jpeg": (b"\xff\xd8\xff", "damaged"),
    "header of a jpeg": (_JPEG[: _JPEG.index(b"\xff\xda")], "damaged"),
    "header and end": (_JPEG[: _JPEG.index(b"\xff\xda")] + b"\xff\xd9", "damaged"),
    "half a jpeg": (_JPEG[: len(_JPEG) // 2], "damaged"),
    "half a progressive": (_PROGRESSIVE[: len(_PROGRESSIVE) // 2], "lost a part"),
    "half a png": (_PNG[: len(_PNG) // 2], "damaged"),
    "start of a png": (_PNG[:20], "damaged"),
    "cut png with an end": (cut_png(_PNG, 0.5), "damaged"),
    "png of wrong sums": (with_bad_check(_PNG, b"IDAT"), "damaged"),
    "png of a wrong header": (with_bad_check(_PNG, b"IHDR"), "damaged"),
    "1 x 1": (encoded(picture(1, 1)), "has 1 x 1 pixels, less than 4"),
    "3 high": (encoded(picture(3, 8)), "has 3 x 8 pixels, less than 4"),
    "1 x 5000": (encoded(picture(1, 5000), "JPEG"), "1 x 5000 pixels, less than 4"),
    "40 megapixels": (
        encoded(Image.new("L", (8000, 5000)), "JPEG"),
        "has 5000 x 8000 pixels, more than 16,777,216",
    ),
    "claims all": (claiming(_JPEG, 65500, 65500), "more than 16,777,216"),
    "claims twice its height": (claiming(_JPEG, 256, 64), "lost a part"),
    "bomb": (png_header(2**31 - 1, 2**31 - 1), "more than 16,777,216"),
    "true bomb": (bomb(5000), "has 5000 x 5000 pixels, more than 16,777,216"),
    "no size": (png_header(0, 8), "has 8 x 0 pixels, less than 4"),
    "cmyk": (encoded(_COLOUR.convert("CMYK"), "JPEG"), "CMYK"),
    "16 bits": (encoded(picture()[..., 0].astype(np.uint16) * 256), "16 bits"),
    "animation": (frames("PNG"), "animation"),
    "many scans": (scan_bomb(200), "more than 100 scans"),
    "12 bits": (_JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "damaged"),
    **{
        f"{kind}, the end lost after {share:.0%}": (ended(file, share), "lost a part")
        for kind, file in {
            "jpeg": _JPEG,
            "grey": GOOD["grey jpeg"],
            "4:4:4": GOOD["jpeg 4:4:4"],
            "odd": GOOD["jpeg of odd size"],
            "restarts": GOOD["jpeg with restarts"],
            "optimized": GOOD["optimized jpeg"],
            "progressive": _PROGRESSIVE,
            "thumbnail": GOOD["jpeg with a thumbnail"],
        }.items()
        for share in (0.6, 0.9)
    },
    **{
        f"progressive, {kept} scans kept": (without_scans(_PROGRESSIVE, kept), "lost a")
        for kept in (1, 4, 7)
    },
    "lost data, then another": (ended(_JPEG, 0.7) + _JPEG, "lost a part"),
}
