"""YAML that people write: values are what they look like, and have an end."""

import pytest

from topdb_tf.yaml_files import MOST_CHARACTERS, read_yaml, yaml_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"),  # YAML 1.1: 8
        ("1:30", "1:30"),  # 90
        ("2024-01-01", "2024-01-01"),  # a date
        ("0x10", 16),
        ("1_000", 1000),
        ("-3", -3),
        ("1.5", 1.5),
        ("1.0e-3", 0.001),
        ("[yes, no, ~]", [True, False, None]),
    ],
)
def test_a_value_is_what_it_looks_like(text, value):
    assert yaml_value(text) == value
    assert type(yaml_value(text)) is type(value)


def test_aliases_and_merged_keys_are_read():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: [*a, *a]\n"
    base = {"x": 1, "y": 2}
    merged = {"y": 2, "x": 3}
    assert yaml_value(text) == {"a": base, "b": merged, "c": [base, base]}


def test_few_bytes_that_stand_for_billions_of_values_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 10):
        parts = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} [{parts}]")
    with pytest.raises(ValueError, match="aliases stand for far more"):
        yaml_value("\n".join(lines))
    with pytest.raises(ValueError, match="aliases stand for far more"):
        yaml_value("&a [*a]")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\nb: 2\na: 3", "the key `a` again in line 3"),
        ("a:\n  b: 1\n  b: 1", "the key `b` again in line 3"),
        ("[" * 3000, "recursion"),
        ("!!python/object/apply:os.system [x]", "tag"),
        ("!!int x", "invalid literal"),
        ("a:\n\tb: 1", "tab|token"),
        ("9" * 5000, "digits"),
        ("? [1]\n: 2", "unhashable"),
    ],
)
def test_what_is_no_yaml_is_one_kind_of_error(text, reason):
    with pytest.raises(ValueError, match=reason):
        yaml_value(text)


@pytest.mark.parametrize("content", [b"\xff\xfe\xe9", b"x" * MOST_CHARACTERS])
def test_a_file_that_is_none_is_named(content, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.yaml is not a YAML file"):
        read_yaml(path)
