"""A folder as one file: the same content gives the same bytes, and what is unpacked cannot leave its folder.

A package is a ZIP file (any unzip opens it) with fixed times, sorted names, two modes (0644 and 0755) and a comment
that tells it from a user's own ZIP file. The extractor is our own, because those of the standard library follow `..`,
links and absolute paths, or mend them in silence (CVE-2007-4559 and its kin). It needs the standard library only.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nexus.kernel.errors import LimitError, UsageError
from nexus.kernel.units import format_bytes

COMMENT = b"nexus-package-1"
WORKSPACE_LIMIT_B = 500_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK_B = 1024 * 1024
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
_PACKED_ALREADY = frozenset(
    {".bz2", ".gguf", ".gz", ".jpeg", ".jpg", ".mp3", ".mp4", ".npz", ".parquet", ".png", ".pt", ".pth"}
    | {".safetensors", ".webp", ".whl", ".xz", ".zip", ".zst"}
)
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What was packed: the SHA-256 and size of the package, and the paths in it."""

    digest: str
    size_b: int
    files: tuple[str, ...]
    content_b: int  # bytes of all files before packing


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What `unpack` accepts. `ratio` bounds how far content may grow, once it is larger than `ratio_from_b`."""

    files: int = 200_000
    total_b: int = 100_000_000_000
    ratio: int = 200
    ratio_from_b: int = 256_000_000


# --------------------------------------------------------------------------- packing


def pack(
    folder: Path,
    target: Path,
    files: Iterable[str] | None = None,
    *,
    limit_b: int | None = None,
    progress: Progress | None = None,
) -> Package:
    """Write the package of `folder` to the file `target`. `files` are the paths to take (see `workspace_files`); all
    of them by default.

    Raises UsageError for a link that leads out and for names that some machine cannot tell apart; LimitError, with
    the largest files, above `limit_b` bytes.
    """
    root = Path(os.path.realpath(folder))
    paths = sorted(_everything(root) if files is None else files)
    _refuse_twins(paths)
    content_b = _measure(root, paths, limit_b)
    done_b = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.comment = COMMENT
        for path in paths:
            _add(archive, root, path)
            if progress is not None:
                done_b += root.joinpath(path).lstat().st_size
                progress(min(done_b, content_b), content_b)
    digest = hashlib.sha256()
    with target.open("rb") as packed:
        while chunk := packed.read(_CHUNK_B):
            digest.update(chunk)
    return Package(digest=digest.hexdigest(), size_b=target.stat().st_size, files=tuple(paths), content_b=content_b)


def _everything(root: Path) -> list[str]:
    """Every file and link below `root`, and every folder with nothing in it (with a `/` at its end)."""
    found = []
    for place, folders, files in os.walk(root):
        here = Path(place).relative_to(root)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        found += [(here / name).as_posix() for name in (*files, *links)]
        if not folders and not files and place != str(root):
            found.append(here.as_posix() + "/")
    return found


def _refuse_twins(paths: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        twin = seen.setdefault(_folded(path), path)
        if twin != path:
            raise UsageError(
                f"{twin} and {path} differ only in case", hint="Rename one: not every machine tells them apart."
            )


def _measure(root: Path, paths: Sequence[str], limit_b: int | None) -> int:
    sizes = [(root.joinpath(path).lstat().st_size, path) for path in paths if not path.endswith("/")]
    total = sum(size for size, _ in sizes)
    if limit_b is not None and total > limit_b:
        largest = ", ".join(f"{path} ({format_bytes(size)})" for size, path in sorted(sizes, reverse=True)[:5])
        raise LimitError(
            f"the folder holds {format_bytes(total)}, more than the {format_bytes(limit_b)} that are sent with a job",
            hint=f"The largest are {largest}: name what is not needed in .nexusignore, or give data as `inputs`.",
            largest=[path for _, path in sorted(sizes, reverse=True)[:20]],
        )
    return total


def _add(archive: zipfile.ZipFile, root: Path, path: str) -> None:
    source = root / path
    info = zipfile.ZipInfo(path, _EPOCH)
    info.create_system = 3  # Unix: the high half of external_attr is the mode
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, _link_target(root, source, path))
    elif stat.S_ISDIR(mode):
        info.external_attr = (stat.S_IFDIR | 0o755) << 16
        archive.writestr(info, b"")
    elif stat.S_ISREG(mode):
        info.external_attr = (stat.S_IFREG | (0o755 if mode & 0o111 else 0o644)) << 16
        stored = source.suffix.lower() in _PACKED_ALREADY
        info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        with source.open("rb") as content, archive.open(info, "w", force_zip64=True) as packed:
            shutil.copyfileobj(content, packed, _CHUNK_B)
    else:
        raise UsageError(
            f"{path} is neither a file nor a folder", hint="Remove it, or name it in .nexusignore: it cannot be sent."
        )


def _link_target(root: Path, source: Path, path: str) -> str:
    """Where the link leads, relative to where it stands. Raises UsageError if that is not below `root`."""
    leads_to = Path(os.path.realpath(source))
    if not leads_to.is_relative_to(root):
        raise UsageError(
            f"the link {path} leads out of the workspace, to {source.readlink()}",
            hint="Copy what it names into the workspace, or name the link in .nexusignore.",
        )
    return os.path.relpath(leads_to, os.path.realpath(source.parent)).replace(os.sep, "/")


# --------------------------------------------------------------------------- unpacking


def is_package(archive: Path) -> bool:
    """Whether a file is a package that `pack` made, and not a file of the user's, ZIP files too."""
    with archive.open("rb") as file:
        start = file.read(2)
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - len(COMMENT)))
        return start == b"PK" and file.read() == COMMENT


def unpack(archive: Path, into: Path, limits: Limits = Limits()) -> int:
    """Unpack into the new folder `into`, which appears whole or not at all; returns how many bytes it holds.

    Everything is checked before anything is written. Raises UsageError for a package that is damaged, or that tries
    to write elsewhere; LimitError for one that is too large.
    """
    if into.exists():
        raise UsageError(f"{into} exists already", hint="Unpack into a new folder.")
    draft = into.with_name(f".{into.name}.unpacking")
    if draft.exists():
        shutil.rmtree(draft)
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = packed.infolist()
            links = _check(packed, entries, limits)
            draft.mkdir(mode=0o755)
            written = _write(packed, entries, draft, archive.stat().st_size, limits)
        for path, leads_to in links.items():
            draft.joinpath(path).parent.mkdir(parents=True, exist_ok=True)
            draft.joinpath(path).symlink_to(leads_to)
        draft.rename(into)
    except _DAMAGED as error:
        raise UsageError(f"the package is damaged: {error}", hint="Launch the job again.") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place in the file that cannot be
            raise
        raise UsageError("the package is damaged", hint="Launch the job again.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return written


def _check(packed: zipfile.ZipFile, entries: list[zipfile.ZipInfo], limits: Limits) -> dict[str, str]:
    """Refuse whatever could do harm; returns the links and where they lead."""
    total = sum(entry.file_size for entry in entries)
    if len(entries) > limits.files or total > limits.total_b:
        raise LimitError(
            f"the package holds {len(entries)} files and {format_bytes(total)}: too much to unpack",
            hint=f"At most {limits.files} files and {format_bytes(limits.total_b)}.",
        )
    kinds: dict[str, bool] = {}  # path, folded -> whether it is a folder
    links: dict[str, str] = {}
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16) or stat.S_IFREG
        path = _checked_path(entry, is_folder=kind == stat.S_IFDIR)
        folded = _folded(path)
        if folded in kinds:
            raise _refused(entry, "there is another of that name")
        if kind not in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK} or entry.flag_bits & 0x1:
            raise _refused(entry, "it is neither file, folder nor link")
        kinds[folded] = kind == stat.S_IFDIR
        if kind == stat.S_IFLNK:
            links[path] = _checked_link(packed, entry, path)
    for folded in kinds:
        for above in PurePosixPath(folded).parents:
            if not kinds.get(str(above), True):
                raise UsageError(f"the package is refused: {folded!r:.200} lies below something that is not a folder")
    return links


def _checked_path(entry: zipfile.ZipInfo, *, is_folder: bool) -> str:
    name = entry.orig_filename  # `filename` ends at a NUL, and has its backslashes mended
    path = name[:-1] if is_folder and name.endswith("/") else name
    parts = path.split("/")
    if not path or any(part in {"", ".", ".."} for part in parts):
        raise _refused(entry, "its path is not plain")
    if "\\" in path or any(ord(letter) < 32 or ord(letter) == 127 for letter in path) or path[1:2] == ":":
        raise _refused(entry, "its path has characters that mean something else elsewhere")
    if len(path) > 4096 or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts):
        raise _refused(entry, "its path is too long")
    return path


def _checked_link(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str) -> str:
    """Only as many `..` as there are folders above, and only in front: no other link can then turn it outwards."""
    if entry.file_size > 4096:
        raise _refused(entry, "it leads to a path that is too long")
    try:
        leads_to = packed.read(entry).decode()
    except UnicodeDecodeError as error:
        raise _refused(entry, "it leads to a path that is no text") from error
    parts = leads_to.split("/")
    up = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    rest = parts[up:]
    plain = leads_to == "." or (all(part not in {"", ".", ".."} for part in rest) and "\\" not in leads_to)
    if not leads_to or not plain or "\0" in leads_to or leads_to[1:2] == ":" or up > path.count("/"):
        raise _refused(entry, "it leads out of the folder")
    return leads_to


def _write(packed: zipfile.ZipFile, entries: list[zipfile.ZipInfo], draft: Path, packed_b: int, limits: Limits) -> int:
    """The draft is new and links are made last, so no path on the way is anybody else's."""
    written = 0
    most = min(limits.total_b, max(limits.ratio_from_b, packed_b * limits.ratio))
    for entry in entries:
        mode = entry.external_attr >> 16
        target = draft / entry.filename
        if stat.S_ISLNK(mode):
            continue
        if stat.S_ISDIR(mode):
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(entry) as content, target.open("xb") as file:
            while chunk := content.read(_CHUNK_B):
                written += len(chunk)
                if written > most:
                    raise LimitError(
                        f"the package grows to more than {format_bytes(most)}", hint="It is damaged, or meant to harm."
                    )
                file.write(chunk)
        target.chmod(0o755 if mode & 0o111 else 0o644)
    return written


def _refused(entry: zipfile.ZipInfo, why: str) -> UsageError:
    return UsageError(f"the package is refused: {entry.orig_filename!r:.200}: {why}", hint="Nothing of it was written.")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path.rstrip("/")).casefold()
