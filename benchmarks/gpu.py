"""What a GPU makes of the whole package, beside PyTorch's network of the same shape.

    python benchmarks/gpu.py --out gpu.json
    KERAS_BACKEND=jax python benchmarks/gpu.py --parts steps losses --out gpu.json

Full ResNet-50 at 384 x 128 with 751 identities, in float32 (TF32), bfloat16 and float16
with loss scaling. Its parts, each in a process of its own:

- `steps`: images a second of training steps and of embedding, the most memory in use,
  the share of the card's peak that the products make (7.8 G multiply-adds an image
  forward, three times that in a step), and the hours of 400 epochs of Market-1501. Ours
  runs as `fit` does (`plain`), without TensorFlow's own choice of the layout of maps
  (`nhwc`), with cuDNN's persistent batch normalisation (`persistent`), and compiled
  (`xla`); PyTorch's is channels-last, by autocast.
- `input`: training from memory of the device, and by the input pipeline of `fit`.
- `losses`: the loss of 30 steps from the same weights on the same images, by precision.
- `fit`: a whole training on drawn people in each half precision, its scores, and its
  export read back.

The last two are run together, as their times are not compared. Every part is written to
the file as it ends, and none begins after `--seconds`. With --device cpu and a small
--height, --width and --batch it runs anywhere, to see that it works.
"""

import argparse
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import numpy as np
import rivals
from rivals import NUM_PIDS, our_network, policy_of, random_images

MULTIPLY_ADDS = 7.797e9  # of one image of 384 x 128, forward
MARKET_IMAGES = 12_936
# Dense products of the data sheets, in 1e12 operations a second: TF32 and half.
PEAKS = {
    "H200": (494, 989),
    "H100": (494, 989),
    "A100": (156, 312),
    "V100": (15.7, 125),
}
PERSISTENT = "TF_USE_CUDNN_BATCHNORM_SPATIAL_PERSISTENT"
PARTS = ("steps", "input", "losses", "fit")
PROGRAMS = ("plain", "nhwc", "persistent", "pytorch", "xla")
PRECISIONS = ("bfloat16", "float32", "float16")


def main():
    """Runs the parts, or one of them for another such process."""
    arguments = parse_arguments()
    rivals.SIZE = (arguments.height, arguments.width)
    if arguments.task:
        task = json.loads(arguments.task)
        for found in TASKS[task.pop("part")](arguments, **task):
            print("RESULT " + json.dumps(found), flush=True)
        return
    started, results = time.perf_counter(), []

    def run(task):
        spent = time.perf_counter() - started
        if spent > arguments.seconds:
            print(f"no time left for {task}", flush=True)
            return
        for found in run_task(task, arguments.seconds + 60 - spent):
            results.append(task | found)
            spent = time.perf_counter() - started
            print(f"{spent:5.0f} s", describe(task | found), flush=True)
            if arguments.out:
                Path(arguments.out).write_text(json.dumps(results, indent=1))

    for parts in (("steps", "input"), ("losses", "fit")):
        with ThreadPoolExecutor(arguments.together) as pool:
            list(pool.map(run, (t for t in tasks(arguments) if t["part"] in parts)))


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", help="JSON file of the results")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--programs", nargs="+", default=PROGRAMS, choices=PROGRAMS)
    parser.add_argument("--precision", nargs="+", default=PRECISIONS)
    parser.add_argument("--batch", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--repeats", type=int, default=3, help="timed rounds")
    parser.add_argument("--seconds", type=float, default=330, help="for all parts")
    parser.add_argument("--device", default="cuda", help="PyTorch's: cuda or cpu")
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--together", type=int, default=4, help="processes")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    return parser.parse_args()


def tasks(arguments):
    """Returns what is to be done, each for a process of its own."""
    found = []
    for part in arguments.parts:
        if part == "steps":
            found += [
                {"part": part, "program": program, "precision": precision}
                for program in arguments.programs
                for precision in arguments.precision
            ]
        elif part == "losses":
            found += [
                {"part": part, "precision": precision}
                for precision in arguments.precision
            ]
        elif part == "fit":
            found += [
                {"part": part, "precision": precision}
                for precision in arguments.precision
                if precision != "float32"
            ]
        else:
            found.append({"part": part, "precision": "bfloat16"})
    return found


def run_task(task, seconds):
    """Yields what one task finds, in a process of its own, and at last what failed."""
    command = [sys.executable, __file__, *sys.argv[1:], "--task", json.dumps(task)]
    persistent = int(task.get("program") == "persistent")
    environment = os.environ | {PERSISTENT: str(persistent)}
    with tempfile.TemporaryFile("w+") as errors:
        program = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
        timer = threading.Timer(seconds, program.kill)
        timer.start()
        for line in program.stdout:
            if line.startswith("RESULT "):
                yield json.loads(line[7:])
        timer.cancel()
        if program.wait():
            errors.seek(0)
            yield {"error": f"exit {program.returncode}: {errors.read()[-1500:]}"}


def describe(result):
    """Returns a result for people."""
    words = [
        str(result.pop(key))
        for key in ("part", "program", "precision", "batch")
        if key in result
    ]
    if "rate" not in result:
        return " ".join(words) + ": " + json.dumps(result)
    share = "" if result["share"] is None else f", {result['share']:.1%} of the peak"
    memory = "" if result["gib"] is None else f", {result['gib']:.1f} GiB"
    return (
        " ".join(words)
        + f" {result['kind']}: {result['rate']:.0f} images/s{share}{memory}"
    )


@contextlib.contextmanager
def turn_on_device():
    """Waits until no other process of this program times something."""
    with Path(tempfile.gettempdir(), "gpu-benchmark.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def time_steps(arguments, program, precision):
    """Times the steps and the embedding of a program in a precision.

    What is prepared without the device is prepared beside the others.
    """
    make = pytorch_work if program == "pytorch" else our_work
    prepare = make(arguments, program, precision)
    works = [(batch, prepare(labels_of(batch))) for batch in arguments.batch]
    with turn_on_device():
        for batch, kinds in works:
            for kind, (launch, wait) in kinds.items():
                if program == "xla" and kind == "embed":
                    continue
                reset_peak_memory(program)
                seconds = median_seconds(launch, wait, arguments.repeats)
                yield figures(kind, batch, seconds, precision, program)
        # The memory that this process holds is free when it ends, so in this turn.
        sys.stdout.flush()
        os._exit(0)


def labels_of(batch):
    """Returns the labels of a batch of four images a person."""
    return np.repeat(np.arange(batch // 4), 4).astype("int32")


def our_work(arguments, program, precision):
    """Returns the function of labels to launches and waits of our kinds of work."""
    import keras

    network = our_network(policy_of(precision))
    if keras.backend.backend() == "jax":
        return partial(jax_work, network)
    if program == "nhwc":
        import tensorflow as tf

        tf.config.optimizer.set_experimental_options({"layout_optimizer": False})
    return partial(tensorflow_work, network, our_trainer(network), program == "xla")


def tensorflow_work(network, trainer, xla, labels):
    """Returns the work on TensorFlow, as `fit` and `evaluate` do it."""
    import tensorflow as tf

    from topdb_tf.model.extraction import inference_function
    from topdb_tf.model.network import embedder

    with tf.device("GPU:0" if tf.config.list_physical_devices("GPU") else "CPU:0"):
        images = tf.constant(random_images(len(labels), "float32"))
        labels = tf.constant(labels)
    step = tf.function(lambda: trainer.train_step((images, labels)), jit_compile=xla)
    step = step.get_concrete_function()
    embed = inference_function(embedder(network))
    return {
        "step": (step, lambda figures: float(figures["loss"])),
        "embed": (lambda: embed(images), lambda embeddings: embeddings.numpy()),
    }


def our_trainer(network, rate=1e-5):
    """Returns the trainer that `fit` makes."""
    from topdb_tf.training.optimizer import AdamWithL2
    from topdb_tf.training.trainer import ReidTrainer

    trainer = ReidTrainer(network)
    trainer.compile(optimizer=AdamWithL2(rate, l2=5e-4), jit_compile=False)
    return trainer


def jax_work(network, labels):
    """Returns the work on JAX, by pure functions of the weights."""
    import jax

    from topdb_tf.model.network import embedder
    from topdb_tf.training.losses import (
        BatchHardTripletLoss,
        LabelSmoothedCrossEntropy,
    )
    from topdb_tf.training.optimizer import AdamWithL2

    cross_entropy, triplet = LabelSmoothedCrossEntropy(), BatchHardTripletLoss()
    optimizer = AdamWithL2(1e-5, l2=5e-4)
    optimizer.build(network.trainable_variables)
    groups = (
        network.trainable_variables,
        network.non_trainable_variables,
        optimizer.variables,
    )
    state = [[variable.value for variable in group] for group in groups]
    images = jax.device_put(random_images(len(labels), "float32"))
    labels = jax.device_put(labels)

    def loss_of(trainable, others):
        outputs, others = network.stateless_call(
            trainable, others, images, training=True
        )
        loss = sum(
            cross_entropy(labels, stream["logits"])
            + triplet(labels, stream["features"])
            for stream in outputs.values()
        )
        return loss, others

    def step(trainable, others, moments):
        gradient_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), gradients = gradient_of(trainable, others)
        trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
        return loss, (trainable, others, moments)

    step = jax.jit(step, donate_argnums=(0, 1, 2))
    model = embedder(network)
    embed = jax.jit(
        lambda trainable, others: model.stateless_call(trainable, others, images)[0]
    )
    weights = [
        [variable.value + 0 for variable in group]
        for group in (model.trainable_variables, model.non_trainable_variables)
    ]

    def train():
        loss, state[:] = step(*state)
        return loss

    return {
        "step": (train, float),
        "embed": (lambda: embed(*weights), np.asarray),
    }


def pytorch_work(arguments, program, precision):
    """Returns the same function for PyTorch's network, channels-last."""
    return partial(_pytorch_work, arguments.device, precision)


def _pytorch_work(device, precision, labels):
    import torch
    from pytorch_network import TopDropNetwork, training_step

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    images = torch.from_numpy(random_images(len(labels), "float32")) / 255
    images = images.permute(0, 3, 1, 2).to(device, memory_format=torch.channels_last)
    labels = torch.from_numpy(labels).long().to(device)
    rows = round(0.3 * rivals.SIZE[0] / 16)
    network = TopDropNetwork(NUM_PIDS, rows)
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-5, weight_decay=5e-4)
    step = training_step(network, optimizer, precision=precision, device=device)
    half = None if precision == "float32" else getattr(torch, precision)

    def train():
        network.train()
        return step(images, labels)

    def embed():
        network.eval()
        with torch.inference_mode(), torch.autocast(device, half, half is not None):
            return network(images).float()

    return {
        "step": (train, lambda loss: float(loss.detach())),
        "embed": (embed, lambda embeddings: embeddings.cpu()),
    }


def median_seconds(launch, wait, rounds, turns=5):
    """Returns the median time of a launch, in rounds of turns with a wait at the end.

    The first three turns are free.
    """
    for _ in range(3):
        wait(launch())
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(turns):
            ended = launch()
        wait(ended)
        seconds.append((time.perf_counter() - start) / turns)
    return float(np.median(seconds))


def figures(kind, batch, seconds, precision, program):
    """Returns the figures of a kind of work."""
    scale = np.prod(rivals.SIZE) / (384 * 128)
    operations = 2 * MULTIPLY_ADDS * scale * (3 if kind == "step" else 1)
    share = None
    for name, peaks in PEAKS.items():
        if name in device_name():
            share = (
                operations * batch / seconds / (1e12 * peaks[precision != "float32"])
            )
    found = {"kind": kind, "batch": batch, "rate": batch / seconds, "share": share}
    found["gib"] = peak_memory(program)
    if kind == "step":
        found["hours_of_400_epochs"] = 400 * MARKET_IMAGES * seconds / batch / 3600
    return found


def reset_peak_memory(program):
    """Forgets the most memory so far, where that can be."""
    if program == "pytorch":
        import torch

        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
    elif "jax" not in os.environ.get("KERAS_BACKEND", ""):
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            tf.config.experimental.reset_memory_stats("GPU:0")


def peak_memory(program):
    """Returns the most GiB that a program had in use, or None."""
    most = None
    if program == "pytorch":
        import torch

        most = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    elif "jax" in os.environ.get("KERAS_BACKEND", ""):
        import jax

        most = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            most = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return None if most is None else most / 2**30


def device_name():
    """Returns the name of the card, or "CPU"."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "CPU"
    return ended.stdout.splitlines()[0]


def list_losses(arguments, precision, steps=30):
    """Returns the losses of steps on drawn batches, from weights drawn by one seed."""
    import keras

    keras.utils.set_random_seed(1)
    network = our_network(policy_of(precision))
    rng = np.random.default_rng(1)
    batch = arguments.batch[0]
    labels = labels_of(batch)
    # Each person is a colour, with noise: what can be learned within the steps.
    colours = rng.uniform(0, 255, (batch // 4, 1, 1, 3))[labels]
    batches = [
        (colours + rng.normal(0, 60, (batch, *rivals.SIZE, 3))).clip(0, 255)
        for _ in range(4)
    ]
    batches = [images.astype("float32") for images in batches]
    trainer = our_trainer(network, rate=1e-4)
    losses, scales = [], []
    import tensorflow as tf

    step = tf.function(lambda images: trainer.train_step((images, labels))["loss"])
    for turn in range(steps):
        trainer.reset_metrics()
        losses.append(float(step(tf.constant(batches[turn % 4]))))
        if hasattr(trainer.optimizer, "dynamic_scale"):
            scales.append(float(trainer.optimizer.dynamic_scale))
    yield {"losses": losses, "scales": scales}


def time_input(arguments, precision):
    """Times the pipeline alone, the step alone, and `fit` on the pipeline."""
    import tensorflow as tf

    from topdb_tf.data.pipeline import PixelOptions, TrainingBatches

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (1024, 128, 64, 3), dtype=np.uint8)
    labels = np.arange(12 * 1024) % NUM_PIDS
    trainer = our_trainer(our_network(f"mixed_{precision}"))
    found = {"cores": os.cpu_count()}
    with turn_on_device():
        for dtype in ("float32", "uint8"):
            options = PixelOptions(
                image_size=rivals.SIZE, dtype=dtype, num_threads=os.cpu_count()
            )
            batches = TrainingBatches(list(pictures) * 12, labels, options)
            dataset = batches.dataset().repeat()
            iterator = iter(dataset)
            first = [next(iterator) for _ in range(5)]
            size = len(first[0][1])
            start = time.perf_counter()
            for _ in range(60):
                next(iterator)
            found[f"pipeline_{dtype}"] = 60 * size / (time.perf_counter() - start)
            trainer.fit(dataset, steps_per_epoch=5, verbose=0)
            start = time.perf_counter()
            trainer.fit(dataset, steps_per_epoch=60, verbose=0)
            found[f"fit_{dtype}"] = 60 * size / (time.perf_counter() - start)
            del iterator, dataset
        fixed = tf.data.Dataset.from_tensors(first[0]).repeat()
        trainer.fit(fixed, steps_per_epoch=5, verbose=0)
        start = time.perf_counter()
        trainer.fit(fixed, steps_per_epoch=60, verbose=0)
        found["fit_of_one_batch"] = 60 * size / (time.perf_counter() - start)
    yield found


def train_demo(arguments, precision):
    """Trains the demo in a precision, scores, exports and reads the export back."""
    command = [sys.executable, "-m", "topdb_tf", "-q"]
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        start = time.perf_counter()
        call(
            [*command, "fit", "--recipe", "demo", "--run-dir", run]
            + ["--set", f"train.precision={precision}", "--data-root", folder]
        )
        seconds = time.perf_counter() - start
        scores = json.loads(Path(run, "scores.json").read_text())
        call(
            [
                *command,
                "export",
                run,
                "--out",
                f"{folder}/export",
                "--loader",
                "session",
                "--precision",
                precision,
            ]
        )
        call(
            [
                *command,
                "embed",
                f"{folder}/synthetic",
                "--model",
                f"{folder}/export",
                "--out",
                f"{folder}/export.npz",
            ]
        )
        call(
            [
                *command,
                "embed",
                f"{folder}/synthetic",
                "--model",
                run,
                "--out",
                f"{folder}/run.npz",
            ]
        )
        of_export, of_run = (
            np.load(f"{folder}/{name}.npz")["features"] for name in ("export", "run")
        )
    lengths = np.linalg.norm(of_run, axis=1) * np.linalg.norm(of_export, axis=1)
    cosines = (of_run * of_export).sum(1) / lengths
    yield {
        "fit_seconds": round(seconds, 1),
        "mean_ap": scores["mean_ap"],
        "rank_1": scores["cmc"]["1"],
        "images": len(of_run),
        "least_cosine_of_export": float(cosines.min()),
    }


def call(command):
    """Runs a command, and raises what it said where it fails."""
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr[-800:])


TASKS = {
    "steps": time_steps,
    "losses": list_losses,
    "input": time_input,
    "fit": train_demo,
}

if __name__ == "__main__":
    main()
