"""What the check of a data set finds, and what it leaves alone."""

import dataclasses
from pathlib import Path

import pytest

from topdb_tf.data.checks.split import check_split, check_test
from topdb_tf.data.records import ImageRecord, Split


def records(*pids_and_camids, part="train"):
    return tuple(
        ImageRecord(Path(f"{part}/{index}.jpg"), pid, camid)
        for index, (pid, camid) in enumerate(pids_and_camids)
    )


def own_split(train=None, query=None, gallery=None):
    """Two training identities of 2 images, and two queries with one match each."""
    return Split(
        "own",
        records((1, 1), (1, 2), (2, 1), (2, 2)) if train is None else train,
        records((3, 1), (4, 2)) if query is None else query,
        records((3, 2), (4, 1), (0, 1)) if gallery is None else gallery,
    )


def only_finding(split, images_per_pid=2, **options):
    [finding] = check_split(split, images_per_pid=images_per_pid, **options)
    return finding


def test_a_sound_data_set_has_no_findings():
    assert check_split(own_split(), images_per_pid=2) == []


@pytest.mark.parametrize(
    ("batch_size", "images_per_pid", "fit"),
    [(4, 2, None), (5, 2, None), (6, 2, 4), (64, 4, 8), (None, 4, None)],
)
def test_a_batch_of_more_identities_than_there_are(batch_size, images_per_pid, fit):
    split = own_split(train=records(*[(pid, n) for pid in (1, 2) for n in range(4)]))
    findings = check_split(split, images_per_pid=images_per_pid, batch_size=batch_size)
    assert [finding.kind for finding in findings] == ["few-pids"] * bool(fit)
    for finding in findings:
        assert finding.severity == "warning"
        assert "data.batch_size, data.images_per_pid" in finding.message
        assert "the 2 training identities of own" in finding.message
        assert f"--set data.batch_size={fit}," in finding.fix
        again = check_split(split, images_per_pid=images_per_pid, batch_size=fit)
        assert again == []


def test_what_cannot_be_scored_is_refused_and_training_images_do_not_matter():
    check_test(own_split(train=()))
    with pytest.raises(ValueError, match="no query images"):
        check_test(own_split(query=()))
    one_camera = own_split(query=records((3, 5)), gallery=records((3, 5), (4, 5)))
    with pytest.raises(ValueError, match="All queries .* camera 5.*--ignore-cameras"):
        check_test(one_camera)
    check_test(one_camera, ignore_cameras=True)
    check_test(dataclasses.replace(one_camera, has_cameras=False))
    with pytest.raises(ValueError, match="No query has a match"):
        check_test(own_split(gallery=records((3, 1), (9, 1))))


@pytest.mark.parametrize("part", ["train", "query", "gallery"])
def test_an_empty_part_is_an_error(part):
    finding = only_finding(own_split(**{part: ()}))
    assert finding.severity == "error"
    assert finding.message == f"own has no {part} images."
    assert "datasets/README.md" in finding.fix


def test_one_camera_only_is_an_error_that_offers_to_ignore_cameras():
    split = own_split(query=records((3, 5)), gallery=records((3, 5), (4, 5)))
    finding = only_finding(split)
    assert finding.severity == "error"
    assert "of camera 5" in finding.message
    assert "camera ids look constant" in finding.message
    assert "--ignore-cameras" in finding.fix


def test_one_camera_is_enough_when_cameras_are_ignored():
    split = own_split(query=records((3, 5)), gallery=records((3, 5), (4, 5)))
    assert check_split(split, images_per_pid=2, ignore_cameras=True) == []


def test_queries_matched_by_their_own_camera_alone_are_an_error():
    # Person 3 is seen by camera 1 alone and person 4 by camera 2 alone.
    split = own_split(gallery=records((3, 1), (4, 2), (5, 1)))
    finding = only_finding(split)
    assert finding.severity == "error"
    assert finding.message.startswith("No query has a match seen by another camera")


def test_persons_missing_from_the_gallery_are_an_error_without_cameras_too():
    split = own_split(gallery=records((8, 1), (9, 2)))
    finding = only_finding(split, ignore_cameras=True)
    assert finding.message.startswith("No query has a match in the gallery")


def test_some_queries_without_a_match_are_a_warning():
    finding = only_finding(own_split(gallery=records((3, 2), (4, 2))))
    assert finding.severity == "warning"
    assert finding.message == (
        "1 of 2 queries have no match seen by another camera (pid 4) and are not "
        "scored."
    )


def test_identities_in_training_and_test_are_an_error():
    finding = only_finding(own_split(train=records((3, 1), (3, 2), (4, 1), (4, 1))))
    assert finding.severity == "error"
    assert "2 identities occur in training and in test (pids 3, 4)" in finding.message


def test_an_identity_with_a_single_image_is_a_warning():
    finding = only_finding(own_split(train=records((1, 1), (2, 1), (2, 2))))
    assert finding.severity == "warning"
    assert finding.message == (
        "1 of the 2 training identities have a single image (pid 1)."
    )


def test_identities_with_fewer_images_than_a_batch_takes_are_a_warning():
    finding = only_finding(own_split(), images_per_pid=3)
    assert finding.severity == "warning"
    assert "2 of the 2 training identities have fewer than 3" in finding.message
    assert "repeat images" in finding.fix


def test_long_lists_of_pids_are_cut():
    train = records(*((pid, 1) for pid in range(10, 18)))
    assert (
        "(pids 10, 11, 12, 13, 14 and 3 more)"
        in only_finding(own_split(train=train)).message
    )


def test_errors_come_before_warnings():
    split = own_split(train=records((1, 1)), query=())
    findings = check_split(split, images_per_pid=2)
    assert [finding.severity for finding in findings] == ["error", "warning"]


def test_findings_do_not_depend_on_the_order_of_the_records():
    split = own_split(train=records((1, 1), (2, 1), (3, 1)))
    reverse = Split(split.name, split.train[::-1], split.query[::-1], split.gallery)
    assert check_split(split, images_per_pid=2) == check_split(
        reverse, images_per_pid=2
    )
