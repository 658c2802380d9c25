import sys

import numpy as np
import pytest

from tests.checkpoint_files import write_safetensors, write_torch
from topdb_tf.model.torch_files import read_torch_file

WEIGHTS = {
    "layer.weight": np.arange(6, dtype="float32").reshape(2, 3),
    "layer.num_batches_tracked": np.int64(5),
}


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def assert_weights(file):
    assert list(file.state_dict) == list(WEIGHTS)
    for key, value in WEIGHTS.items():
        assert file.state_dict[key].dtype == value.dtype
        np.testing.assert_array_equal(file.state_dict[key], value)


def adam_state(torch):
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


class TouchesAFile:
    """Its pickle, when run, makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_checkpoint_of_training_is_read_without_its_optimizer(
    torch, tmp_path, is_zip
):
    path = tmp_path / "model.pth.tar-400"
    facts = {"epoch": 400, "rank1": np.float32(0.875), "optimizer": adam_state(torch)}
    write_torch(torch, path, WEIGHTS, is_zip=is_zip, **facts)
    file = read_torch_file(path)
    assert_weights(file)
    assert (file.epoch, file.rank_1) == (400, 0.875)


@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_a_number_of_either_version_of_numpy_is_read(torch, tmp_path, package):
    path = tmp_path / "model.pth.tar"
    write_torch(torch, path, WEIGHTS, is_zip=False, rank1=np.float32(0.5))
    content = path.read_bytes().replace(b"numpy._core", b"numpy.core")
    assert content.count(b"numpy.core.multiarray\nscalar") == 1
    path.write_bytes(content.replace(b"numpy.core", package))
    assert read_torch_file(path).rank_1 == 0.5


def test_a_bare_state_dict_of_parameters_is_read(torch, tmp_path):
    path = tmp_path / "resnet50.pth"
    weights = {key: torch.tensor(value) for key, value in WEIGHTS.items()}
    weights["layer.weight"] = torch.nn.Parameter(weights["layer.weight"])
    torch.save(weights, path)
    file = read_torch_file(path)
    assert_weights(file)
    assert (file.epoch, file.rank_1) == (None, None)


def test_half_precision_becomes_float32(torch, tmp_path):
    path = tmp_path / "half.pth"
    torch.save({"a": torch.tensor([1.5, 2.5], dtype=torch.bfloat16)}, path)
    values = read_torch_file(path).state_dict["a"]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [1.5, 2.5])


@pytest.mark.parametrize("is_zip", [True, False])
def test_code_in_a_file_is_refused_and_not_run(torch, tmp_path, is_zip):
    path, made = tmp_path / "code.pth.tar", tmp_path / "made"
    write_torch(torch, path, WEIGHTS, is_zip=is_zip, rank1=TouchesAFile(made))
    with pytest.raises(ValueError, match=r"code\.pth\.tar.*Received: .*getattr"):
        read_torch_file(path)
    assert not made.exists()
    torch.load(path, weights_only=False)  # it would have been made
    assert made.exists()


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_named(torch, tmp_path, is_zip, share):
    path = tmp_path / "short.pth.tar"
    write_torch(torch, path, WEIGHTS, is_zip=is_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"short\.pth\.tar must be a whole file"):
        read_torch_file(path)


@pytest.mark.parametrize("content", [b"no weights at all", b"PK\x03\x04 nor a zip"])
def test_a_file_of_another_kind_is_named(torch, tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.pth must be a whole file") as error:
        read_torch_file(path)
    assert "weights_only" not in str(error.value)  # no advice to run what is there


def test_what_is_no_state_dict_is_named(torch, tmp_path):
    path = tmp_path / "other.pth"
    for content, words in (
        (torch.ones(3), "must hold a state dict.*Received: Tensor"),
        ({}, ".*it has none"),
        ({"state_dict": [1, 2]}, ".*it has none"),
        ({1: torch.ones(3)}, "must hold nothing but tensors.*Received: 1 of"),
        ({"state_dict": {"a": "b"}}, "must hold nothing but tensors.*Received: 'a' of"),
    ):
        torch.save(content, path)
        with pytest.raises(ValueError, match=rf"other\.pth {words}"):
            read_torch_file(path)


def test_safetensors_need_no_pytorch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "model.safetensors"
    write_safetensors(path, dict(sorted(WEIGHTS.items())))
    file = read_torch_file(path)
    assert set(file.state_dict) == set(WEIGHTS)
    for key, value in WEIGHTS.items():
        np.testing.assert_array_equal(file.state_dict[key].reshape(value.shape), value)
    assert (file.epoch, file.rank_1) == (None, None)


def test_without_pytorch_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "model.pth.tar"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValueError, match="pip install 'torch>="):
        read_torch_file(path)


@pytest.mark.parametrize("share", [0, 0.1, 0.9])
def test_safetensors_cut_short_are_named(tmp_path, share):
    path = tmp_path / "short.safetensors"
    write_safetensors(path, WEIGHTS)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="short.safetensors must be a whole"):
        read_torch_file(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth"):
        read_torch_file(tmp_path / "nowhere.pth")


def test_a_small_file_of_huge_tensors_is_refused_before_they_are_made(tmp_path):
    path = tmp_path / "view.pth"
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.zeros(1, dtype=torch.half).expand(10**5, 10**5)}, path)
    with pytest.raises(ValueError, match="says to hold"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("values", "reason"),
    [([float("nan")], "finite"), ([1j], "real numbers")],
)
def test_weights_are_finite_and_real(values, reason, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    torch.save({"a": torch.tensor(values)}, path)
    with pytest.raises(ValueError, match=reason):
        read_torch_file(path)
