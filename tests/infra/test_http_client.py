"""The client's errors say what to do, whoever answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nexus.infra.http_client import HttpClient
from nexus.kernel.errors import NotFoundError, UnavailableError, UsageError
from tests.infra.test_http_wire import client, serving


@contextmanager
def answering(status: int, content: bytes) -> Iterator[HttpClient]:
    with serving(b"HTTP/1.1 %d Said\r\ncontent-length: %d\r\n\r\n%s" % (status, len(content), content)) as server:
        with client(server) as http:
            yield http


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "http://::1:7717", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not the URL") as caught:
        HttpClient(url, "")
    assert "http://" in caught.value.hint


@pytest.mark.parametrize("content", [b"<html>hello</html>", b'{"status": 1}', b"[]"])
def test_another_programs_answer_is_told_from_ours(content: bytes) -> None:
    with answering(200, content) as http, pytest.raises(UnavailableError, match="not understood") as caught:
        http.get("/v1/me", dict[str, str])
    assert "Nexus server" in caught.value.hint


@pytest.mark.parametrize("content", [b"<html>no</html>", b"[]", b'{"detail": "Not Found"}', b'{"error": "no"}'])
def test_another_programs_error_says_so(content: bytes) -> None:
    with answering(404, content) as http, pytest.raises(NotFoundError) as caught:
        http.get("/v1/me", dict[str, str])
    assert "Nexus server" in caught.value.hint
