"""What a client may rely on, over gRPC. Runs against a real server where there is one.

Written from TensorFlow Serving's public protos and documents.
"""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from tests.serving.test_contract_rest import IMAGES, columns, different, same

AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE


def predict(rpc, files, *, signature="", version=None, name=None, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name or rpc.model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if files is not None:
        inputs["image_bytes"] = np.array(files, dtype=object)
    for key, value in inputs.items():
        dtype = tf.string if value.dtype == object else None
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value, dtype=dtype))
    return rpc.prediction.Predict(request, timeout=60)


def embed(rpc, files, **options):
    return tf.make_ndarray(predict(rpc, files, **options).outputs["embedding"])


def status(rpc, name=None, version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name or rpc.model
    if version is not None:
        request.model_spec.version.value = version
    return rpc.models.GetModelStatus(request, timeout=60).model_version_status


def metadata(rpc, name=None, fields=("signature_def",)):
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = name or rpc.model
    request.metadata_field.extend(fields)
    return rpc.prediction.GetModelMetadata(request, timeout=60)


def refused(call, *codes, word=""):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() in codes
    assert word in caught.value.details()


def test_predict_gives_one_row_an_image_in_their_order(rpc):
    embeddings = embed(rpc, IMAGES)
    assert embeddings.dtype == np.float32
    assert embeddings.shape[0] == len(IMAGES)
    assert all(different(embeddings[0], other) for other in embeddings[1:])
    same(embed(rpc, IMAGES[::-1])[::-1], embeddings)
    for image, embedding in zip(IMAGES, embeddings, strict=True):
        same(embed(rpc, [image]), [embedding])


def test_rest_and_grpc_give_the_same(rpc, rest):
    _, document = rest.predict(columns(IMAGES))
    same(document["outputs"], embed(rpc, IMAGES))


def test_the_answer_tells_its_model_version_and_signature(rpc):
    answer = predict(rpc, IMAGES)
    assert answer.model_spec.name == rpc.model
    newest = max(s.version for s in status(rpc) if s.state == AVAILABLE)
    assert answer.model_spec.version.value == newest
    assert answer.model_spec.signature_name == "serving_default"


def test_a_version_may_be_chosen(rpc):
    for state in status(rpc):
        if state.state == AVAILABLE:
            answer = predict(rpc, IMAGES, version=state.version)
            assert answer.model_spec.version.value == state.version


def test_the_signatures_may_be_named(rpc):
    pixels = np.full((2, 9, 4, 3), 50, np.uint8)
    pixels[1] = 200
    assert len(embed(rpc, None, signature="pixels", images=pixels)) == 2
    answer = predict(rpc, IMAGES, signature="activation_map")
    maps = tf.make_ndarray(answer.outputs["activation_map"])
    assert maps.dtype == np.float32
    assert maps.ndim == 3
    assert len(maps) == len(IMAGES)


def test_an_empty_batch_is_refused(rpc):
    code = grpc.StatusCode.INVALID_ARGUMENT
    refused(lambda: predict(rpc, []), code)
    refused(lambda: predict(rpc, [], signature="activation_map"), code)


def test_a_big_batch_is_answered_whole(rpc):
    same(embed(rpc, IMAGES * 64), np.tile(embed(rpc, IMAGES), (64, 1)))


def test_a_bad_image_is_named_by_its_index(rpc):
    images = [*IMAGES[:3], b"no image", IMAGES[3], b"another"]
    code = grpc.StatusCode.INVALID_ARGUMENT
    refused(lambda: predict(rpc, images), code, word="image_bytes[3]")
    refused(
        lambda: predict(rpc, images, signature="activation_map"),
        code,
        word="image_bytes[3]",
    )
    assert len(embed(rpc, IMAGES)) == len(IMAGES)


def test_wrong_inputs_are_refused(rpc):
    code = grpc.StatusCode.INVALID_ARGUMENT
    refused(lambda: predict(rpc, None), code)
    refused(lambda: predict(rpc, None, image_bytes=np.zeros(2, np.float32)), code)
    refused(lambda: predict(rpc, IMAGES, more=np.zeros(2, np.float32)), code)


def test_an_unknown_signature_is_refused(rpc):
    refused(
        lambda: predict(rpc, IMAGES, signature="train"),
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        word="train",
    )


def test_a_model_or_version_that_is_not_there_is_not_found(rpc):
    code = grpc.StatusCode.NOT_FOUND
    refused(lambda: predict(rpc, IMAGES, name="another"), code)
    refused(lambda: predict(rpc, IMAGES, version=999_999), code)
    refused(lambda: status(rpc, name="another"), code)
    refused(lambda: status(rpc, version=999_999), code)
    refused(lambda: metadata(rpc, name="another"), code)


def test_the_status_tells_an_available_version(rpc):
    assert AVAILABLE in [state.state for state in status(rpc)]


def test_the_metadata_describe_the_signatures(rpc):
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert metadata(rpc).metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    (name, tensor), *others = signature.inputs.items()
    assert (name, tensor.dtype, others) == ("image_bytes", tf.string, [])
    assert [dim.size for dim in tensor.tensor_shape.dim] == [-1]
    assert set(signature.outputs) == {"embedding"}


def test_metadata_of_an_unknown_field_are_refused(rpc):
    code = grpc.StatusCode.INVALID_ARGUMENT
    refused(lambda: metadata(rpc, fields=["weights"]), code)
