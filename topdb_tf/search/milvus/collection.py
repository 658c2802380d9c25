"""An index in a collection of Milvus: for more images than one machine holds.

It answers as an index on disk does: Milvus finds candidates by their squared Euclidean
distance, whose true distances are then computed from their features.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from topdb_tf.data.sightings import folded
from topdb_tf.embed.embed import Embedding
from topdb_tf.embed.model_probes import RecordedModel
from topdb_tf.json_files import record_of
from topdb_tf.search.entries import Entries, new_entries
from topdb_tf.search.filters import EVERYTHING, Filter
from topdb_tf.search.index import Found, checked_features, in_metric
from topdb_tf.search.manifest import Manifest
from topdb_tf.search.milvus.place import (
    KINDS,
    OF_SEARCH,
    MilvusPlace,
    check_settings,
    open_client,
    told,
)
from topdb_tf.search.milvus.rows import (
    FOUND,
    KEY_BYTES,
    KEYS,
    TEXTS,
    entries_of_rows,
    one_of,
    quoted,
    row_of_hit,
    rows_of,
)
from topdb_tf.search.scan import ROUNDING, refined

_PROPERTY, _FORMAT = "topdb_tf", 1
_MOST, _SPARE = 16384, 16  # images of an answer of Milvus
_BATCH_BYTES, _BATCH_ROWS = 16 << 20, 4096
_PATHS = 500  # in one expression


class MilvusIndex:
    """A collection of Milvus, opened for questions and changes.

    Args:
        place: The collection.
        is_new: Whether it need not be there yet.

    Attributes:
        manifest: What it was built to be; `None` until it is created.

    Raises:
        ValueError: If pymilvus is not installed, or the collection is of another
            program.
        FileNotFoundError: If there is no such collection.
        ServingError: If the server does not answer.
    """

    def __init__(self, place: MilvusPlace, *, is_new: bool = False):
        self.folder, self.manifest = place, None
        self._client = open_client(place)
        with self._told():
            exists = self._client.has_collection(place.collection)
        if exists:
            self._open()
        elif not is_new:
            raise FileNotFoundError(
                f"There is no collection {place}. Build one with `topdb-tf index build "
                f"PLACES --to {place}`."
            )

    def __len__(self):
        return self.count(EVERYTHING)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._client.close()

    def create(self, manifest: Manifest) -> None:
        """Makes the collection, with the index that its kind is."""
        from pymilvus import DataType

        name, schema = self.folder.collection, self._client.create_schema()
        for field, most in TEXTS.items():
            limits = {"max_length": most, "is_primary": field == "path"}
            schema.add_field(field, DataType.VARCHAR, **limits)
        for field in KEYS:
            schema.add_field(field, DataType.VARCHAR, max_length=KEY_BYTES)
        schema.add_field("id", DataType.INT64)
        schema.add_field("time", DataType.DOUBLE, nullable=True)
        schema.add_field("features", DataType.FLOAT_VECTOR, dim=manifest.dim)
        index_type, known = KINDS[manifest.kind]
        of_search = {*OF_SEARCH, "refine"}
        params = {n: manifest.parameters[n] for n in known if n not in of_search}
        index = self._client.prepare_index_params()
        index.add_index(
            "features", index_type=index_type, metric_type="L2", params=params
        )
        values = {**asdict(manifest), "format": _FORMAT}
        kept = ("format", "kind", "parameters", "metric", "dim", "model", "topdb_tf")
        properties = {_PROPERTY: json.dumps({name: values[name] for name in kept})}
        with self._told():
            self._client.create_collection(
                name,
                schema=schema,
                index_params=index,
                properties=properties,
                consistency_level="Strong",
            )
        self._open()

    def known_paths(self, paths: Sequence[str]) -> set[str]:
        """Returns which of some paths are those of images of the collection."""
        found = set()
        for start in range(0, len(paths), _PATHS):
            found |= set(self._paths(one_of("path", paths[start : start + _PATHS])))
        return found

    def add(self, items: Embedding, progress: Callable[[int, int], None]) -> int:
        """Stores images, and returns how many took the place of others of their path.

        Raises:
            ValueError: If features or names do not fit the collection.
            ServingError: If the server goes away; what it has taken stays there.
        """
        features = checked_features(items.features, self.manifest)
        entries = new_entries(
            time.time_ns() // 1000,  # greater than those that were given before
            items.paths,
            features,
            items.pids,
            items.camids,
            items.names,
            items.times,
        )
        rows = list(rows_of(entries, features))
        step = max(1, min(_BATCH_ROWS, _BATCH_BYTES // features[0].nbytes))
        num_replaced = 0
        for start in range(0, len(rows), step):
            batch = rows[start : start + step]
            stored = [row._asdict() for row in batch]
            for values in stored:
                values.pop("distance")
            stored_text = (
                f" {start:,} of {len(rows):,} images are stored and stay there. Run "
                "the same command again (`index add` with --skip-known): it goes on "
                "with the others."
            )
            with self._told(stored_text):
                num_replaced += len(self.known_paths([row.path for row in batch]))
                self._client.upsert(
                    self.folder.collection, stored, timeout=self.folder.seconds
                )
            progress(min(start + step, len(rows)), len(rows))
        return num_replaced

    def remove(
        self, paths: Sequence[str], pids: Sequence[int | str], prefixes: Sequence[str]
    ) -> list[str]:
        """Removes images by path, person or what paths begin with; returns the paths.

        Raises:
            FileNotFoundError: If there is no image of a path or person.
        """
        known = self.known_paths(paths)
        missing = [path for path in paths if path not in known]
        of_pids = [one_of("person_key", [folded(str(pid), "pid")]) for pid in pids]
        pairs = zip(pids, of_pids, strict=True)
        missing += [
            f"pid {p}" for p, w in pairs if not self._query(w, ["path"], limit=1)
        ]
        if missing:
            raise FileNotFoundError(
                f"There is no such image in {self.folder}, so nothing was removed. "
                f"Received: {', '.join(missing)}"
            )
        starts = range(0, len(paths), _PATHS)
        wheres = [one_of("path", paths[start : start + _PATHS]) for start in starts]
        for prefix in prefixes:
            most = quoted(prefix + "\U0010ffff")
            of_pids.append(f"path >= {quoted(prefix)} and path <= {most}")
        gone = []
        for where in [*wheres, *of_pids]:
            while part := self._paths(where, limit=_PATHS):
                with self._told(f" {len(gone):,} images are removed."):
                    self._client.delete(
                        self.folder.collection,
                        filter=one_of("path", part),
                        timeout=self.folder.seconds,
                    )
                gone += part
        return gone

    def count(self, among: Filter) -> int:
        """Returns how many images may be found, which Milvus counts."""
        (told,) = self._query(self._expression(among), ["count(*)"])
        return int(told.get("count(*)"))

    def check_filter(self, among: Filter) -> None:
        """Raises `ValueError` if a camera is not there, or no image has a time."""
        self._expression(among)

    def check_parameters(self, parameters: dict[str, int]) -> None:
        """Raises `ValueError` unless a search may be told these."""
        known = {*OF_SEARCH, "refine"} & set(self.manifest.parameters)
        check_settings(sorted(known), parameters)

    def nearest(
        self, items: Embedding, k: int, parameters: dict[str, int], among: Filter
    ) -> tuple[Entries, Found]:
        """Returns the images that were found, and their places.

        Raises:
            ValueError: If the features, the filter or a parameter do not fit.
        """
        queries = checked_features(items.features, self.manifest)
        if k > _MOST:
            raise ValueError(
                f"Milvus gives at most {_MOST:,} images (--top). Received: {k}"
            )
        where, known = self._expression(among), self.manifest.parameters | parameters
        width = k * known.get("refine", 0) or k + _SPARE
        effort = {n: known[n] for n in OF_SEARCH if n in known}
        width = min(width, _MOST)
        if "efSearch" in effort:  # Milvus refuses less than are wanted
            effort |= {"efSearch": max(known.get("efSearch"), width)}
        params = {OF_SEARCH[name]: value for name, value in effort.items()}
        hits = [self._search(query, width, where, params, k) for query in queries]
        unique = {row.path: row for found in hits for row in found}
        entries, vectors = entries_of_rows(unique.values(), self.manifest.dim)
        row_of = {path: row for row, path in enumerate(entries.paths)}
        most = max(map(len, hits), default=0)
        likely = np.full((len(queries), most), -1, np.int64)
        for place, found in enumerate(hits):
            likely[place, : len(found)] = [row_of[hit.path] for hit in found]
        distances, rows = refined(vectors, queries, likely, k)
        distances = in_metric(distances, self.manifest.metric)
        return entries, Found(distances, rows)

    def _open(self):
        with self._told():
            described = self._client.describe_collection(self.folder.collection)
            self._client.load_collection(self.folder.collection)
        try:
            values = json.loads(dict(described.get("properties", {}))[_PROPERTY])
            if values.pop("format") != _FORMAT:
                raise ValueError("of another version")
            model = record_of(RecordedModel | None, values.pop("model"))
            self.manifest = Manifest(**values, model=model)
            if model is not None:
                model.check(self.manifest.dim)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{self.folder} must be a collection that this version of `topdb-tf "
                f"index build` made. Name another one. Received: {error!r}"
            ) from error

    def _search(self, query, width, where, params, k):
        """Returns the candidates of a query; of FLAT as many as leave no doubt."""
        while True:
            with self._told():
                (found,) = self._client.search(
                    self.folder.collection,
                    data=[query],
                    limit=width,
                    filter=where,
                    output_fields=FOUND,
                    search_params={"metric_type": "L2", "params": params},
                    anns_field="features",
                    timeout=self.folder.seconds,
                )
            hits = [row_of_hit(hit) for hit in found]
            if params or len(hits) < width or width == _MOST:
                return hits
            last, wanted = hits[-1], hits[k - 1].distance
            lengths = np.linalg.norm(query) + np.linalg.norm(last.features)
            if last.distance - 2 * ROUNDING * lengths**2 > wanted:
                return hits
            width = min(8 * width, _MOST)

    def _expression(self, among):
        """Returns a filter in Milvus's words, checked."""
        parts = []
        if among.camids:
            keys = [
                key for text in map(str, among.camids) for key in self._camera(text)
            ]
            parts.append(one_of("camera_key", keys))
        if among.has_time:
            if not self._paths("time > -1e300", limit=1):
                raise among.no_time()
            since, until = among.within
            parts += [f"time >= {since!r}"] if np.isfinite(since) else []
            parts += [f"time <= {until!r}"] if np.isfinite(until) else []
        return " and ".join(parts)

    def _camera(self, text):
        for names in ([text], text.split(",")):  # a name may have a comma
            keys = [folded(name, "camid") for name in names]
            wheres = [one_of("camera_key", [key]) for key in keys]
            if all(self._paths(where, limit=1) for where in wheres):
                return keys
        raise ValueError(
            f"A camera (--camera) must be one of {self.folder}. Received: {text}"
        )

    def _paths(self, where, **limits):
        return [row.get("path") for row in self._query(where, ["path"], **limits)]

    def _query(self, where, fields, **limits):
        with self._told():
            return self._client.query(
                self.folder.collection,
                filter=where,
                output_fields=fields,
                timeout=self.folder.seconds,
                **limits,
            )

    def _told(self, more=""):
        return told(self.folder, more)
