"""Metadata of the package; the settings of the tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

DOCS = [
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.6,<10",
    "mkdocstrings[python]>=1,<2",
]

here = Path(__file__).parent
version = re.search(
    r'__version__ = "(.+)"', (here / "topdb_tf" / "__init__.py").read_text()
)[1]

setup(
    name="topdb-tf",
    version=version,
    description="Top-DB-Net for person re-identification, on Keras 3 and TensorFlow",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.14",
    # Recipes and data set cards live at the top level of the repository; a wheel
    # carries them inside the package.
    packages=[
        *find_packages(include=["topdb_tf", "topdb_tf.*"]),
        "topdb_tf.configs",
        "topdb_tf.datasets",
    ],
    package_dir={"topdb_tf.configs": "configs", "topdb_tf.datasets": "datasets"},
    package_data={
        "topdb_tf": ["py.typed"],
        "topdb_tf.configs": ["*.yaml"],
        "topdb_tf.datasets": ["*.yaml", "README.md"],
        "topdb_tf.model": ["demo/*"],
        "topdb_tf.report": ["templates/*"],
        "topdb_tf.search": ["page/*"],
    },
    install_requires=[
        "tensorflow>=2.19",
        "tensorflow-serving-api>=2.19",  # requests: of clients, and for the warm-up
        # The first of each line without known holes; Python 3.10 has 3.12 alone.
        "keras>=3.12.4,!=3.13.*,!=3.14.*,!=3.15.0",
        "keras-hub>=0.22",
        "numpy>=1.26",
        "numba>=0.61",
        "scikit-learn>=1.5",
        "scipy>=1.11.1",
        "h5py>=3.11",
        "pillow>=10",
        "click>=8.5",
        "PyYAML>=6",
        "matplotlib>=3.8",
        "jinja2>=3.1",
        "tensorboard>=2.19",
        "rich>=13",
        "werkzeug>=3",  # serves the page of an index; TensorBoard has it too
        "safetensors>=0.5",  # KerasHub reads timm's weights with it
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.19"],
        "torch": ["torch>=2.6"],
        # tf2onnx writes the file, ONNX Runtime checks it.
        "onnx": ["tf2onnx>=1.17", "onnx>=1.17", "onnxruntime>=1.20"],
        # TensorFlow writes the file, its successor's interpreter checks it.
        "litert": ["ai-edge-litert>=1.2"],
        # Embeddings in Parquet files.
        "parquet": ["pyarrow>=16"],
        # Workers that embed, here or on a cluster; large, so not in `test`.
        "ray": ["ray[data]>=2.40", "pyarrow>=16"],
        # Approximate search indexes; the exact kind does without.
        "search": ["faiss-cpu>=1.10"],
        # An index in a collection of Milvus: the client, and the embedded engine.
        "milvus": ["pymilvus>=3.0", "milvus-lite>=3.2"],
        # The site of the documentation; a test builds it, so `test` has them too.
        "docs": DOCS,
        "test": [
            *DOCS,
            "basedpyright>=1.30",  # Pyright with its Node.js, all from PyPI
            "pytest>=8",
            "pytest-xdist>=3.6.1",
            "hypothesis>=6.100",
            "tf2onnx>=1.17",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "ai-edge-litert>=1.2",
            "faiss-cpu>=1.10",
            "pyarrow>=16",
            "pymilvus>=3.0",
            "milvus-lite>=3.2",
            "ruff>=0.9",
            "build>=1.2.1",
            "setuptools>=77.0.3",
            "selenium>=4.20",  # drives the browser that reports are looked at in
        ],
    },
    entry_points={"console_scripts": ["topdb-tf = topdb_tf.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
