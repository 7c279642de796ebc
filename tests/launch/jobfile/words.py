"""What a reader of job files says of a bad one."""

from __future__ import annotations

import pytest

from nexus.kernel.errors import FileError
from nexus.launch.core.jobfile.reading import read_jobs


def said(error: FileError) -> str:
    return f"{error.where}: {error.message} → {error.hint}"


def complaint(text: str) -> str:
    """The whole answer to a text that must not be read."""
    with pytest.raises(FileError) as caught:
        read_jobs(text)
    return said(caught.value)
