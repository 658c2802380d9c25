"""The plan of an epoch: which images make up each batch."""

import numpy as np


def pk_batches(
    labels: np.ndarray,
    *,
    pids_per_batch: int,
    images_per_pid: int,
    seed: int,
    epoch: int,
    num_batches: int | None = None,
) -> np.ndarray:
    """Draws the batches of one epoch: P identities with K images each.

    The images of each identity are shuffled and cut into groups of K; the remainder
    is left out, and an identity with fewer than K images makes one group, sampled
    with replacement. While at least P identities have groups left, a batch takes one
    group from each of P identities drawn at random. So an image occurs at most once,
    unless its identity has fewer than K. The images of an identity are neighbours in
    their batch.

    The plan depends on the arguments alone. The number of batches differs a little
    from epoch to epoch, since the draw decides how many identities run out early.

    Source: Hermans et al., In Defense of the Triplet Loss for Person
    Re-Identification, 2017 (https://arxiv.org/abs/1703.07737), for P×K batches.

    Args:
        labels: Identity of each image, integers of shape `(num_images,)`.
        pids_per_batch: P, the number of identities in a batch.
        images_per_pid: K, the number of images of each, at least 2.
        seed: Seed of the run, not negative.
        epoch: Index of the epoch, not negative.
        num_batches: Fixed length of the epoch: a longer plan is cut, a shorter one
            goes on with a fresh draw. `None` keeps the drawn length.

    Returns:
        Image indices, int64 of shape `(num_batches, pids_per_batch * images_per_pid)`.

    Raises:
        ValueError: If there are fewer identities than `pids_per_batch`, or if a
            number is out of range.

    Example:
        >>> import numpy as np
        >>> from topdb_tf.data.sampler import pk_batches
        >>> labels = np.array([0, 0, 1, 1, 2, 2])
        >>> options = {"pids_per_batch": 3, "images_per_pid": 2, "seed": 0}
        >>> plan = pk_batches(labels, **options, epoch=0)
        >>> sorted(plan[0].tolist())
        [0, 1, 2, 3, 4, 5]
    """
    labels = np.asarray(labels)
    _check(labels, pids_per_batch, images_per_pid, seed, epoch, num_batches)
    rng = np.random.default_rng([seed, epoch])
    plan = _draw_epoch(labels, pids_per_batch, images_per_pid, rng)
    if num_batches is None:
        return plan
    while len(plan) < num_batches:
        again = _draw_epoch(labels, pids_per_batch, images_per_pid, rng)
        plan = np.concatenate([plan, again])
    return plan[:num_batches]


def balanced_batches(
    labels: np.ndarray,
    parts: np.ndarray,
    *,
    pids_per_batch: int,
    images_per_pid: int,
    seed: int,
    epoch: int,
    num_batches: int | None = None,
) -> np.ndarray:
    """Draws the batches of one epoch with as many identities of each data set.

    Groups are those of `pk_batches`. A batch takes P over the number of data sets of
    each; where that leaves a remainder, the data sets give one more in turn. Each is
    drawn from by itself, and anew when its groups run out: images of a small one come
    several times in an epoch, and not all of a large one come. The identities of a
    batch are in any order. Where `num_batches` is `None`, an epoch has as many as there
    are groups in all over P.

    Args:
        labels: Identity of each image, integers of shape `(num_images,)`.
        parts: Data set of each image, 0 … num_parts - 1, shape `(num_images,)`; no
            identity is in two.
        pids_per_batch: As `pk_batches`; so are the other arguments and the result.

    Raises:
        ValueError: As `pk_batches`, or if a data set has fewer identities than a batch
            takes of it.
    """
    labels, parts = np.asarray(labels), np.asarray(parts)
    _check(labels, pids_per_batch, images_per_pid, seed, epoch, num_batches)
    places = [np.flatnonzero(parts == part) for part in range(int(parts.max()) + 1)]
    share, left_over = divmod(pids_per_batch, len(places))
    num_pids = [len(np.unique(labels[own])) for own in places]
    if min(num_pids) < share + (left_over > 0):
        raise ValueError(
            "Each data set must have as many identities as a batch takes of it. Lower "
            "`pids_per_batch`, or do not balance. Received: identities of each "
            f"{num_pids}, pids_per_batch={pids_per_batch}"
        )
    if num_batches is None:
        _, counts = np.unique(labels, return_counts=True)
        num_groups = np.maximum(counts // images_per_pid, 1).sum()
        num_batches = max(int(num_groups) // pids_per_batch, 1)
    rng = np.random.default_rng([seed, epoch])
    plan = [[] for _ in range(num_batches)]
    for part, own in enumerate(places):
        turns = (part - np.arange(num_batches) * left_over) % len(places)
        wanted = share + (turns < left_over)
        drawn = _draw_groups(labels[own], images_per_pid, wanted, rng)
        for groups, rows in zip(drawn, plan, strict=True):
            rows.append(own[groups])
    return np.stack([rng.permutation(np.concatenate(rows)).ravel() for rows in plan])


def _draw_groups(labels, images_per_pid, wanted, rng):
    """Yields groups of as many identities as each batch wants, anew when they end."""
    left = None
    for number in wanted:
        if left is None or np.count_nonzero(left) < number:
            groups, owners = _groups(labels, images_per_pid, rng)
            left = np.bincount(owners)
            first = np.cumsum(left) - left
        pids = rng.choice(np.flatnonzero(left), number, replace=False)
        left[pids] -= 1
        yield groups[first[pids] + left[pids]]


def _check(labels, pids_per_batch, images_per_pid, seed, epoch, num_batches):
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            "`labels` must be integers, one an image. "
            f"Received: shape={labels.shape}, dtype={labels.dtype}"
        )
    for name, number, other in (
        ("pids_per_batch", pids_per_batch, "negative"),
        ("images_per_pid", images_per_pid, "positive"),
    ):
        if number < 2:
            raise ValueError(
                f"`{name}` must be at least 2, so that every image has a {other}. "
                f"Received: {name}={number}"
            )
    num_pids = len(np.unique(labels))
    if num_pids < pids_per_batch:
        raise ValueError(
            "A batch needs `pids_per_batch` different identities. Lower it or add "
            "identities. "
            f"Received: pids_per_batch={pids_per_batch}, num_pids={num_pids}"
        )
    if seed < 0 or epoch < 0:
        raise ValueError(
            "`seed` and `epoch` must not be negative. "
            f"Received: seed={seed}, epoch={epoch}"
        )
    if num_batches is not None and num_batches < 1:
        raise ValueError(
            f"`num_batches` must be at least 1. Received: num_batches={num_batches}"
        )


def _draw_epoch(labels, pids_per_batch, images_per_pid, rng):
    groups, owners = _groups(labels, images_per_pid, rng)
    left = np.bincount(owners)  # (num_pids,)
    first = np.cumsum(left) - left  # row of each identity's first group
    drawn = []
    while len(candidates := np.flatnonzero(left)) >= pids_per_batch:
        pids = rng.choice(candidates, pids_per_batch, replace=False)
        left[pids] -= 1
        drawn.append(groups[first[pids] + left[pids]].ravel())
    return np.stack(drawn)


def _groups(labels, images_per_pid, rng):
    """Returns the groups, `(num_groups, K)`, and the identity of each, in order."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # shuffled in each pid
    _, counts = np.unique(labels, return_counts=True)
    ends = np.cumsum(counts)
    num_groups = np.maximum(counts // images_per_pid, 1)
    owners = np.repeat(np.arange(len(counts)), num_groups)
    within = np.arange(len(owners)) - np.repeat(
        np.cumsum(num_groups) - num_groups, num_groups
    )
    first = (ends - counts)[owners] + within * images_per_pid
    columns = first[:, None] + np.arange(images_per_pid)  # (num_groups, K)
    is_short = (counts < images_per_pid)[owners]
    resampled = rng.integers(
        counts[owners][is_short, None], size=(is_short.sum(), images_per_pid)
    )
    columns[is_short] = first[is_short, None] + resampled
    return order[columns], owners
