"""What a client may rely on, over REST. Runs against a real server where there is one.

Written from TensorFlow Serving's documents of the API; the model is known by its
signatures alone.
"""

import base64

import numpy as np
import pytest

from tests.serving.tiny_model import image_bytes

COLOURS = [(250, 20, 10), (10, 240, 30), (5, 15, 245), (130, 130, 20)]
SIZES = [(12, 20), (64, 128), (31, 7), (12, 20)]  # any size is taken
KINDS = ["JPEG", "PNG", "PNG", "JPEG"]
IMAGES = [
    image_bytes(colour, size=size, kind=kind)
    for colour, size, kind in zip(COLOURS, SIZES, KINDS, strict=True)
]


def b64(contents):
    return {"b64": base64.b64encode(contents).decode()}


def rows(images):
    return {"instances": [b64(image) for image in images]}


def columns(images, **more):
    return {"inputs": {"image_bytes": [b64(image) for image in images]}, **more}


def same(actual, desired):
    # Another size of the batch may take another kernel.
    np.testing.assert_allclose(actual, desired, rtol=1e-4, atol=1e-4)


def different(first, second):
    return np.abs(np.subtract(first, second)).max() > 1e-3


def refused(answer, code, *words):
    status, document = answer
    assert status == code, document
    assert list(document) == ["error"]
    for word in words:
        assert word in document["error"]


@pytest.fixture
def embeddings(rest):
    status, document = rest.predict(columns(IMAGES))
    assert status == 200, document
    return np.array(document["outputs"])


def test_columns_give_one_row_an_image_in_their_order(rest, embeddings):
    assert embeddings.ndim == 2
    assert len(embeddings) == len(IMAGES)
    assert np.isfinite(embeddings).all()
    assert all(different(embeddings[0], other) for other in embeddings[1:])
    _, backwards = rest.predict(columns(IMAGES[::-1]))
    same(backwards["outputs"][::-1], embeddings)


def test_one_input_may_go_without_its_name(rest, embeddings):
    _, document = rest.predict({"inputs": [b64(image) for image in IMAGES]})
    same(document["outputs"], embeddings)


def test_rows_give_predictions(rest, embeddings):
    status, document = rest.predict(rows(IMAGES))
    assert status == 200
    assert list(document) == ["predictions"]
    same(document["predictions"], embeddings)


def test_rows_may_name_their_input(rest, embeddings):
    named = {"instances": [{"image_bytes": b64(image)} for image in IMAGES]}
    _, document = rest.predict(named)
    same(document["predictions"], embeddings)


def test_an_image_does_not_depend_on_its_batch(rest, embeddings):
    for image, embedding in zip(IMAGES, embeddings, strict=True):
        _, document = rest.predict(columns([image]))
        same(document["outputs"], [embedding])


def test_the_signature_may_be_named(rest, embeddings):
    document = columns(IMAGES, signature_name="serving_default")
    same(rest.predict(document)[1]["outputs"], embeddings)


def test_pixels_are_a_signature_of_their_own(rest):
    images = np.zeros((2, 9, 4, 3), np.uint8)
    images[1, :, :, 0] = 255
    document = {"signature_name": "pixels", "inputs": {"images": images.tolist()}}
    status, answer = rest.predict(document)
    assert status == 200, answer
    assert np.shape(answer["outputs"])[0] == 2
    assert different(*answer["outputs"])


def test_activation_maps_are_two_dimensional(rest):
    status, answer = rest.predict(columns(IMAGES, signature_name="activation_map"))
    assert status == 200, answer
    maps = np.array(answer["outputs"])
    assert maps.ndim == 3
    assert len(maps) == len(IMAGES)


def test_an_empty_batch_is_refused(rest):
    refused(rest.predict({"inputs": {"image_bytes": []}}), 400)
    refused(rest.predict({"instances": []}), 400)


def test_a_big_batch_is_answered_whole(rest, embeddings):
    _, document = rest.predict(columns(IMAGES * 32))
    same(document["outputs"], np.tile(embeddings, (32, 1)))


@pytest.mark.parametrize("signature", ["serving_default", "activation_map"])
def test_a_bad_image_is_named_by_its_index(rest, signature):
    images = [*IMAGES[:3], b"no image", IMAGES[3]]
    document = columns(images, signature_name=signature)
    refused(rest.predict(document), 400, "image_bytes[3]")


def test_an_empty_file_is_named_by_its_index(rest):
    refused(rest.predict(columns([b"", *IMAGES])), 400, "image_bytes[0]")


def test_the_first_of_two_bad_images_is_named(rest):
    images = [IMAGES[0], b"bad", b"worse"]
    refused(rest.predict(rows(images)), 400, "image_bytes[1]")


def test_the_request_after_a_bad_one_is_answered(rest, embeddings):
    rest.predict(columns([b"no image"]))
    same(rest.predict(columns(IMAGES))[1]["outputs"], embeddings)


@pytest.mark.parametrize(
    "document",
    [
        b"{",
        b"[]",
        {},
        {"images": []},
        {"instances": [], "inputs": []},
        {"inputs": {"picture": [b64(IMAGES[0])]}},
        {"inputs": {"image_bytes": [3]}},
        {"instances": "one"},
        {"signature_name": "train", "instances": [b64(IMAGES[0])]},
    ],
    ids=str,
)
def test_what_is_no_request_is_refused_with_an_error(rest, document):
    refused(rest.predict(document), 400)


def test_the_status_tells_an_available_version(rest):
    status, document = rest.get(rest.model)
    assert status == 200
    ready = [
        version
        for version in document["model_version_status"]
        if version["state"] == "AVAILABLE"
    ]
    assert ready
    assert all(version["version"].isdecimal() for version in ready)
    assert all(version["status"]["error_code"] == "OK" for version in ready)


def available_version(rest):
    _, document = rest.get(rest.model)
    return max(
        int(version["version"])
        for version in document["model_version_status"]
        if version["state"] == "AVAILABLE"
    )


def test_a_version_may_be_chosen(rest, embeddings):
    version = available_version(rest)
    path = f"{rest.model}/versions/{version}"
    _, document = rest.get(path)
    (only,) = document["model_version_status"]
    assert only["version"] == str(version)
    status, document = rest.predict(columns(IMAGES), path)
    assert status == 200
    same(document["outputs"], embeddings)  # the newest is the default


def test_the_metadata_describe_the_signatures(rest):
    status, document = rest.get(f"{rest.model}/metadata")
    assert status == 200
    assert document["model_spec"]["name"] == rest.model
    assert document["model_spec"]["version"] == str(available_version(rest))
    signatures = document["metadata"]["signature_def"]["signature_def"]
    described = {
        name: {
            **{key: signature["inputs"][key]["dtype"] for key in signature["inputs"]},
            **{key: signature["outputs"][key]["dtype"] for key in signature["outputs"]},
        }
        for name, signature in signatures.items()
        if not name.startswith("__")
    }
    assert described == {
        "serving_default": {"image_bytes": "DT_STRING", "embedding": "DT_FLOAT"},
        "pixels": {"images": "DT_UINT8", "embedding": "DT_FLOAT"},
        "activation_map": {"image_bytes": "DT_STRING", "activation_map": "DT_FLOAT"},
    }


@pytest.mark.parametrize("path", ["another", "{model}/versions/999999"])
def test_a_model_or_version_that_is_not_there_is_not_found(rest, path):
    path = path.format(model=rest.model)
    refused(rest.predict(columns(IMAGES), path), 404)
    refused(rest.get(path), 404)
    refused(rest.get(f"{path}/metadata"), 404)


def test_an_unknown_label_is_refused(rest):
    refused(rest.predict(columns(IMAGES), f"{rest.model}/labels/nobody"), 400)


def test_a_path_that_is_none_is_refused(rest):
    refused(rest.get(f"{rest.model}/weights"), 400)


def test_a_label_chooses_a_version(stand_in):
    from tests.serving.conftest import Rest

    rest = Rest(stand_in)
    answers = {
        path: rest.predict(columns(IMAGES), f"topdb/{path}")[1]["outputs"]
        for path in ("labels/stable", "labels/canary", "versions/1", "versions/2")
    }
    same(answers["labels/stable"], answers["versions/1"])
    same(answers["labels/canary"], answers["versions/2"])
    same(answers["versions/2"], 10 * np.array(answers["versions/1"]))
