"""Archives of data sets: where they are put, and what is refused without a trace."""

import bz2
import io
import json
import os
import shutil
import struct
import tarfile
import zipfile

import pytest
from click.testing import CliRunner

from topdb_tf.cli import main
from topdb_tf.data.archives import archive as archives
from topdb_tf.data.archives.archive import open_archive
from topdb_tf.data.archives.prepare import prepare

MARKET = {
    "Market/bounding_box_train/0002_c1s1_000451_03.jpg": b"train",
    "Market/query/0003_c1s1_000451_03.jpg": b"query",
    "Market/bounding_box_test/0003_c2s1_000451_03.jpg": b"gallery",
    "Market/readme.txt": b"terms",
}
MSMT17 = {
    "MSMT17_V1/list_train.txt": b"0000/0000_000_01_0303morning_0008_0.jpg 0\n",
    "MSMT17_V1/list_val.txt": b"",
    "MSMT17_V1/list_query.txt": b"",
    "MSMT17_V1/list_gallery.txt": b"",
    "MSMT17_V1/train/0000/0000_000_01_0303morning_0008_0.jpg": b"image",
}


def cuhk03_np(*kinds):
    return {
        f"np/{kind}/{part}/0003_c1_21.png": kind.encode()
        for kind in kinds
        for part in ("bounding_box_train", "query", "bounding_box_test")
    }


def write_zip(path, contents, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in contents.items():
            file.writestr(name, data)
    return path


def write_tar(path, contents, mode="w"):
    with tarfile.open(path, mode) as file:
        for name, data in contents.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            if not isinstance(data, tarfile.TarInfo):
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
            else:
                file.addfile(info)
    return path


def special(kind, target=""):
    info = tarfile.TarInfo("special")
    info.type, info.linkname = kind, target
    return info


def below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(tmp_path, archive, match, **options):
    """Checks that an archive is refused, and that nothing is new anywhere."""
    before = below(tmp_path)
    with pytest.raises(ValueError, match=match):
        prepare(archive, tmp_path / "root" / "data", **options)
    assert below(tmp_path) == before


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [(".tar", "w"), (".tar.gz", "w:gz"), (".tar.bz2", "w:bz2"), (".tar.xz", "w:xz")],
)
def test_a_tar_is_unpacked_whatever_its_compression_and_name(tmp_path, suffix, mode):
    archive = write_tar(tmp_path / f"a{suffix}", MARKET, mode).rename(
        tmp_path / "a.bin"
    )
    result = prepare(archive, tmp_path)
    assert result.kind == "market1501"
    folder = tmp_path / "market1501/Market-1501-v15.09.15"
    assert result.folder == folder
    for name, data in MARKET.items():
        assert (folder / name.removeprefix("Market/")).read_bytes() == data
    assert result.files == 4


def test_a_zip_is_unpacked_without_what_does_not_belong_to_it(tmp_path):
    extra = {"__MACOSX/Market/._query": b"x", "Market/query/Thumbs.db": b"x"}
    extra |= {"other/notes.txt": b"x"}
    result = prepare(write_zip(tmp_path / "a.zip", MARKET | extra), tmp_path)
    assert (result.files, result.left_out) == (4, 3)
    assert not list((tmp_path / "market1501").rglob("Thumbs.db"))
    folder = tmp_path / "market1501/Market-1501-v15.09.15"
    assert list((tmp_path / "market1501").iterdir()) == [folder]


@pytest.mark.parametrize(
    ("contents", "kind", "first"),
    [
        (
            {
                f"d/{part}/0001_c2_f0046182.jpg": b"x"
                for part in ("bounding_box_train", "query", "bounding_box_test")
            },
            "dukemtmc-reid",
            "dukemtmc-reid/DukeMTMC-reID/query/0001_c2_f0046182.jpg",
        ),
        (
            cuhk03_np("labeled", "detected"),
            "cuhk03-np",
            "cuhk03-np/detected/query/0003_c1_21.png",
        ),
        (
            {"cuhk03_release/cuhk-03.mat": b"x", "cuhk03_release/README.md": b"x"},
            "cuhk03",
            "cuhk03/cuhk03_release/cuhk-03.mat",
        ),
        (MSMT17, "msmt17-v1", "msmt17/MSMT17_V1/list_train.txt"),
        (
            {k.replace("/train/", "/mask_train_v2/"): v for k, v in MSMT17.items()},
            "msmt17-v2",
            "msmt17/MSMT17_V2/list_train.txt",
        ),
    ],
)
def test_members_tell_the_data_set(tmp_path, contents, kind, first):
    result = prepare(write_zip(tmp_path / "unnamed", contents), tmp_path)
    assert result.kind == kind
    assert (tmp_path / first).is_file()


def test_cuhk03_asks_for_the_protocol_files_that_are_missing(tmp_path):
    (tmp_path / "cuhk03").mkdir()
    protocol = tmp_path / "cuhk03/cuhk03_new_protocol_config_labeled.mat"
    protocol.write_bytes(b"x")
    archive = write_zip(tmp_path / "a.zip", {"r/cuhk-03.mat": b"x"})
    step = prepare(archive, tmp_path).next[0]
    assert "put cuhk03_new_protocol_config_detected.mat into" in step


def test_unknown_names_need_the_data_set_named(tmp_path):
    contents = {name.replace("_c", "_cam_c"): data for name, data in MARKET.items()}
    archive = write_zip(tmp_path / "a.zip", contents)
    refused(tmp_path, archive, "--dataset says which")
    assert prepare(archive, tmp_path, dataset="market1501").kind == "market1501"


def test_an_archive_of_another_data_set_than_named_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", MARKET)
    refused(tmp_path, archive, "must hold msmt17-v1", dataset="msmt17-v1")


# Each way out of the folder, or to harm, once in a zip and once in a tar.
NAMES = {
    "absolute": "/etc/passwd",
    "parent": "Market/../../escaped.jpg",
    "parent at the end": "Market/query/..",
    "drive": "C:/escaped.jpg",
    "backslashes": "..\\..\\escaped.jpg",
    "stream": "Market/query/a.jpg:hidden",
    "device name": "Market/query/NUL.jpg",
    "trailing dot": "Market/query/a.jpg.",
    "control": "Market/query/a\nb.jpg",
    "empty part": "Market//query/a.jpg",
    "too long": f"Market/query/{'a' * 241}.jpg",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path, name, write):
    archive = write(tmp_path / "a", MARKET | {name: b"x"})
    refused(tmp_path, archive, "stay inside the folder")


def test_a_zip_of_windows_separates_folders_by_backslashes(tmp_path):
    def windows(*names):
        contents = {name.replace("/", "\\"): b"" for name in names}
        return {k.replace("/", "\\"): v for k, v in MARKET.items()} | contents

    archive = write_zip(tmp_path / "a.zip", windows("Market/query/"))
    assert prepare(archive, tmp_path / "root", dataset="market1501").files
    expected = write_zip(tmp_path / "b.zip", MARKET)
    prepare(expected, tmp_path / "other", dataset="market1501")
    assert below(tmp_path / "root") == below(tmp_path / "other")
    archive = write_zip(tmp_path / "c.zip", windows("Market/../../escaped.jpg"))
    refused(tmp_path, archive, "stay inside the folder")


@pytest.mark.parametrize(
    "special_file",
    [
        special(tarfile.SYMTYPE, "/etc"),
        special(tarfile.LNKTYPE, "../../outside"),
        special(tarfile.CHRTYPE),
        special(tarfile.FIFOTYPE),
    ],
    ids=["symlink", "hard link", "device", "fifo"],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, special_file):
    archive = write_tar(tmp_path / "a.tar", MARKET | {"Market/link": special_file})
    refused(tmp_path, archive, "no links and no devices")


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", MARKET)
    with zipfile.ZipFile(archive, "a") as file:
        info = zipfile.ZipInfo("Market/link")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc")
    refused(tmp_path, archive, "no links and no devices")


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("Market/QUERY/0003_c1s1_000451_03.jpg", "differ in case"),
        ("Market/./query/0003_c1s1_000451_03.jpg", "hold each file once"),
        ("Market/query", "a file where it has a folder"),
    ],
)
def test_members_that_overwrite_each_other_are_refused(tmp_path, write, name, match):
    refused(tmp_path, write(tmp_path / "a", MARKET | {name: b"x"}), match)


def test_a_bomb_is_refused_by_its_ratio(tmp_path):
    contents = MARKET | {"Market/query/0003_c3s1_000451_03.jpg": bytes(10_000_000)}
    bomb = write_zip(tmp_path / "a.zip", contents, zipfile.ZIP_DEFLATED)
    refused(tmp_path, bomb, "fill the disk")
    refused(tmp_path, write_tar(tmp_path / "b", contents, "w:gz"), "fill the disk")


def test_more_bytes_or_files_than_any_data_set_are_refused(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "a.zip", MARKET)
    monkeypatch.setattr(archives, "MAX_BYTES", 20)
    refused(tmp_path, archive, "Received: 22 bytes")  # 5 + 5 + 7 + 5
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    refused(tmp_path, archive, "more than 3 files")


def test_more_than_the_recognised_data_set_has_is_refused(tmp_path):
    contents = {"r/cuhk-03.mat": b"x"} | {f"r/{i}.txt": b"" for i in range(1000)}
    archive = write_zip(tmp_path / "a.zip", contents)
    refused(tmp_path, archive, "much more than cuhk03 has. Received: 1,001 files")


def test_a_huge_header_in_a_tar_is_not_read_into_memory(tmp_path):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32
    archive = tmp_path / "a.tar.bz2"
    archive.write_bytes(bz2.compress(header.tobuf() + bytes(1024)))
    refused(tmp_path, archive, "made to harm")


def test_a_zip_whose_files_overlap_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", MARKET)
    data = bytearray(archive.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    data[second + 42 : second + 46] = struct.pack("<I", 4)  # within the first file
    archive.write_bytes(data)
    refused(tmp_path, archive, "overlap")


def test_an_encrypted_zip_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", MARKET)
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    refused(tmp_path, archive, "is encrypted")


def test_a_file_that_is_not_what_its_checksum_says_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", MARKET)
    archive.write_bytes(archive.read_bytes().replace(b"gallery", b"gAllery", 1))
    refused(tmp_path, archive, "Download it again")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_tar_that_is_cut_short_is_refused(tmp_path, mode):
    contents = {name: os.urandom(20_000) for name in MARKET}
    archive = write_tar(tmp_path / "a", contents, mode)
    archive.write_bytes(archive.read_bytes()[:50_000])
    refused(tmp_path, archive, "Download it again")


@pytest.mark.parametrize(
    ("head", "match"),
    [
        (b"7z\xbc\xaf\x27\x1c", "by hand"),
        (b"Rar!\x1a\x07\x00", "by hand"),
        (b"<html>sign in</html>", "whole zip or tar"),
        (b"", "whole zip or tar"),
    ],
)
def test_what_is_no_archive_is_refused_with_a_way_out(tmp_path, head, match):
    archive = tmp_path / "Market-1501-v15.09.15.zip"
    archive.write_bytes(head)
    refused(tmp_path, archive, match)


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    archive = write_zip(tmp_path / "a.zip", MARKET)
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage)
    refused(tmp_path, archive, "must have room")


@pytest.mark.parametrize(
    ("write", "copier"), [(write_zip, shutil), (write_tar, tarfile)]
)
def test_an_interruption_leaves_nothing_and_the_archive_as_it_was(
    tmp_path, monkeypatch, write, copier
):
    archive = write(tmp_path / "a", MARKET)
    before = below(tmp_path)

    def interrupted(source, target, *args, **options):
        target.write(source.read(1))
        raise KeyboardInterrupt

    monkeypatch.setattr(copier, "copyfileobj", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(archive, tmp_path / "root")
    assert below(tmp_path) == before


def test_a_python_that_cannot_unpack_a_tar_safely_is_told(tmp_path, monkeypatch):
    monkeypatch.delattr(tarfile, "data_filter")
    refused(tmp_path, write_tar(tmp_path / "a.tar", MARKET), "Python 3.10.12, 3.11.4")
    assert prepare(write_zip(tmp_path / "a.zip", MARKET), tmp_path).files == 4


def test_a_tar_made_within_its_folder_is_unpacked(tmp_path):
    (folder,) = {name.partition("/")[0] for name in MARKET}
    dot = tarfile.TarInfo(".")
    dot.type = tarfile.DIRTYPE
    contents = {".": dot}
    contents |= {n.replace(folder, ".", 1): data for n, data in MARKET.items()}
    result = prepare(write_tar(tmp_path / "a.tar", contents), tmp_path)
    assert (result.folder / "query/0003_c1s1_000451_03.jpg").read_bytes() == b"query"
    assert result.folder.stat().st_mode == tmp_path.stat().st_mode | 0o55


def test_unpacked_files_have_the_permissions_of_any_new_file(tmp_path):
    name = "Market/readme.txt"
    info = tarfile.TarInfo(name)
    info.mode = 0o4777
    result = prepare(write_tar(tmp_path / "a.tar", MARKET | {name: info}), tmp_path)
    (tmp_path / "new").touch()
    mode = (result.folder / "readme.txt").stat().st_mode
    assert mode == (tmp_path / "new").stat().st_mode


def test_a_zip_that_holds_less_of_a_file_than_it_says_is_refused(tmp_path):
    archive = write_zip(tmp_path / "a.zip", MARKET)
    data = bytearray(archive.read_bytes())
    place = data.index(b"PK\x01\x02") + 24  # the size of the first file
    data[place : place + 4] = struct.pack("<I", 6)  # of 5
    archive.write_bytes(data)
    refused(tmp_path, archive, "not of 6 bytes")


def test_a_data_set_that_is_there_is_not_touched(tmp_path):
    (tmp_path / "market1501/query").mkdir(parents=True)
    before = below(tmp_path)
    archive = write_zip(tmp_path.parent / f"{tmp_path.name}.zip", MARKET)
    with pytest.raises(FileExistsError, match="is there already"):
        prepare(archive, tmp_path)
    assert below(tmp_path) == before


def test_no_member_is_given_before_all_are_looked_at(tmp_path):
    archive = write_zip(tmp_path / "a.zip", MARKET | {"../last": b"x"})
    with pytest.raises(ValueError, match="last"), open_archive(archive):
        pytest.fail("opened")


def test_the_command_counts_and_tells_what_comes_next(tmp_path):
    archive = write_zip(tmp_path / "a.zip", MARKET)
    arguments = ["data", "prepare", str(archive), "--data-root", str(tmp_path / "data")]
    answer = CliRunner().invoke(main, arguments)
    assert answer.exit_code == 1  # 1 of 12,936 images
    assert "market1501: train 1, query 1, gallery 1 images, NOT COMPLETE" in (
        answer.stdout
    )
    assert "topdb-tf fit --dataset market1501" in answer.stdout
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_the_command_prints_json(tmp_path):
    archive = write_zip(tmp_path / "a.zip", cuhk03_np("detected"))
    answer = CliRunner().invoke(
        main, ["data", "prepare", str(archive), "--data-root", str(tmp_path), "--json"]
    )
    result = json.loads(answer.stdout)
    assert list(result["checks"]) == ["cuhk03-detected"]
    assert result["checks"]["cuhk03-detected"]["parts"]["train"]["images"] == 1
