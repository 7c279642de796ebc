"""Packages: the same content gives the same bytes, everything comes back, and nothing gets out."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.infra.ignores import workspace_files
from nexus.infra.package import COMMENT, Limits, is_package, pack, unpack
from nexus.kernel.errors import LimitError, NexusError, UsageError

LINK = (stat.S_IFLNK | 0o777) << 16


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def snapshot(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        elif path.is_dir():
            found[name] = "folder"
        else:
            found[name] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    return found


def forge(path: Path, *entries: tuple[str, bytes, int]) -> Path:
    """A ZIP file as an attacker writes it: any name, any mode, twice the same."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = COMMENT
        for name, content, attributes in entries:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.external_attr = attributes
            archive.NameToInfo.clear()  # or it would warn of doubles
            archive.writestr(info, content)
    return path


# --------------------------------------------------------------------------- there and back

_part = st.text("abcXYZ019-_.é ", min_size=1, max_size=8).filter(lambda part: part.strip(". ") == part)
_tree = st.dictionaries(st.lists(_part, min_size=1, max_size=3).map("/".join), st.binary(max_size=300), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=_tree)
def test_what_is_packed_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, bytes]) -> None:
    work = tmp_path_factory.mktemp("package")
    folder = work / "folder"
    folder.mkdir()
    folded: set[str] = set()
    for name, content in tree.items():
        path = folder / name
        if name.casefold() in folded or any(parent.is_file() for parent in path.parents) or path.exists():
            continue
        if any(name.casefold().startswith(other + "/") or other.startswith(name.casefold() + "/") for other in folded):
            continue
        folded.add(name.casefold())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    package = pack(folder, work / "one")
    unpack(work / "one", work / "back")
    assert snapshot(work / "back") == snapshot(folder)
    assert pack(work / "back", work / "two").digest == package.digest


def test_the_digest_depends_on_content_alone(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"b.py": "2", "a/x.sh": "1"})
    two = write(tmp_path / "two", {"a/x.sh": "1", "b.py": "2"})
    for root, when in ((one, 1_000_000), (two, 2_000_000_000)):
        (root / "a/x.sh").chmod(0o755 if root is one else 0o700)
        (root / "b.py").chmod(0o644 if root is one else 0o600)
        for path in root.rglob("*"):
            os.utime(path, (when, when))
    first, second = pack(one, tmp_path / "p1"), pack(two, tmp_path / "p2")
    assert first == second
    (two / "b.py").chmod(0o755)
    assert pack(two, tmp_path / "p3").digest != first.digest


def test_modes_links_and_empty_folders_come_back(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"run.sh": "echo", "sub/deep/data": "x", "plain": "y"})
    (folder / "run.sh").chmod(0o4777)
    (folder / "empty").mkdir()
    (folder / "near").symlink_to("plain")
    (folder / "sub/up").symlink_to("../run.sh")
    (folder / "sub/absolute").symlink_to(folder / "sub/deep/data")
    (folder / "folder-link").symlink_to("sub/deep")
    pack(folder, tmp_path / "p")
    unpack(tmp_path / "p", tmp_path / "back")
    back = tmp_path / "back"
    assert stat.S_IMODE((back / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((back / "plain").stat().st_mode) == 0o644
    assert (back / "empty").is_dir()
    assert {name: str((back / name).readlink()) for name in ("near", "sub/up", "sub/absolute", "folder-link")} == {
        "near": "plain",
        "sub/up": "../run.sh",
        "sub/absolute": "deep/data",
        "folder-link": "sub/deep",
    }
    assert (back / "folder-link/data").read_text() == "x"


def test_a_users_own_archive_is_no_package(tmp_path: Path) -> None:
    pack(write(tmp_path / "folder", {"a": "1"}), tmp_path / "p")
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("a", "1")
    (tmp_path / "text").write_bytes(b"no " + COMMENT)
    (tmp_path / "short").write_bytes(b"")
    assert [is_package(tmp_path / name) for name in ("p", "own.zip", "text", "short")] == [True, False, False, False]


# --------------------------------------------------------------------------- what is left out, what is refused


def test_ignore_files_are_respected_as_git_does(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "folder",
        {
            ".gitignore": "*.log\n/data\n!keep.log\nbuild/\n",
            ".nexusignore": "notes/**/*.md\n!data\n",
            "train.py": "",
            "a.log": "",
            "keep.log": "",
            "data/x": "",
            "build/out": "",
            "sub/.gitignore": "secret\n",
            "sub/secret": "",
            "sub/build/x": "",
            "secret": "",
            "notes/2024/a.md": "",
            "notes/readme.txt": "",
            ".git/config": "",
            "pkg/__pycache__/m.pyc": "",
            ".venv/bin/python": "",
        },
    )
    (folder / "ignored.log").symlink_to("/etc/passwd")
    assert workspace_files(folder) == sorted(
        [".gitignore", ".nexusignore", "data/x", "keep.log", "notes/readme.txt", "secret", "sub/.gitignore", "train.py"]
    )


def test_a_link_out_of_the_workspace_is_refused_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"a": ""})
    (folder / "secret").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="the link secret leads out of the workspace, to /etc/passwd"):
        pack(folder, tmp_path / "p", workspace_files(folder))


def test_too_much_names_the_largest(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"big.bin": b"x" * 5000, "small": b"x" * 10, "huge.bin": b"x" * 9000})
    with pytest.raises(LimitError, match=r"14 KB, more than the 1 KB") as caught:
        pack(folder, tmp_path / "p", limit_b=1000)
    assert caught.value.details["largest"] == ["huge.bin", "big.bin", "small"]
    assert "huge.bin (9 KB), big.bin (5 KB)" in caught.value.hint


def test_a_pipe_and_twins_cannot_be_packed(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", {"Makefile": "", "makefile": ""})
    with pytest.raises(UsageError, match="Makefile and makefile differ only in case"):
        pack(folder, tmp_path / "p")
    (folder / "makefile").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(UsageError, match="pipe is neither a file nor a folder"):
        pack(folder, tmp_path / "p")


FILE = (stat.S_IFREG | 0o644) << 16
ATTACKS = {
    "parent": [("../evil", b"x", FILE)],
    "deep parent": [("a/../../evil", b"x", FILE)],
    "absolute": [("/tmp/evil", b"x", FILE)],
    "double slash": [("//evil", b"x", FILE)],
    "backslash": [("..\\evil", b"x", FILE)],
    "drive": [("C:evil", b"x", FILE)],
    "drive path": [("C:\\evil", b"x", FILE)],
    "network path": [("\\\\host\\share", b"x", FILE)],
    "dot": [("./evil", b"x", FILE)],
    "only dots": [("..", b"x", FILE)],
    "empty": [("", b"x", FILE)],
    "empty part": [("a//evil", b"x", FILE)],
    "NUL": [("good\0/../evil", b"x", FILE)],
    "newline": [("a\nb", b"x", FILE)],
    "long": [("a" * 256, b"x", FILE)],
    "twice": [("a", b"1", FILE), ("a", b"2", FILE)],
    "twice by case": [("a", b"1", FILE), ("A", b"2", FILE)],
    "twice by form": [("\u00e9", b"1", FILE), ("e\u0301", b"2", FILE)],
    "link out": [("l", b"../evil", LINK)],
    "link absolute": [("l", b"/etc/passwd", LINK)],
    "link far out": [("a/l", b"../../evil", LINK)],
    "link by detour": [("d", b".", LINK), ("l", b"d/../evil", LINK)],
    "link drive": [("l", b"C:/evil", LINK)],
    "link backslash": [("l", b"..\\evil", LINK)],
    "link no text": [("l", b"\xff\xfe", LINK)],
    "link nowhere": [("l", b"", LINK)],
    "write through a link": [("l", b"sub", LINK), ("l/evil", b"x", FILE)],
    "link then file": [("l", b"sub", LINK), ("l", b"x", FILE)],
    "below a file": [("a", b"x", FILE), ("a/b", b"x", FILE)],
    "device": [("null", b"", (stat.S_IFCHR | 0o666) << 16)],
    "block device": [("disk", b"", (stat.S_IFBLK | 0o666) << 16)],
    "pipe": [("pipe", b"", (stat.S_IFIFO | 0o666) << 16)],
    "socket": [("socket", b"", (stat.S_IFSOCK | 0o666) << 16)],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    archive = forge(tmp_path / "attack", ("honest", b"x", FILE), *ATTACKS[name])
    with pytest.raises(UsageError):
        unpack(archive, home / "into")
    assert list(home.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["attack", "home"]


def test_set_user_bits_are_dropped(tmp_path: Path) -> None:
    archive = forge(tmp_path / "p", ("tool", b"x", (stat.S_IFREG | 0o6777) << 16))
    unpack(archive, tmp_path / "into")
    assert stat.S_IMODE((tmp_path / "into/tool").stat().st_mode) == 0o755


def test_a_bomb_is_stopped_by_what_comes_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * 20_000_000)
    with pytest.raises(LimitError, match="grows to more than"):
        unpack(tmp_path / "bomb", tmp_path / "into", Limits(ratio=10, ratio_from_b=1_000_000))
    with pytest.raises(LimitError, match="too much to unpack"):
        unpack(tmp_path / "bomb", tmp_path / "into", Limits(total_b=1_000_000))
    assert not (tmp_path / "into").exists()
    assert unpack(tmp_path / "bomb", tmp_path / "into") == 20_000_000


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    pack(write(tmp_path / "folder", {str(number): "" for number in range(11)}), tmp_path / "p")
    with pytest.raises(LimitError, match="11 files"):
        unpack(tmp_path / "p", tmp_path / "into", Limits(files=10))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_package_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    work = tmp_path_factory.mktemp("damaged")
    folder = write(work / "folder", {"a.txt": "hello " * 50, "b/c": os.urandom(0) + b"x" * 200})
    (folder / "l").symlink_to("a.txt")
    pack(folder, work / "p")
    raw = bytearray((work / "p").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (work / "p").write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        unpack(work / "p", work / "into")
    except NexusError:
        assert not (work / "into").exists()
    assert {path.name for path in work.iterdir()} <= {"folder", "p", "into"}
