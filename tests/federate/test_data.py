"""Loaders: what is in the files comes out, and what is wrong with them is said."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nexus import federate
from nexus.federate.data.fetching import FETCHED, Package, fetch, place
from nexus.federate.data.hub import of_rows
from nexus.federate.data.named import idx, spoken
from nexus.federate.data.tables import csv_columns
from nexus.kernel.errors import FileError, MissingError, NexusError, NotFoundError, UnavailableError, UsageError

pytestmark = pytest.mark.torch
TABLE = "site,age,colour,ill\n a,1.5,red,no\nb,2,blue,yes\n\nb,3,red,yes\n"


@pytest.mark.parametrize(("name", "shape", "classes"), [("digits", (1, 8, 8), 10), ("breast_cancer", (30,), 2)])
def test_data_that_ships_in_packages_needs_no_net(name, shape, classes):
    found = federate.data.load(name)
    assert found.x.shape[1:] == shape
    assert found.test is not None
    assert len(found.test[0]) == pytest.approx(len(found) / 4, rel=0.02)
    assert len(found.classes) == classes == len(np.unique(found.y))
    dealt = found.deal(10, "dirichlet", alpha=0.5)
    assert len(dealt) == 10
    assert sum(len(dealt(client)[0]) for client in range(10)) == len(found)


def test_a_csv_becomes_features_classes_and_clients(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    found = federate.data.csv(path, label="ill", client="site")
    assert found.classes == ("no", "yes")
    assert found.y.tolist() == [0, 1, 1]
    assert found.x.tolist() == [[1.5, 0, 1], [2, 1, 0], [3, 0, 1]]
    dealt = found.deal()
    assert [dealt(client)[1].tolist() for client in range(2)] == [[0], [1, 1]]
    assert federate.data.csv(path, label="age", drop=["site"]).y.tolist() == [1.5, 2, 3]


def test_parquet_is_read_as_csv_is(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    (tmp_path / "t.csv").write_text(TABLE)
    columns = csv_columns(tmp_path / "t.csv")
    write_table(pa.table({name: pa.array(values.tolist()) for name, values in columns.items()}), tmp_path / "t.parquet")
    one, two = (
        read(tmp_path / f"t.{end}", label="ill", client="site")
        for read, end in ((federate.data.csv, "csv"), (federate.data.parquet, "parquet"))
    )
    assert one.x.tolist() == two.x.tolist()
    assert one.keys is not None
    assert two.keys is not None
    assert one.keys.tolist() == two.keys.tolist()
    (tmp_path / "bad.parquet").write_text("x")
    with pytest.raises(FileError):
        federate.data.parquet(tmp_path / "bad.parquet", label="ill")


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("", FileError, "no rows"),
        ("a,b\n1,2\n3\n", FileError, "1 cells where the head has 2"),
        ("a,a\n1,2\n", FileError, "two columns"),
        ("a,b\n1,2\n", UsageError, "no column 'ill'"),
        ("a,ill\n1,0\n,1\n", UsageError, "the first in row 2"),
        ("ill\n1\n", UsageError, "no column to learn from"),
        ("a,ill\n" + "".join(f"w{n},1\n" for n in range(101)), UsageError, "101 different words"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(text, error, said, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(error, match=said) as caught:
        federate.data.csv(path, label="ill")
    assert caught.value.hint


def test_leafs_users_are_clients(tmp_path):
    def write(name: str, users: dict[str, Any]) -> None:
        data = {user: {"x": x, "y": y} for user, (x, y) in users.items()}
        (tmp_path / name).mkdir(exist_ok=True)
        body = {"users": list(users), "num_samples": [len(y) for _, y in users.values()], "user_data": data}
        (tmp_path / name / "all.json").write_text(json.dumps(body))

    write("train", {"f1": ([[0.0, 1.0], [1.0, 0.0]], [1, 0]), "f0": ([[0.5, 0.5]], [1])})
    write("test", {"f1": ([[1.0, 1.0]], [0])})
    found = federate.data.leaf(tmp_path / "train", tmp_path / "test")
    dealt = found.deal()
    assert dealt(0)[0].tolist() == [[0.5, 0.5]]
    assert dealt(1)[1].tolist() == [1, 0]
    assert found.held_out is not None
    assert found.held_out[1].tolist() == [0]
    write("bad", {"f1": ([[1.0]], [0, 1])})
    (tmp_path / "none").mkdir()
    for folder in ("bad", "none"):
        with pytest.raises(FileError):
            federate.data.leaf(tmp_path / folder)


def test_images_by_client_and_class(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for client, kind, value in (("ann", "cat", 255), ("ann", "dog", 0), ("bob", "cat", 51)):
        (tmp_path / client / kind).mkdir(parents=True, exist_ok=True)
        image.new("RGB", (5, 9), (value, 0, 0)).save(tmp_path / client / kind / "1.png")
    found = federate.data.folder(tmp_path, size=4)
    assert found.x.shape == (3, 3, 4, 4)
    np.testing.assert_allclose(found.x[:, :, 0, 0], np.array([[1, 0, 0], [0, 0, 0], [0.2, 0, 0]]), atol=1e-6)
    assert (found.classes, found.y.tolist()) == (("cat", "dog"), [0, 1, 0])
    (tmp_path / "bob" / "cat" / "2.png").write_text("no image")
    with pytest.raises(FileError, match="no image"):
        federate.data.folder(tmp_path)


def test_text_by_client_gives_the_next_character(tmp_path):
    (tmp_path / "ann.txt").write_text("abcabcab")
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "1.txt").write_text("cé")
    (tmp_path / "bob" / "2.txt").write_text("ab")
    found = federate.data.text(tmp_path, window=3)
    assert found.classes == ("a", "b", "c", "é")
    assert found.x.tolist() == [[0, 1, 2], [0, 1, 2], [2, 3, 0]]
    assert found.y.tolist() == [0, 0, 1]
    assert found.keys is not None
    assert found.keys.tolist() == ["ann", "ann", "bob"]
    with pytest.raises(UsageError):
        federate.data.text(tmp_path, window=50)


def test_rows_of_the_hub_are_read_as_a_table_or_as_pictures():
    class Rows:
        column_names = ("pixels", "kind", "who")

        def __getitem__(self, name):
            return {"pixels": [np.full((2, 2), 255, np.uint8)] * 2, "kind": [1, 0], "who": ["b", "a"]}[name]

    found = of_rows(Rows(), "x", label="kind", client="who", image="pixels")
    assert found.x.shape == (2, 1, 2, 2)
    assert found.x.max() == 1
    assert found.deal()(0)[1].tolist() == [0]
    with pytest.raises(UsageError, match="no column"):
        of_rows(Rows(), "x", label="kinds", client=None, image="")


# --------------------------------------------------------------------------- what is fetched


def written(path: Path, values: Any, kind: int = 8) -> None:
    head = struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(head + values.tobytes())


def test_idx_files_are_read_and_broken_ones_refused(tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for name in ("a", "a.gz"):
        written(tmp_path / name, values)
        assert (idx(tmp_path / name) == values).all()
    for name, broken in (("b", b""), ("c", (tmp_path / "a").read_bytes()[:-1]), ("d", b"\0\0\x07\1\0\0\0\1x")):
        (tmp_path / name).write_bytes(broken)
        with pytest.raises(FileError):
            idx(tmp_path / name)


def test_fetched_images_are_loaded_from_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        federate.data.load("mnist")
    assert "nexus federate fetch mnist" in caught.value.hint
    folder = place("mnist")
    folder.mkdir(parents=True)
    for part, count in (("train", 6), ("t10k", 2)):
        written(folder / f"{part}-images-idx3-ubyte", np.full((count, 28, 28), 255, np.uint8))
        written(folder / f"{part}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8))
    found = federate.data.load("mnist")
    assert found.x.shape == (6, 1, 28, 28)
    assert found.x.min() == 1
    assert found.test is not None
    assert found.test[1].tolist() == [0, 1]


def packaged(monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], md5: dict[str, str]) -> None:
    monkeypatch.setitem(FETCHED, "mine", Package(command, md5, ""))


def test_what_is_fetched_is_checked_and_kept_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "x").write_text("data")
    subprocess.run(["tar", "czf", "p.tgz", "package"], cwd=tmp_path, check=True)
    bring = (shutil.which("cp") or "cp", str(tmp_path / "p.tgz"), ".")
    packaged(monkeypatch, bring, {"x": "0" * 32})
    with pytest.raises(FileError, match="not the file"):
        fetch("mine")
    packaged(monkeypatch, bring, {"y": "0" * 32})
    with pytest.raises(FileError, match="has no y"):
        fetch("mine")
    assert list((tmp_path / "data").iterdir()) == []
    packaged(monkeypatch, bring, {"x": "8d777f385d3dfec8815d20f7496026dc"})
    assert (fetch("mine") / "x").read_text() == "data"
    packaged(monkeypatch, ("false",), {})
    assert fetch("mine") == place("mine"), "it is there"


@pytest.mark.parametrize(("command", "error"), [(("false",), UnavailableError), (("no-such-client",), MissingError)])
def test_what_cannot_be_fetched_says_why(command, error, tmp_path, monkeypatch):
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    packaged(monkeypatch, command, {})
    with pytest.raises(error) as caught:
        fetch("mine")
    assert caught.value.hint
    assert not place("mine").exists()


def test_names_that_nobody_knows():
    for ask in (federate.data.load, fetch):
        with pytest.raises(NotFoundError) as caught:
            ask("mnits")
        assert "mnist" in caught.value.hint


def test_speeches_have_their_speakers():
    play = "ACT I.\n\nBer.\nWho's there?\n\nFran. of\nx\n\nFran.\nNay, answer me: stand,\nand unfold yourself.\n\n"
    assert spoken(play) == [("Ber", "Who's there?"), ("Fran", "Nay, answer me: stand,\nand unfold yourself.")]


def test_every_sample_needs_a_label():
    with pytest.raises(NexusError, match="3 inputs, 2 labels"):
        federate.data.Dataset(np.zeros((3, 1)), np.zeros(2))
    with pytest.raises(UsageError, match="whose"):
        federate.data.load("digits").deal(3, "by_key")
