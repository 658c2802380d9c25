"""Slow and plain implementations that the fast ones are held against."""

import numpy as np


def query_rankings(
    distances, query_pids, gallery_pids, query_camids, gallery_camids, ignore_cameras
):
    """Yields for each query whether each ranked image is a match, nearest first."""
    for i, (pid, camid) in enumerate(zip(query_pids, query_camids, strict=True)):
        ranked = []
        for j in range(len(gallery_pids)):
            junk = gallery_pids[j] == pid and gallery_camids[j] == camid
            if gallery_pids[j] != -1 and (ignore_cameras or not junk):
                ranked.append((distances[i, j], j, gallery_pids[j] == pid != -1))
        yield [bool(match) for _, _, match in sorted(ranked)]


def retrieval_reference(*arrays, max_rank=50, ignore_cameras=False):
    """Scores by sorting: a dictionary of what `retrieval_scores` returns."""
    scores = {"ap": [], "trapezoid": [], "inp": [], "first": []}
    for ranking in query_rankings(*arrays, ignore_cameras):
        ranks = [rank for rank, match in enumerate(ranking, 1) if match]
        if not ranks:
            continue
        precision = [sum(ranking[:rank]) / rank for rank in range(1, len(ranking) + 1)]
        before = [1.0, *precision]
        scores["ap"].append(np.mean([precision[rank - 1] for rank in ranks]))
        areas = [(precision[rank - 1] + before[rank - 1]) / 2 for rank in ranks]
        scores["trapezoid"].append(np.mean(areas))
        scores["inp"].append(len(ranks) / ranks[-1])
        scores["first"].append(ranks[0])
    first = np.array(scores["first"])
    if len(first):
        scores["cmc"] = [np.mean(first <= rank) for rank in range(1, max_rank + 1)]
    return scores


def joint_distances(query_gallery, query_query, gallery_gallery):
    """Returns the distances among all images, queries first."""
    return np.block([[query_query, query_gallery], [query_gallery.T, gallery_gallery]])


def rerank_reference(distances, num_queries, k1=20, k2=6, lambda_value=0.3):
    """Re-ranks with dense matrices and Python's sets, from the paper's definitions."""
    squares = np.square(np.asarray(distances, np.float32))
    num_images = len(squares)
    order = np.argsort(squares, axis=1, kind="stable")
    largest = squares.max(axis=1, keepdims=True)
    original = squares / np.where(largest > 0, largest, np.float32(1))
    nearest = [order[i].tolist() for i in range(num_images)]

    def reciprocal(i, k):
        return {j for j in nearest[i][: k + 1] if i in nearest[j][: k + 1]}

    encodings = np.zeros_like(original)
    for i in range(num_images):
        members = reciprocal(i, k1)
        expanded = set(members)
        for j in members:
            others = reciprocal(j, round(k1 / 2))
            if 3 * len(others & members) > 2 * len(others):
                expanded |= others
        columns = sorted(expanded)
        weights = np.exp(-original[i, columns])
        encodings[i, columns] = weights / weights.sum()
    if k2 > 1:
        encodings = np.stack([encodings[near].mean(axis=0) for near in order[:, :k2]])
    jaccard = np.empty_like(original[:num_queries])
    for i in range(num_queries):
        shared = np.zeros(num_images, np.float32)
        for column in np.flatnonzero(encodings[i]):
            shared += np.minimum(encodings[i, column], encodings[:, column])
        jaccard[i] = 1 - shared / (2 - shared)
    mixed = jaccard * (1 - lambda_value) + original[:num_queries] * lambda_value
    return mixed[:, num_queries:]


def generalized_mean_reference(feature_maps, p, epsilon=1e-6):
    """Pools each channel of each image by the definition, in float64."""
    num_images, height, width, channels = feature_maps.shape
    pooled = np.zeros((num_images, channels))
    for i in range(num_images):
        for c in range(channels):
            values = feature_maps[i, :, :, c].astype("float64").ravel()
            powers = [max(value, epsilon) ** p for value in values]
            pooled[i, c] = (sum(powers) / (height * width)) ** (1 / p)
    return pooled


def top_drop_reference(feature_maps, height_ratio, width_ratio=1.0, reduce=np.mean):
    """Marks what Top DropBlock drops, `(num_images, height, width)`, by sorting."""
    num_images, height, width, _ = feature_maps.shape
    is_dropped = np.zeros((num_images, height, width), bool)
    for image, taken in zip(feature_maps.astype("float32"), is_dropped, strict=True):
        energy = np.array([[np.sum(c * c) for c in row] for row in image])
        order = sorted(range(height), key=lambda row: (-reduce(energy[row]), row))
        rows = sorted(order[: round(height_ratio * height)])
        order = sorted(range(width), key=lambda x: (-reduce(energy[rows, x]), x))
        for row in rows:
            taken[row, order[: round(width_ratio * width)]] = True
    return is_dropped
