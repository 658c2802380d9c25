"""Each finding of `data check` appears for its cause, and for nothing else."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from topdb_tf.cli import main
from topdb_tf.data.checks.check import check_data
from topdb_tf.data.checks.findings import SEVERITIES
from topdb_tf.data.checks.names import check_names
from topdb_tf.data.market import PARTS
from topdb_tf.data.records import ImageRecord, PartCounts, Split, load_card
from topdb_tf.drawing.montage import Group, Row, Section, montage_figure

TRAIN, QUERY, GALLERY = PARTS.values()


def picture(seed, size=(64, 128)):
    """A picture of 4 x 8 squares of drawn colours, unlike those of other seeds."""
    squares = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    return Image.fromarray(squares).resize(size, Image.Resampling.BILINEAR)


def jpeg(seed, **options):
    file = io.BytesIO()
    picture(seed, **options).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A sound data set: 3 persons to train on, 2 to test, 2 cameras, distractors."""
    root = tmp_path_factory.mktemp("clean")
    names = [(TRAIN, pid, c, n) for pid in (1, 2, 3) for c in (1, 2) for n in (1, 2)]
    names += [(QUERY, pid, 1, 1) for pid in (4, 5)]
    names += [(GALLERY, pid, 2, n) for pid in (4, 5) for n in (1, 2)]
    names += [(GALLERY, 0, 1, n) for n in (1, 2)]
    for seed, (part, pid, camid, number) in enumerate(names):
        path = root / part / f"{pid:04d}_c{camid}s1_{number:06d}_01.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg(seed))
    return root


@pytest.fixture
def folder(clean, tmp_path):
    """A copy of it that a test may spoil."""
    return shutil.copytree(clean, tmp_path / "own")


def kinds(folder, **options):
    return sorted(finding.kind for finding in findings(folder, **options))


def findings(folder, **options):
    return check_data(str(folder), **options).findings


def first(folder, part):
    return min((folder / part).glob("[0-9]*.jpg"))


def named_files(finding):
    return [[path.name for path in group] for group in finding.groups]


def test_a_clean_data_set_has_no_findings(clean):
    result = check_data(str(clean))
    assert result.findings == ()
    assert result.num_opened == 20
    assert result.exit_status(strict=True) == 0


def test_the_counts_of_the_parts_by_hand(clean):
    parts = check_data(str(clean), quick=True).to_dict()["parts"]
    assert parts["train"] == {
        "images": 12,
        "pids": 3,
        "cameras": 2,
        "distractors": 0,
        "images_per_pid": {"min": 4, "median": 4.0, "max": 4},
    }
    assert parts["gallery"]["images"] == 6
    assert parts["gallery"]["pids"] == 3  # pid 0 counts as one
    assert parts["gallery"]["distractors"] == 2
    assert parts["gallery"]["images_per_pid"]["max"] == 2  # without distractors


def save(path, image, **options):
    image.save(path, **options)


def truncate(root):
    path = first(root, TRAIN)
    path.write_bytes(path.read_bytes()[:-300])


def add(root, part, name, data=None):
    (root / part / name).write_bytes(jpeg(99) if data is None else data)


def copy(root, source, part, name):
    add(root, part, name, first(root, source).read_bytes())


def save_again(root, source, part, name):
    save(root / part / name, Image.open(first(root, source)), quality=60)


def constant_cameras(root):
    for part in (QUERY, GALLERY):
        for path in list((root / part).iterdir()):
            name = path.name.replace("_c2", "_c1").replace("0001_01", "0001_02")
            path.rename(path.with_name(f"{name[:-6]}{part[0]}.jpg"))


def make_queries_the_gallery(root):
    for path in (root / GALLERY).glob("0000*"):
        path.unlink()
    for path in list((root / QUERY).iterdir()):
        shutil.copy(path, root / GALLERY)
    for path in (root / GALLERY).iterdir():
        shutil.copy(path, root / QUERY)


def turned(orientation):
    """A camera's note of how it was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# kind, severity, what is done to a clean folder
CAUSES = {
    "unreadable": ("error", truncate),
    "unnamed": ("error", lambda root: add(root, TRAIN, "anna.jpg")),
    "nested": (
        "error",
        lambda root: (
            (root / TRAIN / "0009").mkdir(),
            add(root, TRAIN, "0009/1.jpg"),
        ),
    ),
    "copy-train-test": (
        "error",
        lambda root: copy(root, TRAIN, GALLERY, "0000_c2s1_000009_01.jpg"),
    ),
    "copy-pids": (
        "error",
        lambda root: copy(root, TRAIN, TRAIN, "0002_c1s1_000009_01.jpg"),
    ),
    "copy-cameras": (
        "error",
        lambda root: copy(root, QUERY, GALLERY, "0004_c2s1_000009_01.jpg"),
    ),
    "copy-query-gallery": (
        "note",
        lambda root: copy(root, QUERY, GALLERY, "0004_c1s1_000001_01.jpg"),
    ),
    "copy": (
        "warning",
        lambda root: copy(root, TRAIN, TRAIN, "0001_c1s1_000009_01.jpg"),
    ),
    "near-train-test": (
        "warning",
        lambda root: save_again(root, TRAIN, GALLERY, "0000_c1s1_000009_01.jpg"),
    ),
    "near-pids": (
        "warning",
        lambda root: save_again(root, TRAIN, TRAIN, "0002_c1s1_000009_01.jpg"),
    ),
    "near-distractor": (
        "warning",
        lambda root: save_again(root, QUERY, GALLERY, "0000_c2s1_000009_01.jpg"),
    ),
    "near-cameras": (
        "warning",
        lambda root: save_again(root, TRAIN, TRAIN, "0001_c2s1_000009_01.jpg"),
    ),
    "tiny": (
        "warning",
        lambda root: save(first(root, TRAIN), picture(50, (10, 20))),
    ),
    "landscape": (
        "warning",
        lambda root: save(first(root, TRAIN), picture(50, (128, 64))),
    ),
    "slender": (
        "warning",
        lambda root: save(first(root, TRAIN), picture(50, (20, 130))),
    ),
    "turned": (
        "warning",
        lambda root: save(first(root, TRAIN), picture(50), exif=turned(6)),
    ),
    "blank": (
        "warning",
        lambda root: save(first(root, TRAIN), Image.new("RGB", (64, 128), "red")),
    ),
    "other-format": ("warning", lambda root: add(root, QUERY, "0004_c1_1.webp")),
    "skipped": ("note", lambda root: add(root, QUERY, "Thumbs.db")),
    "doubled-suffix": (
        "note",
        lambda root: add(root, TRAIN, "0001_c1s1_000009_01.jpg.jpg"),
    ),
    "junk": ("note", lambda root: add(root, GALLERY, "-1_c1s1_000009_01.jpg")),
    "scarce-pids": (
        "warning",
        lambda root: first(root, TRAIN).unlink(),
    ),
    "no-match": (
        "warning",
        lambda root: add(root, QUERY, "0006_c1s1_000001_01.jpg"),
    ),
    "one-camera": ("warning", constant_cameras),
    "query-is-gallery": ("warning", make_queries_the_gallery),
}
# What follows from the same cause.
BESIDE = {
    "one-camera": {"reading"},
    "query-is-gallery": {"copy-query-gallery"},
}


@pytest.mark.parametrize("kind", CAUSES)
def test_each_cause_gives_its_finding_alone(folder, kind):
    severity, spoil = CAUSES[kind]
    spoil(folder)
    found = {one.kind: one for one in findings(folder)}
    assert set(found) == {kind} | BESIDE.get(kind, set())
    assert found[kind].severity == severity
    assert found[kind].fix
    assert check_data(str(folder)).exit_status() == (severity == "error")


def test_every_file_that_is_no_whole_image_is_named_with_the_reason(folder):
    add(folder, TRAIN, "0001_c1s1_000007_01.jpg", b"")
    add(folder, TRAIN, "0001_c1s1_000008_01.png", b"<html>not found</html>")
    whole = folder / TRAIN / "0001_c1s1_000009_01.png"
    save(whole, picture(50))
    whole.write_bytes(whole.read_bytes()[:-200])
    [finding] = [one for one in findings(folder) if one.kind == "unreadable"]
    assert len(finding.groups) == 3
    assert "3 images cannot be read" in finding.message
    assert "000008_01.png (is neither a JPEG nor a PNG" in finding.message
    assert "000009_01.png (is damaged" in finding.message


@pytest.mark.parametrize(
    ("form", "severity"), [("PNG", "note"), ("WEBP", "error"), ("BMP", "error")]
)
def test_a_suffix_that_is_not_the_format(folder, form, severity):
    path = first(folder, TRAIN)
    image = Image.open(path).copy()
    save(path, image, format=form)
    [finding] = findings(folder)
    assert (finding.kind, finding.severity) == ("suffix", severity)
    assert f"{path.name} ({form})" in finding.message


def test_pid_0_to_train_on_or_to_search_for(folder):
    for number in range(4):
        add(folder, TRAIN, f"0000_c1s1_{number:06d}_01.jpg", jpeg(70 + number))
    for path in (folder / GALLERY).glob("0000*"):
        path.unlink()
    assert kinds(folder) == ["pid-0"]
    add(folder, GALLERY, "0000_c2s1_000001_01.jpg", jpeg(80))
    add(folder, QUERY, "0000_c1s1_000001_01.jpg", jpeg(81))
    found = [one for one in findings(folder) if one.kind == "pid-0"]
    assert [one.severity for one in found] == ["error", "warning"]


def test_an_identity_in_training_and_test_is_named(folder):
    add(folder, GALLERY, "0002_c2s1_000009_01.jpg")
    [finding] = findings(folder)
    assert finding.kind == "shared-pids"
    assert "pid 2" in finding.message
    assert len(finding.groups[0]) == 4


def test_all_names_that_do_not_parse_are_given(folder):
    for number in range(7):
        add(folder, TRAIN, f"nobody{number}.jpg", jpeg(100 + number))
    [finding] = findings(folder)
    assert len(finding.groups) == 7
    assert "and 4 more" in finding.message


def test_pairs_stay_together(folder):
    name = first(folder, TRAIN).name
    copy(folder, TRAIN, TRAIN, "0002_c1s1_000009_01.jpg")
    [finding] = findings(folder)
    assert named_files(finding) == [[name, "0002_c1s1_000009_01.jpg"]]


def test_a_misspelt_camera_is_told_by_its_few_images(tmp_path):
    pairs = [(pid, camid) for pid in (1, 2) for camid in (1, 2)] * 30 + [(1, 12)]
    train = tuple(ImageRecord(tmp_path / f"{i}.jpg", *p) for i, p in enumerate(pairs))
    [finding] = check_names(Split("own", train, (), ()), None)
    assert finding.kind == "scarce-camera"
    assert "camera 12 (1); the median is 60" in finding.message


def benchmark(card, **changed):
    """A split with the counts of a card, without files."""
    parts = {}
    for part, counts in {**card.parts, **changed}.items():
        records = (
            ImageRecord(
                Path(f"{part}/{number}"), 1 + number % counts.pids, 1 + number % 2
            )
            for number in range(counts.images)
        )
        parts[part] = tuple(records)
    return Split(card.name, **parts)


def test_a_benchmark_that_is_complete_has_no_findings():
    card = load_card("cuhk03-labeled")
    assert check_names(benchmark(card), card) == []


def test_boxes_of_the_detector_are_not_taken_for_those_by_hand():
    labeled, detected = load_card("cuhk03-labeled"), load_card("cuhk03-detected")
    [finding] = check_names(benchmark(detected), labeled)
    assert (finding.severity, finding.kind) == ("error", "other-dataset")
    assert "CUHK03 (detected, new protocol), not of CUHK03 (labeled" in finding.message


def test_counts_are_told_by_part():
    card = load_card("cuhk03-labeled")
    wrong = {"train": PartCounts(7360, 766), "gallery": PartCounts(5330, 700)}
    first_one, second = check_names(benchmark(card, **wrong), card)
    assert first_one.kind == second.kind == "counts"
    assert "8 images missing, 1 identities missing" in first_one.message
    assert "2 images too many." in second.message


def test_own_images_with_the_counts_of_a_benchmark_are_noted():
    split = benchmark(load_card("cuhk03-detected"))
    [finding] = check_names(split, None)
    assert (finding.severity, finding.kind) == ("note", "benchmark")
    assert "`cuhk03-detected`" in finding.fix


def test_dukemtmc_is_noted_as_withdrawn_without_a_link():
    card = load_card("dukemtmc-reid")
    [finding] = check_names(benchmark(card), card)
    assert (finding.severity, finding.kind) == ("note", "withdrawn")
    assert "http" not in finding.message + finding.fix


def test_one_s_own_images_are_divided_as_fit_is_told_to(tmp_path):
    for pid in range(10):
        for camid in (1, 2):
            path = tmp_path / "people" / f"p{pid}" / f"x_c{camid}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    options = "--test-share", 0.5, "--division-seed", 3
    said = run(tmp_path / "people", "--quick", *options).stdout
    assert (
        "5 to train on and 5 to test (data.test_share=0.5, data.division_seed=3)"
        in said
    )


def test_a_quick_check_opens_no_image(folder):
    truncate(folder)
    result = check_data(str(folder), quick=True)
    assert (result.findings, result.num_opened) == ((), 0)


def test_msmt17_as_a_plain_folder_is_told_where_it_belongs(tmp_path):
    (tmp_path / "train/0000").mkdir(parents=True)
    (tmp_path / "list_train.txt").write_text("")
    [finding] = findings(tmp_path)
    assert (finding.severity, finding.kind) == ("error", "layout")
    assert "name it msmt17-v1 or msmt17-v2" in finding.message


def test_all_images_that_a_file_names_in_vain_are_told(tmp_path):
    rows = [f"{pid}-{n}.jpg,p{pid},c{n}" for pid in range(5) for n in range(3)]
    for row in rows[:12]:
        (tmp_path / row.split(",")[0]).touch()
    (tmp_path / "own.csv").write_text("\n".join(["path,pid,camid", *rows]))
    result = check_data(str(tmp_path / "own.csv"), quick=True)
    [missing] = [one for one in result.findings if one.severity == "error"]
    assert missing.kind == "missing"
    assert [path.name for (path,) in missing.groups] == [f"4-{n}.jpg" for n in range(3)]
    assert "3 images that cannot be found: 4-0.jpg (line 14)" in missing.message
    assert sum(part.images for part in result.parts.values()) == 12


def test_one_folder_a_person_is_checked_too(tmp_path):
    for seed, (person, camera, number) in enumerate(
        (p, c, n)
        for p in ("anna", "bob", "carl", "dora")
        for c in (1, 2)
        for n in (1, 2)
    ):
        path = tmp_path / "people" / person / f"cam{camera}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed))
    assert set(kinds(tmp_path / "people")) == {"reading"}
    path.write_bytes(path.read_bytes()[:-300])
    assert "unreadable" in kinds(tmp_path / "people")


def run(*arguments):
    command = ["data", "check", "--batch-size", "8", *map(str, arguments)]
    return CliRunner().invoke(main, command)


def test_the_status_tells_errors_and_strictly_warnings(folder):
    assert run(folder).exit_code == 0
    first(folder, TRAIN).unlink()  # 3 of 4 images: a warning
    assert run(folder).exit_code == 0
    assert run(folder, "--strict").exit_code == 1
    assert run(folder, "--strict", "--images-per-pid", 3).exit_code == 0
    # The 3 persons do for a batch of 8 images, and not for one of 64.
    batches = run(folder, "--batch-size", 64, "--images-per-pid", 3)
    assert batches.exit_code == 0
    assert "warning: A batch of 64 images, 3 each of 21 identities" in batches.stdout
    assert "--set data.batch_size=9," in batches.stdout
    truncate(folder)
    assert run(folder).exit_code == 1
    assert run(folder / "missing").exit_code == 2
    assert run("market1502").exit_code == 2


def test_the_command_prints_a_table_findings_and_no_colours_in_files(folder):
    truncate(folder)
    lines = run(folder).stdout.splitlines()
    assert lines[3].split() == "train 12 3 2 4 / 4 / 4 0".split()
    assert any(line.startswith("error: 1 image cannot be read") for line in lines)
    assert "\x1b" not in "".join(lines)
    assert lines[-1].startswith("1 error, 0 warnings, 0 notes; 20 images opened")


def test_json_holds_every_file(folder):
    for number in range(9):
        add(folder, TRAIN, f"nobody{number}.jpg", jpeg(100 + number))
    result = json.loads(run(folder, "--json", "--quick").stdout)
    assert len(result["findings"][0]["groups"]) == 9
    assert result["counts"] == {"error": 1, "warning": 0, "note": 0}


def test_a_montage_shows_readable_images_and_names_the_damaged(folder, tmp_path):
    truncate(folder)
    save_again(folder, QUERY, TRAIN, "0002_c1s1_000009_01.jpg")
    answer = run(folder, "--montage", tmp_path / "sheet.png")
    assert answer.stdout.splitlines()[-1] == f"montage: {tmp_path / 'sheet.png'}"
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.width == 1440  # 7.2 inches at 200 dots
    assert run(folder, "--montage", tmp_path / "a.png", "--quick").exit_code == 2
    assert run(folder, "--montage", tmp_path / "a.txt").exit_code == 2


def test_a_montage_has_the_names_that_their_owner_gave(tmp_path, monkeypatch):
    for seed, name in enumerate(f"p{p}-{c}.jpg" for p in range(4) for c in "ab"):
        (tmp_path / name).write_bytes(jpeg(seed, size=(100, 50)))  # landscape
    rows = [f"{path.name},{path.stem[:2]}" for path in tmp_path.glob("*.jpg")]
    rows = [f"{row},{'door' if '-a' in row else 'yard'}" for row in rows]
    (tmp_path / "own.csv").write_text("\n".join(["path,pid,camid", *rows]))
    drawn = []

    def montage(title, rows, sections):
        drawn.append((list(rows), list(sections)))
        return montage_figure(title, *drawn[0])

    monkeypatch.setattr("topdb_tf.drawing.montage.montage_figure", montage)
    check_data(str(tmp_path / "own.csv"), montage=tmp_path / "sheet.png")
    [(rows, sections)] = drawn
    assert [row.label for row in rows] == [f"pid p{p}" for p in range(4)]
    assert rows[0].captions == ["camera door", "camera yard"]
    assert {c for group in sections[0].groups for c in group.captions} == {
        f"p{p} {camera}" for p in range(4) for camera in ("door", "yard")
    }


def test_the_montage_grows_with_its_rows_and_sections():
    image = np.zeros((20, 10, 3), np.uint8)
    row = Row("pid 1", [image] * 3, ["camera 1"] * 3)
    pair = Group([image] * 2, ["1 c1", "2 c1"])
    one = montage_figure("own", [row], [])
    two = montage_figure("own", [row, row], [Section("near-pids: 1", [pair])])
    assert two.get_figheight() > one.get_figheight()
    assert len(one.axes) == 3
    assert len(two.axes) == 8
    with pytest.raises(ValueError, match="at least one image"):
        montage_figure("own", [], [])


def test_the_worst_findings_come_first(folder):
    add(folder, QUERY, "Thumbs.db")
    first(folder, TRAIN).unlink()
    truncate(folder)
    severities = [one.severity for one in findings(folder)]
    assert severities == ["error", "warning", "note"]
    assert SEVERITIES == ("error", "warning", "note")
