"""The commands one after the other, each on what the ones before it wrote.

`BIN/python .ci/chain.py` works in the folder it is called in, on a few drawn people.
All run in one process, since each would take seconds to import TensorFlow.
"""

import os
import shlex
import sys
import time
from pathlib import Path

from topdb_tf.cli import main
from topdb_tf.data.drawn.synthetic import write_synthetic

SMALL = (
    "--set data.check_counts=false --set data.image_height=32 --set data.image_width=16"
    " --set data.batch_size=8 --set data.images_per_pid=2 --set train.warmup_epochs=1"
)
COMMANDS = f"""
fit --recipe demo --epochs 2 {SMALL} --run-dir run
fit --resume run --epochs 3 --force
evaluate run --rerank
score run/features-synthetic.npz --ci
table run
export run
embed IMAGE --model run/saved_model --out of_export.npz
report run --queries 2
figure rankings run --out rankings.png
index build data/synthetic/query --model run --out people.index
index query people.index IMAGE --top 3
"""
# These need KerasHub, which brings TensorFlow Text; what is above does without.
OF_PRESETS = """
publish run --to preset
embed IMAGE --model preset --out of_preset.npz
embed IMAGE --model demo --out of_demo.npz
"""


def run(lines, image):
    """Runs commands, and tells the seconds of each."""
    for line in lines.strip().splitlines():
        start = time.monotonic()
        words = shlex.split(line.replace("IMAGE", str(image)))
        status = main.main(words, prog_name="topdb-tf", standalone_mode=False)
        if isinstance(status, int) and status:
            sys.exit(f"status {status}: topdb-tf {line}")
        seconds = time.monotonic() - start
        sys.stdout.write(f"{seconds:5.1f} s  topdb-tf {line}\n")


data = Path("data", "synthetic")
write_synthetic(
    data, num_train_pids=6, num_test_pids=4, images_per_pid=6, num_cameras=2
)
os.environ["TOPDB_DATA"] = str(data.parent.absolute())
query = min((data / "query").iterdir())
run(COMMANDS, query)
if found := {"keras_hub", "tensorflow_text"} & set(sys.modules):
    sys.exit(f"{found} was imported where nothing needs it")
run(OF_PRESETS, query)
