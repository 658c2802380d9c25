"""Images a second by two workers of Ray on this machine, and by `embed` in one process.

    RAY_worker_niceness=0 python benchmarks/cluster.py --images 960 --repeats 3

MobileNetV2 at 192 x 96 and drawn JPEG files. Both take turns, each on all cores.
Neither starting nor loading a model counts: of the workers it is the time from the part
that is done second, so that both are at work, to the last. Printed are medians and
their ratio.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from PIL import Image
from rivals import our_network, random_images

from topdb_tf.embed.cluster import cluster
from topdb_tf.embed.embed import embed_files
from topdb_tf.embed.places import images_at
from topdb_tf.embed.source import Source

SIZE = (192, 96)


def main():
    """Prints both rates after each turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=960)
    parser.add_argument("--part", type=int, default=64, help="Images of a part.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        source = Source(model=folder / "model.keras")
        write(folder, source.model, arguments.images)
        images = images_at([folder / "photos"])
        workers, ray = cluster.Workers(count=arguments.workers), cluster._load_ray()
        turns = []
        with cluster._connected(ray, workers):
            for turn in range(arguments.repeats):
                alone = (
                    len(images.records) / embed_files(source, images.records).seconds
                )
                out = folder / f"{turn}.parquet"
                turns.append((alone, by_workers(ray, source, images, out, arguments)))
                print("alone {:.1f}, by workers {:.1f} images/s".format(*turns[-1]))
    alone, ours = (statistics.median(rates) for rates in zip(*turns, strict=True))
    ratio = statistics.median(ours / alone for alone, ours in turns)
    print(f"medians: alone {alone:.1f}, by workers {ours:.1f}; ratio {ratio:.2f}")


def write(folder, model, count):
    """Writes a model without training, and images."""
    from topdb_tf.model.network import embedder

    embedder(our_network("float32", "mobilenet_v2", SIZE)).save(model)
    (folder / "photos").mkdir()
    for number, pixels in enumerate(random_images(count, size=(128, 64))):
        Image.fromarray(pixels).save(folder / "photos" / f"{number:05d}.jpg")


def by_workers(ray, source, images, out, arguments):
    """Returns how many images a second all workers embed together."""
    out.mkdir()
    tables = [cluster._table_of(images.records, images.names)]
    tasks = dict(enumerate(cluster._parts_of(tables, arguments.part)))
    workers = cluster.Workers(count=arguments.workers)
    done = []
    for part in cluster.run_parts(ray, source, tasks, out, "float32", workers):
        done.append((time.perf_counter(), len(tasks[part.part].paths)))
    first = done[arguments.workers - 1][0]
    count = sum(number for _, number in done[arguments.workers :])
    return count / (done[-1][0] - first)


if __name__ == "__main__":
    main()
