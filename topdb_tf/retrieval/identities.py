"""Who is on an image and which camera took it: ids of any type, as whole numbers."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from topdb_tf.texts import means_unknown

JUNK_PID = -1
_END = 2**63
_NUMBER = re.compile(r"(-?[0-9]+)(\.0*)?")


class _Arrays(NamedTuple):
    query_pids: np.ndarray
    gallery_pids: np.ndarray
    query_camids: np.ndarray
    gallery_camids: np.ndarray


class Identities(_Arrays):
    """Who is on the images of queries and gallery, and which camera took them.

    Ids are given as whole numbers of any type, or as texts, and kept as int64. Numbers
    that int64 cannot hold, and texts that are no numbers, are numbered from 1 on in
    their order, those of queries and gallery together. None, NaN, masked entries and
    texts such as "unknown" are ids that nobody knows: as a person -1, as a camera a
    negative number of its own.

    Args:
        query_pids: Shape `(num_queries,)`.
        gallery_pids: Shape `(num_gallery,)`; images of pid -1 are never ranked.
        query_camids: Shape `(num_queries,)`; a negative one numbers the image, which
            is of no camera: images of one such number are one image. One that several
            queries have, or several gallery images, says that nobody knows the camera.
        gallery_camids: Shape `(num_gallery,)`.

    Raises:
        ValueError: If ids are no whole numbers, or rounded ones, or if texts are to be
            compared with numbers.
    """

    __slots__ = ()

    def __new__(cls, query_pids, gallery_pids, query_camids, gallery_camids):
        pids = _read("query_pids", query_pids), _read("gallery_pids", gallery_pids)
        cameras = (
            _read("query_camids", query_camids),
            _read("gallery_camids", gallery_camids),
        )
        known_pids = (
            np.where(ids.is_known, numbers, JUNK_PID)
            for ids, numbers in zip(pids, _joined(*pids), strict=True)
        )
        camids = _with_unknown_cameras(
            *_joined(*cameras), *(ids.is_known for ids in cameras)
        )
        return super().__new__(cls, *known_pids, *camids)

    def take(self, queries, gallery) -> "Identities":
        """Returns those of some images, given by numbers, masks or slices."""
        images = queries, gallery, queries, gallery
        return Identities._make(ids[own] for ids, own in zip(self, images, strict=True))


def image_numbers(names: Sequence) -> np.ndarray:
    """Returns camids for images of no camera: one negative number a name."""
    numbers = {name: -number for number, name in enumerate(names, 1)}
    return np.array([numbers[name] for name in names], np.int64)


def whole_numbers(name: str, ids: Sequence, *, unknown: int = JUNK_PID) -> np.ndarray:
    """Returns whole numbers of any type, or texts of such, as int64, exactly.

    Those that nobody knows become `unknown`; an error calls all of them by the name.

    Example:
        >>> from topdb_tf.retrieval.identities import whole_numbers
        >>> whole_numbers("pids", ["7", None, "0012"])
        array([ 7, -1, 12])
    """
    read = _read(name, ids)
    number_of = _numbers_of_texts(read)
    for value in read.known() if read.values.dtype == object else ():
        if not _fits(number_of.get(value, value)):
            raise _refusal(name, "whole numbers of 64 bits", value)
    return np.where(read.is_known, read.numbers(number_of), unknown)


class _Ids(NamedTuple):
    """Ids as int64, else as whole numbers and texts of Python; 0 where unknown."""

    name: str
    values: np.ndarray
    is_known: np.ndarray

    def known(self) -> list:
        """Returns the ids that are known, as Python has them."""
        return self.values[self.is_known].tolist()

    def numbers(self, number_of: Mapping) -> np.ndarray:
        """Returns all as int64: by the mapping, or as they are."""
        if self.values.dtype == np.int64 and not number_of:
            return self.values
        values = self.values.tolist()
        return np.array([number_of.get(value, value) for value in values], np.int64)


def _read(name, given) -> _Ids:
    # A list is not left to NumPy, which makes float64 of some whole numbers.
    array = np.asarray(given) if hasattr(given, "dtype") else np.array(given, object)
    kind = array.dtype.kind
    if array.ndim != 1 or kind not in "iufSUO":
        raise ValueError(
            f"`{name}` must be a list of whole numbers, one an image. "
            f"Received: {name} of shape {array.shape} and type {array.dtype}"
        )
    is_known = ~np.broadcast_to(np.ma.getmask(given), array.shape)
    if kind == "f":
        is_known &= ~np.isnan(array)
        exact = 2.0 ** min(np.finfo(array.dtype).nmant + 1, 53)
        odd = is_known & ~((np.abs(array) < exact) & (array == np.trunc(array)))
        if odd.any():
            wanted = f"whole numbers below {exact:,.0f}, which {array.dtype} holds"
            raise _refusal(name, wanted, array[odd][0].item())
        array = np.where(is_known, array, 0)
    elif kind in "SUO" or (kind == "u" and array.max(initial=0) >= _END):
        values = [_plain(name, value) for value in array.tolist()]
        is_known &= np.array([value is not None for value in values], bool)
        array = np.array([0 if value is None else value for value in values], object)
        if not all(map(_fits, array)):
            return _Ids(name, array, is_known)
    return _Ids(name, array.astype(np.int64, copy=False), is_known)


def _plain(name, value):
    """Returns one id as a whole number or a text of Python, or `None` if unknown."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        # Some systems write é as two characters, which look the same.
        text = unicodedata.normalize("NFC", value.strip())
        return None if means_unknown(value) else text
    if value is None or (isinstance(value, Real) and value != value):
        return None
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    is_exact = isinstance(value, Integral) or (is_number and abs(value) < 2**53)
    if is_number and is_exact and value == int(value) >= -_END:
        return int(value)
    raise _refusal(name, "whole numbers, or texts", value)


def _fits(value):
    return isinstance(value, int) and value < _END


def _joined(query: _Ids, gallery: _Ids) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids that are to be compared as int64, 0 where they are unknown."""
    both, number_of = (query, gallery), {}
    if any(ids.values.dtype == object for ids in both):
        number_of = _numbers_of_texts(*both)
        values = {number_of.get(v, v) for ids in both for v in ids.known()}
        if not all(map(_fits, values)):
            ranked = sorted(v for v in values if isinstance(v, str) or v > 0)
            numbers = {value: number for number, value in enumerate(ranked, 1)}
            number_of = {text: numbers.get(v, v) for text, v in number_of.items()}
            number_of |= numbers
    return query.numbers(number_of), gallery.numbers(number_of)


def _numbers_of_texts(*parts: _Ids) -> dict[str, int]:
    """Returns the numbers that texts are, if all of them are numbers; else nothing."""
    values = {value for ids in parts for value in ids.known()}
    texts = {value for value in values if isinstance(value, str)}
    matches = {text: _NUMBER.fullmatch(text) for text in texts}
    names = sorted(text for text, match in matches.items() if not match)
    if not names:
        return {text: int(match[1]) for text, match in matches.items()}
    if len(texts) < len(values):
        raise ValueError(
            "Ids that are compared must be all numbers or all texts. "
            f"Received: {' and '.join(ids.name for ids in parts)} with the text "
            f"{names[0]!r} and the number {min(values - texts)}"
        )
    return {}


def _with_unknown_cameras(query, gallery, query_known, gallery_known):
    """Returns camids in which every image of an unknown camera has a number of its own.

    No image is twice among the queries, nor in the gallery: there a negative number
    that several have numbers no image.
    """
    camids = np.concatenate([query, gallery])
    is_unknown = ~np.concatenate([query_known, gallery_known])
    for part in (query, gallery):
        numbers, counts = np.unique(part, return_counts=True)
        is_unknown |= np.isin(camids, numbers[(numbers < 0) & (counts > 1)])
    if is_unknown.any():
        is_image = ~is_unknown & (camids < 0)
        numbers, places = np.unique(camids[is_image], return_inverse=True)
        camids[is_image] = -1 - places
        camids[is_unknown] = -1 - len(numbers) - np.arange(is_unknown.sum())
    return camids[: len(query)], camids[len(query) :]


def _refusal(name, wanted, value):
    return ValueError(f"`{name}` must be {wanted}. Received: {value!r}")
