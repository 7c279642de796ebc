"""The client's errors say what to do, whoever answers."""

from __future__ import annotations

import httpx
import pytest

from nexus.infra.http_client import HttpClient
from nexus.kernel.errors import NotFoundError, UnavailableError, UsageError


def answering(status: int, content: bytes) -> HttpClient:
    return HttpClient(
        "http://127.0.0.1:7717", "", transport=httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    )


@pytest.mark.parametrize("url", ["example.org", "ftp://example.org", "http://::1:7717", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not the URL") as caught:
        HttpClient(url, "")
    assert "http://" in caught.value.hint


@pytest.mark.parametrize("content", [b"<html>hello</html>", b'{"status": 1}', b"[]"])
def test_another_programs_answer_is_told_from_ours(content: bytes) -> None:
    with pytest.raises(UnavailableError, match="not understood") as caught:
        answering(200, content).get("/v1/me", dict[str, str])
    assert "Nexus server" in caught.value.hint


@pytest.mark.parametrize("content", [b"<html>no</html>", b"[]", b'{"detail": "Not Found"}', b'{"error": "no"}'])
def test_another_programs_error_says_so(content: bytes) -> None:
    with pytest.raises(NotFoundError) as caught:
        answering(404, content).get("/v1/me", dict[str, str])
    assert "Nexus server" in caught.value.hint
