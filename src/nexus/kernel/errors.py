"""The one error tree. Each class has a code, an exit code, an HTTP status, and every instance a next step.

NexusError                     nexus.error        exit 1   http 500
├── UsageError                 usage              exit 2   http 400   the caller said something wrong
│   ├── FileError              file.invalid       exit 2   http 422   a user's file, with line and column
│   └── MisdirectedError       misdirected        exit 2   http 421   the request names another server
├── DeniedError                denied             exit 3   http 401   no token, or a wrong one
│   └── ForbiddenError         forbidden          exit 3   http 403   a good token that may not do this
├── NotFoundError              not_found          exit 4   http 404
├── ConflictError              conflict           exit 5   http 409   somebody changed it first; load again
│   └── FencedError            fenced             exit 5   http 409   a stale lease: its holder must stop
├── LimitError                 limit              exit 6   http 413   too large, too many, disk full
├── NoCapacityError            no_capacity        exit 7   http 409   no machine fits; carries every reason
├── UnavailableError           unavailable        exit 8   http 503   the other side does not answer; retry
│   └── ThrottledError         throttled          exit 8   http 429   asked too often; `retry_after_s` says when again
├── MissingError               missing            exit 9   http 501   an extra or a program is not installed
└── JobError                   job.failed         exit 1   http 409   the user's job failed, not Nexus
"""

from __future__ import annotations

from typing import Any, ClassVar


class NexusError(Exception):
    """What happened (`message`), what to do next (`hint`), and values a program can read (`details`)."""

    code: ClassVar[str] = "nexus.error"
    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        """The body of every error answer: `{"error": {code, message, hint, details}}`."""
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}}


class UsageError(NexusError):
    """The caller said something that cannot be done."""

    code, exit_code, status = "usage", 2, 400


class FileError(UsageError):
    """A user's file is wrong; `details` has `file`, `line`, `column`, `field` where they are known."""

    code, status = "file.invalid", 422

    @property
    def where(self) -> str:
        """`job.yaml:3:7`, as editors and terminals link it."""
        parts = [str(self.details[k]) for k in ("file", "line", "column") if self.details.get(k)]
        return ":".join(parts)


class MisdirectedError(UsageError):
    """The request names another server than this one."""

    code, status = "misdirected", 421


class DeniedError(NexusError):
    """No identity, or one that is not known."""

    code, exit_code, status = "denied", 3, 401


class ForbiddenError(DeniedError):
    """A known identity that may not do this."""

    code, status = "forbidden", 403


class NotFoundError(NexusError):
    """No such thing, or none that this identity may see."""

    code, exit_code, status = "not_found", 4, 404


class ConflictError(NexusError):
    """The thing changed under the caller: load it again and decide again."""

    code, exit_code, status = "conflict", 5, 409


class FencedError(ConflictError):
    """The lease was given to somebody else: its old holder must stop, and its writes are refused."""

    code = "fenced"


class LimitError(NexusError):
    """Too large, too many, or no room left."""

    code, exit_code, status = "limit", 6, 413


class NoCapacityError(NexusError):
    """No machine fits; `details["rejections"]` lists every reason."""

    code, exit_code, status = "no_capacity", 7, 409


class UnavailableError(NexusError):
    """The other side does not answer now; the same call may succeed later."""

    code, exit_code, status = "unavailable", 8, 503


class ThrottledError(UnavailableError):
    """Asked too often; `details["retry_after_s"]` says when the same call may succeed."""

    code, status = "throttled", 429


class MissingError(NexusError):
    """An optional part is not installed; the hint says how to get it."""

    code, exit_code, status = "missing", 9, 501


class JobError(NexusError):
    """The user's own program failed."""

    code, exit_code, status = "job.failed", 1, 409


def error_classes() -> list[type[NexusError]]:
    """Every class of the tree, parents first: for docs, tests, and the client that rebuilds errors."""
    found: list[type[NexusError]] = [NexusError]
    for cls in found:
        found.extend(cls.__subclasses__())
    return found


def from_dict(body: dict[str, Any], status: int) -> NexusError:
    """The error a server answered with, rebuilt on the client's side."""
    raw = body.get("error")
    error: dict[str, Any] = raw if isinstance(raw, dict) else {}
    by_code = {cls.code: cls for cls in error_classes()}
    by_status = {cls.status: cls for cls in reversed(error_classes())}
    cls = by_code.get(str(error.get("code"))) or by_status.get(status, NexusError)
    raw_details = error.get("details")
    details = raw_details if isinstance(raw_details, dict) else {}
    taken = {"self", "message", "hint"}  # arguments of their own
    message = str(error.get("message") or f"the server answered with status {status}")
    return cls(message, hint=str(error.get("hint") or ""), **{k: v for k, v in details.items() if k not in taken})
