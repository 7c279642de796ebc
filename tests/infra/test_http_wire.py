"""The blocking wire, against servers that answer byte by byte what a test says."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from nexus.infra.http_client import HttpClient
from nexus.infra.http_wire import target_of
from nexus.kernel.errors import LimitError, UnavailableError, UsageError

Said = list[tuple[str, dict[str, str], bytes]]
CUT = b"<cut>"  # at the end of an answer: the server hangs up there
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull"


def heard(file: BinaryIO) -> tuple[str, dict[str, str], bytes] | None:
    """The next request: its first line, its headers, its body."""
    first = file.readline().decode().strip()
    if not first:
        return None
    headers = {}
    while line := file.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return first, headers, file.read(int(headers.get("content-length", 0)))


class Server:
    """Answers each request of each connection in turn with the next of `answers`; None hangs up."""

    def __init__(self, answers: list[bytes | None], tls: ssl.SSLContext | None = None) -> None:
        self.said: Said = []
        self.connections = 0
        self._answers = iter(answers)
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            try:
                with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as plain:
                    self._talk(plain)
            except OSError:
                continue  # whoever called hung up

    def _talk(self, connection: socket.socket) -> None:
        file = connection.makefile("rb")
        while request := heard(file):
            self.said.append(request)
            answer = next(self._answers)
            if answer is None:
                return
            connection.sendall(answer.removesuffix(CUT))
            if answer.endswith(CUT):
                return


@contextmanager
def serving(*answers: bytes | None, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(list(answers), tls)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def client(server: Server, path: str = "", **more: float) -> Iterator[HttpClient]:
    made = HttpClient(server.url + path, "t0ken", project="p", **more)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


def test_a_request_says_who_asks_and_one_connection_serves_many() -> None:
    with serving(OK, OK, OK) as server, client(server, "/nexus") as http:
        http.get("/v1/runs", type(None), name="a b&c", limit=3, none=None, fresh=True, region=("eu", "us"))
        http.post("/v1/runs", type(None), {"a": 1})
        http.request("DELETE", "/v1/runs/ä b%2F%")
    (first, headers, _), (second, sent, body), (third, bare, _) = server.said
    assert first == "GET /nexus/v1/runs?name=a+b%26c&limit=3&fresh=true&region=eu&region=us HTTP/1.1"
    assert (headers["authorization"], headers["nexus-project"]) == ("Bearer t0ken", "p")
    assert (second, sent["content-type"], body) == ("POST /nexus/v1/runs HTTP/1.1", "application/json", b'{"a":1}')
    assert third == "DELETE /nexus/v1/runs/%C3%A4%20b%2F%25 HTTP/1.1"
    assert "content-length" not in bare
    assert server.connections == 1


def test_params_are_added_to_those_that_a_path_has() -> None:
    assert target_of("/a?b=1", {"c": False}) == "/a?b=1&c=false"
    assert target_of("/a", {"c": ()}) == "/a"


def test_a_connection_that_ended_meanwhile_is_replaced() -> None:
    with serving(OK + CUT, OK, None) as server, client(server) as http:
        http.get("/", type(None))
        http.get("/", type(None))
        with pytest.raises(UnavailableError, match="the connection was closed"):
            http.post("/", type(None))  # may have been done: it is not asked for again
    assert len(server.said) == 3


def test_two_streams_at_once_have_a_connection_each() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\nb\r\n2\r\n\nc\r\n0\r\n\r\n"
    with serving(chunked) as server, serving(OK) as other, client(server) as http, client(other) as beside:
        with http.stream("GET", "/follow") as response:
            lines = response.iter_lines()
            assert next(lines) == "a"
            beside.get("/", type(None))
            assert list(lines) == ["b", "c"]


def test_events_come_as_they_are_sent_whatever_separates_their_words() -> None:
    words = "data: one\u2028two\r\n\r\n".encode()
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    part = b"%x\r\n%s\r\n" % (len(words), words)
    with serving(head + part) as server, client(server, timeout_s=10.0) as http, http.stream("GET", "/") as response:
        lines = response.iter_lines()
        assert [next(lines), next(lines)] == ["data: one\u2028two", ""]  # though the answer has no end yet


def test_a_body_streams_both_ways(tmp_path: Path) -> None:
    data = os.urandom(300_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n"
    with serving(OK, head + data) as server, client(server) as http:
        chunks = (data[at : at + 70_000] for at in range(0, len(data), 70_000))
        http.request("PUT", "/blob", content=chunks, headers={"Content-Length": str(len(data))})
        with http.stream("GET", "/blob") as response:
            got = list(response.iter_bytes(100_000))
    assert server.said[0][2] == data
    assert b"".join(got) == data
    assert max(map(len, got)) <= 100_000


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf" + CUT,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n99\r\nhalf" + CUT,
    ],
)
def test_an_answer_that_breaks_off_is_no_whole_one(answer: bytes) -> None:
    with serving(answer, answer, answer) as server, client(server) as http:
        with pytest.raises(UnavailableError, match="broke off"):
            http.request("GET", "/")
        with pytest.raises(UnavailableError, match="broke off"), http.stream("GET", "/") as response:
            list(response.iter_bytes())
        with pytest.raises(UnavailableError, match="broke off"), http.stream("GET", "/") as response:
            list(response.iter_lines())


def test_a_server_that_refuses_an_upload_early_is_heard() -> None:
    refusal = b'{"error": {"code": "limit", "message": "too large", "hint": "less"}}'
    answer = b"HTTP/1.1 413 No\r\ncontent-length: %d\r\n\r\n%s" % (len(refusal), refusal)
    listening = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        connection, _ = listening.accept()
        connection.recv(1000)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1_000_000):
            pass
        connection.close()

    refusing = threading.Thread(target=refuse)
    refusing.start()
    http = HttpClient(f"http://127.0.0.1:{listening.getsockname()[1]}", "")
    with listening, pytest.raises(LimitError, match="too large"):
        http.request("PUT", "/", content=iter([b"x" * 1_000_000] * 5), headers={"content-length": "5000000"})
    refusing.join(10)
    http.close()


@pytest.mark.parametrize("chunks", [[b"abc"], [b"abc", b"def"]])
def test_a_file_that_changes_its_size_meanwhile_is_not_sent_as_it_is(chunks: list[bytes]) -> None:
    with serving(OK) as server, client(server) as http, pytest.raises(UnavailableError, match="changed its size"):
        http.request("PUT", "/", content=iter(chunks), headers={"content-length": "4"})


def test_what_a_file_says_while_it_is_sent_is_not_taken_for_the_servers_word() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"abc"
        raise PermissionError(13, "not yours", "model.bin")

    with serving(OK) as server, client(server) as http, pytest.raises(PermissionError):
        http.request("PUT", "/", content=chunks(), headers={"content-length": "9"})


def test_a_silent_server_is_waited_for_so_long_and_no_longer() -> None:
    with serving(b"") as server, client(server) as http:
        with pytest.raises(UnavailableError, match=r"nothing came within 0\.05 s"):
            http.request("GET", "/", timeout=0.05)


def test_nobody_there_and_no_http_are_said_in_words() -> None:
    with serving(b"SSH-2.0-OpenSSH\r\n") as server, client(server) as http:
        with pytest.raises(UnavailableError, match="no HTTP"):
            http.get("/", type(None))
    http = HttpClient(server.url, "")
    with pytest.raises(UnavailableError, match="Connection refused") as caught:
        http.get("/", type(None))
    assert "nexus up" in caught.value.hint


@pytest.mark.parametrize(
    ("token", "project", "what"),
    [("hunter2\n", "", "token"), ("täken", "", "token"), ("hunter2", "p\r\nx: y", "project")],
)
def test_what_no_header_can_carry_is_refused_at_once_and_not_repeated(token: str, project: str, what: str) -> None:
    with pytest.raises(UsageError, match=f"no {what}") as caught:
        HttpClient("http://127.0.0.1:7717", token, project=project)
    assert token.strip() not in caught.value.message


def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subject = ["-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", *words.split(), "-keyout", str(key), "-out", str(certificate), *subject]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with serving(OK, OK, tls=tls) as server:
        url = f"https://127.0.0.1:{server.port}"
        wary = HttpClient(url, "")
        with pytest.raises(UnavailableError, match="certificate is not trusted"):
            wary.get("/", type(None))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusting = HttpClient(url, "")
        trusting.get("/", type(None))
        trusting.get("/", type(None))
        trusting.close()
    assert len(server.said) == 2


def test_a_proxy_of_the_environment_is_asked_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(OK) as proxy, serving(OK) as server:
        monkeypatch.setenv("http_proxy", f"http://ann:pw%40@127.0.0.1:{proxy.port}")
        far = HttpClient("http://nexus.example:7717", "")
        far.get("/healthz", type(None))
        far.close()
        with client(server) as near:
            near.get("/", type(None))
        monkeypatch.setenv("no_proxy", "nexus.example")
        with pytest.raises(UnavailableError):
            HttpClient("http://nexus.example:7717", "").get("/", type(None))
    ((first, headers, _),) = proxy.said
    assert first == "GET http://nexus.example:7717/healthz HTTP/1.1"
    assert (headers["host"], headers["proxy-authorization"]) == ("nexus.example:7717", "Basic YW5uOnB3QA==")
    assert len(server.said) == 1


def test_a_proxy_is_asked_for_a_way_to_a_server_with_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(UnavailableError, match="407"):
            HttpClient("https://nexus.example", "").get("/", type(None))
    assert proxy.said[0][0].startswith("CONNECT nexus.example:443 ")


def test_a_proxy_of_another_kind_is_refused_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://ann:hunter2@proxy.example:1080")
    with pytest.raises(UsageError, match=r"socks5://proxy\.example") as caught:
        HttpClient("http://nexus.example", "")
    assert "hunter2" not in str(caught.value)
