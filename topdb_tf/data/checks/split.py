"""Looks a data set over before a night of training."""

from collections import Counter

from topdb_tf.data.checks.findings import Finding
from topdb_tf.data.market import PARTS
from topdb_tf.data.records import ImageRecord, Split
from topdb_tf.texts import listed

FEW_PIDS = "few-pids"  # too few for the batch; `fit` stops at it


def check_split(
    split: Split,
    *,
    images_per_pid: int,
    batch_size: int | None = None,
    ignore_cameras: bool = False,
) -> list[Finding]:
    """Finds what would spoil a training or an evaluation; opens no image.

    A query has a valid match if the gallery shows its person by another camera.

    Args:
        split: The data set.
        images_per_pid: Images of each identity in a batch.
        batch_size: Images in a batch; without, any number will do.
        ignore_cameras: Whether an image of the query's own camera is a match, too.

    Returns:
        The errors, then the warnings.

    Example:
        >>> from topdb_tf.data.checks.split import check_split
        >>> from topdb_tf.data.records import ImageRecord, Split
        >>> train = (ImageRecord("a", 1, 1), ImageRecord("b", 1, 2))
        >>> test = (ImageRecord("c", 2, 1),), (ImageRecord("d", 2, 2),)
        >>> [finding] = check_split(Split("own", train, *test), images_per_pid=4)
        >>> finding.message
        '1 of the 1 training identities have fewer than 4 images (pid 1).'
    """
    findings = [
        *_empty_parts(split),
        *_shared_pids(split),
        *_missing_matches(split, ignore_cameras=ignore_cameras),
        *_own_cameras(split),
        *_few_pids(split, images_per_pid, batch_size or 0),
        *_scarce_pids(split, images_per_pid),
    ]
    return sorted(findings, key=lambda finding: finding.severity)


def check_test(split: Split, *, ignore_cameras: bool = False) -> None:
    """Raises `ValueError` if nothing can be scored; opens no image.

    Args:
        split: The data set, of which training images do not matter.
        ignore_cameras: Whether an image of the query's own camera is a match, too.
    """
    for part in split.data_sets:
        alike = ignore_cameras or not part.has_cameras
        matches = _missing_matches(part, ignore_cameras=alike)
        for finding in (*_empty_parts(part, ("query", "gallery")), *matches):
            if finding.severity == "error":
                name = f"{part.name}: " if split.parts else ""
                raise ValueError(f"{name}{finding.message} {finding.fix}")


def _empty_parts(split, parts=tuple(PARTS)):
    for part in parts:
        if not split.part(part):
            yield Finding(
                "error",
                "empty",
                f"{split.name} has no {part} images.",
                "Add them; datasets/README.md shows the expected folders.",
            )


def _shared_pids(split):
    tested = {record.pid for record in split.query + split.gallery}
    shared = {record.pid for record in split.train} & tested
    if shared:
        yield Finding(
            "error",
            "shared-pids",
            f"{len(shared):,} identities occur in training and in test "
            f"({_listed(shared, split)}), so the scores would not be of unseen "
            "persons.",
            "Give every person to one side only, or another number if two persons "
            "have the same one.",
            _grouped(split.train, shared),
        )


def _missing_matches(split, *, ignore_cameras):
    if not (split.query and split.gallery):
        return
    cameras = {record.camid for record in split.query + split.gallery}
    if len(cameras) == 1 and not ignore_cameras:
        yield Finding(
            "error",
            "one-camera",
            "All queries and gallery images are of camera "
            f"{split.camera_name(cameras.pop())}, so no query has a match seen by "
            "another camera: the camera ids look constant.",
            "Give each image the number of its camera, or count matches of the same "
            "camera: --ignore-cameras (fit: --set evaluation.ignore_cameras=true).",
        )
        return
    unmatched = _unmatched(split, ignore_cameras)
    groups = tuple((record.path,) for record in unmatched)
    where = "in the gallery" if ignore_cameras else "seen by another camera"
    if len(unmatched) == len(split.query):
        yield Finding(
            "error",
            "no-match",
            f"No query has a match {where}, so nothing can be scored.",
            "Check that query and gallery give the same person the same pid, and "
            "each image the number of its camera.",
            groups,
        )
    elif unmatched:
        pids = {record.pid for record in unmatched}
        yield Finding(
            "warning",
            "no-match",
            f"{len(unmatched):,} of {len(split.query):,} queries have no match "
            f"{where} ({_listed(pids, split)}) and are not scored.",
            "Add such images to the gallery, if the scores should count them.",
            groups,
        )


def _unmatched(split: Split, ignore_cameras: bool) -> list[ImageRecord]:
    cameras_of = {}
    for record in split.gallery:
        cameras_of.setdefault(record.pid, set()).add(record.camid)
    return [
        record
        for record in split.query
        if not cameras_of.get(record.pid, set())
        - (set() if ignore_cameras else {record.camid})
    ]


def _own_cameras(split):
    """Finds cameras that are something else, as no two persons were seen by one."""
    pids_of = {}
    for record in split.records:
        pids_of.setdefault(record.camid, set()).add(record.pid)
    num_pids = len({record.pid for record in split.records})
    if len(pids_of) > num_pids > 2 and all(len(pids) == 1 for pids in pids_of.values()):
        names = [split.camera_name(camid) for camid in sorted(pids_of)]
        yield Finding(
            "warning",
            "own-cameras",
            f"No camera shows two persons: {len(pids_of):,} cameras, {num_pids:,} "
            f"persons (camids {listed(names, 3)}).",
            "Camids must number cameras, not images, tracklets or times: a match is "
            "an image by another one.",
        )


def _few_pids(split, images_per_pid, batch_size):
    wanted, number = batch_size // images_per_pid, split.num_pids
    if 0 < number < wanted:
        yield Finding(
            "warning",  # another batch is a setting, not another data set
            FEW_PIDS,
            f"A batch of {batch_size} images, {images_per_pid} each of {wanted} "
            "identities (data.batch_size, data.images_per_pid), needs more than the "
            f"{number} training identities of {split.name}.",
            f"fit: --set data.batch_size={number * images_per_pid}, or a smaller "
            f"multiple of {images_per_pid}."
            if number > 1
            else "Add persons: a batch needs two or more.",
        )


def _scarce_pids(split, images_per_pid):
    num_images = Counter(record.pid for record in split.train)
    single = {pid for pid, count in num_images.items() if count == 1}
    scarce = {pid for pid, count in num_images.items() if 1 < count < images_per_pid}
    for pids, few, fix in (
        (
            single,
            "a single image",
            "Add images: a batch repeats the only one, which teaches nothing about "
            "what stays the same between two images of a person.",
        ),
        (
            scarce,
            f"fewer than {images_per_pid} images",
            "Add images, or lower images_per_pid: their batches repeat images.",
        ),
    ):
        if pids:
            yield Finding(
                "warning",
                "scarce-pids",
                f"{len(pids):,} of the {len(num_images):,} training identities have "
                f"{few} ({_listed(pids, split)}).",
                fix,
                _grouped(split.train, pids),
            )


def _grouped(records: tuple[ImageRecord, ...], pids: set[int]) -> tuple:
    """Returns the files of each of some identities."""
    groups = {pid: [] for pid in sorted(pids)}
    for record in records:
        if record.pid in groups:
            groups[record.pid].append(record.path)
    return tuple(tuple(paths) for paths in groups.values())


def _listed(pids: set[int], split: Split) -> str:
    names = [split.pid_name(pid) for pid in sorted(pids)]
    return f"{'pid' if len(pids) == 1 else 'pids'} {listed(names)}"
