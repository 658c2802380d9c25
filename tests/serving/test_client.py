"""The clients, against the stand-in: batches, order, faults, deadlines, bad files."""

import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest

from tests.serving.stand_in import Code, serve_grpc
from tests.serving.stand_in_rest import serve_rest
from tests.serving.tiny_model import embedding_of, image_bytes
from topdb_tf.embed.address import ModelChoice, parse_address
from topdb_tf.embed.client import ServingClient
from topdb_tf.embed.connections import connect
from topdb_tf.embed.errors import (
    BadImageError,
    RefusedError,
    ServingError,
    UnavailableError,
)
from topdb_tf.embed.retries import Deadline, Retries, ask

QUICK = Retries(attempts=4, first_delay=0.01, max_delay=0.02)
NUM_IMAGES = 23


@pytest.fixture(params=["rest", "grpc"])
def protocol(request):
    return request.param


@pytest.fixture
def server(stand_in, protocol):
    return f"{'http' if protocol == 'rest' else 'grpc'}://{getattr(stand_in, protocol)}"


@pytest.fixture
def make_client(server):
    clients = []

    def make(model=None, **options):
        options = {"retries": QUICK, "batch_size": 4, **options}
        clients.append(ServingClient(connect(server, model=model), **options))
        return clients[-1]

    yield make
    for client in clients:
        client.connection.close()


def colours(num_images):
    return np.random.default_rng(3).integers(0, 256, (num_images, 3))


@pytest.fixture
def paths(tmp_path):
    for index, colour in enumerate(colours(NUM_IMAGES)):
        (tmp_path / f"{index:02}.png").write_bytes(image_bytes(colour))
    return sorted(tmp_path.iterdir())


def expected(indices=range(NUM_IMAGES), factor=10.0):
    return np.array([embedding_of(colours(NUM_IMAGES)[i], factor) for i in indices])


def test_embeddings_are_in_the_order_of_the_files(make_client, paths, stand_in):
    calls = []
    result = make_client().embed(paths, progress=lambda *call: calls.append(call))
    np.testing.assert_array_equal(result.embeddings, expected())
    assert result.embeddings.dtype == np.float32
    assert result.kept.tolist() == list(range(NUM_IMAGES))
    assert result.failures == ()
    # Batches of 4: five whole ones and one of 3.
    assert calls == [(4 * n, 23) for n in range(1, 6)] + [(23, 23)]
    assert stand_in.stand_in.requests == 6


def test_several_requests_are_on_their_way_at_a_time(make_client, paths, stand_in):
    stand_in.stand_in.delay = 0.2
    result = make_client(max_in_flight=3).embed(paths)
    assert stand_in.stand_in.largest_at_once == 3
    np.testing.assert_array_equal(result.embeddings, expected())


def test_the_newest_version_is_asked_unless_another_is_chosen(make_client, paths):
    for choice, factor in (
        (ModelChoice(), 10.0),
        (ModelChoice(version=1), 1.0),
        (ModelChoice(label="stable"), 1.0),
        (ModelChoice(label="canary"), 10.0),
    ):
        client = make_client(choice)
        result = client.embed(paths)
        np.testing.assert_array_equal(result.embeddings, expected(factor=factor))
        assert client.connection.model.version == (1 if factor == 1 else 2)


def test_a_version_rolled_out_meanwhile_is_not_mixed_in(make_client, paths, stand_in):
    client, versions = make_client(max_in_flight=1), stand_in.stand_in.models["topdb"]
    two = versions.pop(2)

    def roll_out(done, _):
        versions[2] = two

    try:
        result = client.embed(paths, progress=roll_out)
    finally:
        versions[2] = two
    np.testing.assert_array_equal(result.embeddings, expected(factor=1.0))


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED])
def test_a_server_that_is_busy_is_asked_again(make_client, paths, stand_in, code):
    stand_in.stand_in.fail(code, times=3)
    result = make_client(max_in_flight=1).embed(paths)
    np.testing.assert_array_equal(result.embeddings, expected())
    assert stand_in.stand_in.requests == 6 + 3


def test_a_server_that_stays_busy_is_given_up(make_client, paths, stand_in):
    stand_in.stand_in.fail(Code.UNAVAILABLE, times=50, message="queue is full")
    with pytest.raises(ServingError, match=r"queue is full.*after 4 attempts"):
        make_client(max_in_flight=1).embed(paths)
    assert stand_in.stand_in.requests == 4


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.INTERNAL])
def test_what_would_fail_again_is_not_repeated(make_client, paths, stand_in, code):
    stand_in.stand_in.fail(code, message="no such input")
    with pytest.raises(ServingError, match="no such input"):
        make_client(max_in_flight=1).embed(paths[:3])
    assert stand_in.stand_in.requests == 1


def test_a_model_that_is_loading_is_waited_for(make_client, paths, stand_in):
    stand_in.stand_in.loading = True
    with pytest.raises(ServingError, match="No version of model topdb is ready"):
        make_client().embed(paths)
    client = make_client(retries=Retries(attempts=50, first_delay=0.05, max_delay=0.1))
    resolve = client.connection.resolve_version

    def loads_at_the_second_look(timeout):
        try:
            return resolve(timeout)
        finally:
            stand_in.stand_in.loading = False

    client.connection.resolve_version = loads_at_the_second_look
    np.testing.assert_array_equal(client.embed(paths).embeddings, expected())


def test_a_model_that_is_not_there_is_named(make_client, paths):
    with pytest.raises(RefusedError, match="another"):
        make_client(ModelChoice("another")).embed(paths)
    with pytest.raises(RefusedError, match="7"):
        make_client(ModelChoice(version=7)).embed(paths)


def test_the_deadline_holds_for_all_requests_together(make_client, paths, stand_in):
    stand_in.stand_in.delay = 0.15
    client = make_client(batch_size=1, max_in_flight=1)
    start = time.monotonic()
    with pytest.raises(ServingError, match=r"0\.5 s allowed|no answer within"):
        client.embed(paths, timeout=0.5)
    assert time.monotonic() - start < 3  # 23 requests would take 3.5 s
    assert stand_in.stand_in.requests < 6


def test_a_pause_does_not_outlast_the_deadline(make_client, paths, stand_in):
    stand_in.stand_in.fail(Code.UNAVAILABLE, times=50)
    client = make_client(retries=Retries(attempts=9, first_delay=60, max_delay=60))
    start = time.monotonic()
    with pytest.raises(ServingError, match=r"5 s allowed for all images are over"):
        client.embed(paths, timeout=5)
    assert time.monotonic() - start < 4


def test_a_request_does_not_outlast_the_deadline(make_client, paths, stand_in):
    stand_in.stand_in.delay = 2.0
    with pytest.raises(ServingError, match="no answer within"):
        make_client(request_timeout=60).embed(paths[:1], timeout=0.4)


def test_a_request_has_a_time_of_its_own(make_client, paths, stand_in):
    stand_in.stand_in.delay = 0.6
    with pytest.raises(ServingError, match=r"no answer within 0\.2 s"):
        make_client(request_timeout=0.2).embed(paths[:1])


def test_a_bad_image_is_named_by_its_file(make_client, paths, stand_in):
    paths[9].write_bytes(b"no image")
    with pytest.raises(BadImageError, match=r"09\.png \(is no JPEG or PNG\)"):
        make_client().embed(paths)


def test_the_first_bad_image_is_named_whatever_answers_first(make_client, paths):
    for index in (21, 9, 6):
        paths[index].write_bytes(b"no image")
    for _ in range(3):
        with pytest.raises(BadImageError, match=r"06\.png"):
            make_client(max_in_flight=6).embed(paths)


def test_bad_images_may_be_left_out_and_are_listed(make_client, paths):
    for index in (0, 8, 9, 10, 11, 22):  # 8 to 11 are a whole batch
        paths[index].write_bytes(b"no image")
    paths[3].write_bytes(b"")
    paths[4].unlink()
    result = make_client().embed(paths, skip_bad=True)
    bad = [0, 3, 4, 8, 9, 10, 11, 22]
    kept = [index for index in range(NUM_IMAGES) if index not in bad]
    assert [failure.path for failure in result.failures] == [paths[i] for i in bad]
    assert result.kept.tolist() == kept
    np.testing.assert_array_equal(result.embeddings, expected(kept))
    reasons = [failure.reason for failure in result.failures]
    assert reasons[1:3] == ["the file is empty", "No such file or directory"]


def test_nothing_but_bad_images_is_an_error(make_client, paths):
    for path in paths[:2]:
        path.write_bytes(b"no image")
    with pytest.raises(BadImageError, match=r"00\.png"):
        make_client().embed(paths[:2], skip_bad=True)


def test_a_file_that_is_not_there_is_named_before_it_is_sent(
    make_client, paths, stand_in
):
    with pytest.raises(BadImageError, match=r"gone\.png \(No such file"):
        make_client().embed([paths[0].with_name("gone.png")])
    assert stand_in.stand_in.requests == 0


class MergingServer:
    """Answers as a server that puts two images of others before each request."""

    def __init__(self, refusals):
        self.refusals = refusals
        self.requests = []

    def resolve_version(self, timeout):
        return 1

    def predict(self, images, timeout):
        self.requests.append(len(images))
        merged = [b"good", self.refusals and self.refusals.pop(0) or b"good", *images]
        for index, image in enumerate(merged):
            if not image.endswith(b"good"):
                raise RefusedError("INVALID_ARGUMENT", f"image_bytes[{index}] is bad")
        return np.ones((len(images), 2), np.float32)

    def close(self):
        pass


def test_images_of_others_in_the_same_batch_are_not_blamed_on_ours(tmp_path):
    paths = [tmp_path / f"{index}.jpg" for index in range(3)]
    for path in paths:
        path.write_bytes(b"good")
    server = MergingServer([b"bad"])
    result = ServingClient(server, retries=QUICK).embed(paths, skip_bad=True)
    assert result.failures == ()
    assert server.requests == [3, 1, 1, 1, 3]  # each alone, then all again
    with pytest.raises(ServingError, match="not to batch requests"):
        ServingClient(MergingServer([b"bad"] * 100), retries=QUICK).embed(paths[:1])


@pytest.mark.parametrize("shape", [(2,), (3, 4), (2, 0), (2, 3, 4)])
def test_an_answer_of_another_shape_is_refused(tmp_path, shape):
    server = MergingServer([])
    server.predict = lambda images, timeout: np.ones(shape, np.float32)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"good")
    with pytest.raises(ServingError, match="an embedding for each image"):
        ServingClient(server).embed(sorted(tmp_path.iterdir()))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_server_that_is_down_is_asked_again_and_then_named(protocol, paths):
    scheme = "http" if protocol == "rest" else "grpc"
    server = f"127.0.0.1:{free_port()}"
    with (
        ServingClient(connect(f"{scheme}://{server}"), retries=QUICK) as client,
        pytest.raises(ServingError, match=f"{server} cannot be reached.*4 attempts"),
    ):
        client.embed(paths)


def test_an_answer_that_is_no_serving_is_explained(stand_in, paths, monkeypatch):
    connection = connect(f"http://{stand_in.rest}")
    monkeypatch.setattr(connection, "_path", lambda: "/v1/models/topdb/metadata")
    with pytest.raises(ServingError, match="is no TensorFlow Serving"):
        ServingClient(connection, retries=QUICK).embed(paths)
    connection.close()


def test_connections_that_the_server_closed_are_replaced(stand_in, paths):
    twice = Retries(attempts=2, first_delay=0.01, max_delay=0.01)
    client = ServingClient(
        connect(f"http://{stand_in.rest}"), retries=twice, batch_size=4
    )
    stand_in.stand_in.delay = 0.2  # so that several are open
    client.embed(paths)
    idle = list(client.connection._idle.queue)
    assert len(idle) > 1
    for connection in idle:
        connection.sock._sock.shutdown(socket.SHUT_RDWR)
    # One dead connection tells of the others: the second attempt takes a new one.
    np.testing.assert_array_equal(client.embed(paths).embeddings, expected())
    client.connection.close()


@pytest.mark.parametrize(
    ("server", "protocol", "address"),
    [
        ("localhost:8500", None, ("grpc", "localhost", 8500, False, "")),
        ("localhost:8501", None, ("rest", "localhost", 8501, False, "")),
        ("localhost:9000", "grpc", ("grpc", "localhost", 9000, False, "")),
        ("localhost:8500", "rest", ("rest", "localhost", 8500, False, "")),
        ("grpc://a.b:1", None, ("grpc", "a.b", 1, False, "")),
        ("grpcs://a.b:1", "grpc", ("grpc", "a.b", 1, True, "")),
        ("https://a.b:443/re/id/", None, ("rest", "a.b", 443, True, "/re/id")),
        ("http://[::1]:8501", None, ("rest", "[::1]", 8501, False, "")),
    ],
)
def test_an_address_tells_protocol_and_encryption(server, protocol, address):
    assert parse_address(server, protocol) == address


@pytest.mark.parametrize(
    ("server", "protocol"),
    [
        ("localhost", None),
        ("", None),
        ("localhost:no", None),
        ("localhost:99999", None),
        ("ftp://localhost:1", None),
        ("localhost:1", "soap"),
        ("http://localhost:1", "grpc"),
    ],
)
def test_an_address_that_is_none_is_explained(server, protocol):
    with pytest.raises(ValueError, match=r"must be.*server="):
        parse_address(server, protocol)


def test_pauses_double_up_to_a_limit_and_differ():
    retries = Retries(attempts=7, first_delay=1.0, max_delay=5.0)
    delays = np.array([list(retries.delays()) for _ in range(200)])
    longest = np.array([1, 2, 4, 5, 5, 5])
    assert (delays <= longest).all()
    assert (delays >= longest / 2).all()
    assert (delays.std(axis=0) > 0.1 * longest).all()


def test_numbers_out_of_range_are_refused(paths):
    for options in ({"batch_size": 0}, {"max_in_flight": 0}, {"request_timeout": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            ServingClient(None, **options)
    with pytest.raises(ValueError, match="attempts=0"):
        Retries(attempts=0)
    with pytest.raises(ValueError, match="seconds=0"):
        Deadline(0)
    with pytest.raises(ValueError, match="no paths"):
        ServingClient(MergingServer([])).embed([])


def test_a_request_is_given_up_when_another_has_failed():
    stop = threading.Event()
    stop.set()

    def busy(timeout):
        raise UnavailableError("busy")

    slow = Retries(attempts=3, first_delay=60, max_delay=60)
    with pytest.raises(ServingError, match="another one failed"):
        ask(busy, retries=slow, deadline=Deadline(), longest=1, stop=stop)


def test_rest_does_without_tensorflow():
    code = (
        "import sys\n"
        "from topdb_tf.embed import client\n"
        "from topdb_tf.embed.connections import connect\n"
        "connect('http://localhost:1')\n"
        "sys.exit(str({'tensorflow', 'grpc'} & set(sys.modules) or ''))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert answer.stderr.strip() in ("", "set()"), answer.stderr


def test_grpc_without_its_package_is_explained(monkeypatch):
    monkeypatch.delitem(sys.modules, "topdb_tf.embed.rpc", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(ValueError, match=r"tensorflow-serving-api"):
        connect("grpc://localhost:1")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1 that nobody trusts unasked, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=test"
    command += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


def test_rest_over_tls_trusts_the_given_certificate_alone(stand_in, certificate, paths):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server, port = serve_rest(stand_in.stand_in, context)
    address = f"https://127.0.0.1:{port}"
    with ServingClient(connect(address, ca_file=certificate[0])) as client:
        np.testing.assert_array_equal(client.embed(paths).embeddings, expected())
    with (
        ServingClient(connect(address), retries=QUICK) as client,
        pytest.raises(ServingError, match=r"certificate verify failed(?!.*attempts)"),
    ):
        client.embed(paths)
    server.shutdown()
    server.server_close()


def test_grpc_over_tls_trusts_the_given_certificate_alone(stand_in, certificate, paths):
    cert, key = (path.read_bytes() for path in certificate)
    credentials = grpc.ssl_server_credentials([(key, cert)])
    server, port = serve_grpc(stand_in.stand_in, credentials)
    address = f"grpcs://127.0.0.1:{port}"
    with ServingClient(connect(address, ca_file=certificate[0])) as client:
        np.testing.assert_array_equal(client.embed(paths).embeddings, expected())
    with (
        ServingClient(connect(address), retries=QUICK) as client,
        pytest.raises(ServingError, match=r"not trusted: see --ca-file(?!.*attempts)"),
    ):
        client.embed(paths)
    server.stop(None).wait()
