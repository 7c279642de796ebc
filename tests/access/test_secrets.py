"""Secrets at rest: what the database holds opens nothing, elsewhere it does not open, and a new key loses none."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from nexus.access.adapters.vault import KeyVault
from nexus.access.model import SECRETS
from nexus.access.service import Secrets
from nexus.kernel.errors import ForbiddenError, LimitError, NotFoundError, UsageError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from tests.access.house import House

pytestmark = pytest.mark.anyio
VALUE = "hf_QzPxr7canary"
MEMBER = Principal(PrincipalKind.USER, "mel", "p", Role.MEMBER)
VIEWER = Principal(PrincipalKind.USER, "vic", "p", Role.VIEWER)
STRANGER = Principal(PrincipalKind.USER, "eve", "q", Role.ADMIN)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def test_what_was_set_reaches_a_run_and_nobody_else(house: House) -> None:
    await house.secrets.set(MEMBER, "HF_TOKEN", VALUE)
    assert await house.secrets.reveal("p", ["HF_TOKEN"], run="run_1") == {"HF_TOKEN": VALUE}
    assert [one.name for one in await house.secrets.names(MEMBER)] == ["HF_TOKEN"]
    assert VALUE not in repr(await house.secrets.names(MEMBER))
    with pytest.raises(ForbiddenError):
        await house.secrets.names(VIEWER)
    with pytest.raises(ForbiddenError):
        await house.secrets.set(VIEWER, "HF_TOKEN", "x")
    assert await house.secrets.names(STRANGER) == []
    with pytest.raises(NotFoundError):
        await house.secrets.remove(STRANGER, "HF_TOKEN")
    with pytest.raises(NotFoundError):
        await house.secrets.reveal("q", ["HF_TOKEN"], run="run_1")


async def test_the_store_and_the_key_file_hold_no_value(house: House) -> None:
    await house.secrets.set(MEMBER, "HF_TOKEN", VALUE)
    kept = msgspec.json.encode([await house.records.find(SECRETS), await house.records.events()])
    assert VALUE.encode() not in kept
    file = house.folder / "secrets.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert VALUE not in file.read_text()
    assert len({one.sealed for one in await house.records.find(SECRETS)}) == 1
    first = (await house.records.find(SECRETS))[0]
    await house.secrets.set(MEMBER, "HF_TOKEN", VALUE)
    assert (await house.records.find(SECRETS))[0].sealed != first.sealed, "the same value never looks the same"


async def test_a_value_does_not_open_in_another_place(house: House) -> None:
    """Whoever can write to the database cannot read a secret by moving it to a project of their own."""
    await house.secrets.set(MEMBER, "HF_TOKEN", VALUE)
    stolen = (await house.records.find(SECRETS))[0]
    for project, name in (("q", "HF_TOKEN"), ("p", "OTHER")):
        moved = replace(stolen, id=f"{project}/{name}", project=project, name=name, version=0)
        await house.records.apply((SECRETS, moved))
        with pytest.raises(UsageError, match="does not open"):
            await house.secrets.reveal(project, [name], run="run_1")


async def test_a_changed_value_does_not_open(house: House) -> None:
    await house.secrets.set(MEMBER, "HF_TOKEN", VALUE)
    kept = (await house.records.find(SECRETS))[0]
    flipped = ("A" if kept.sealed[20] != "A" else "B").join([kept.sealed[:20], kept.sealed[21:]])
    await house.records.apply((SECRETS, replace(kept, sealed=flipped)))
    with pytest.raises(UsageError, match="does not open"):
        await house.secrets.check("p", ["HF_TOKEN"])


async def test_every_missing_name_is_said_at_once(house: House) -> None:
    await house.secrets.set(MEMBER, "HF_TOKEN", VALUE)
    with pytest.raises(NotFoundError, match="AWS_KEY, WANDB") as caught:
        await house.secrets.check("p", ["HF_TOKEN", "WANDB", "AWS_KEY"])
    assert "nexus secret set AWS_KEY" in caught.value.hint
    await house.secrets.check("p", ["HF_TOKEN", "HF_TOKEN"])


async def test_rotation_loses_nothing_and_the_old_key_opens_nothing(house: House) -> None:
    owner = await house.owner()
    for number in range(20):
        await house.secrets.set(MEMBER, f"SECRET_{number}", f"{VALUE}{number}")
    file = house.folder / "secrets.key"
    old = file.read_text().strip()
    before = {one.name: one.sealed for one in await house.records.find(SECRETS)}
    assert await house.secrets.rotate(owner) == 20
    assert old not in file.read_text()
    assert {one.name: one.sealed for one in await house.records.find(SECRETS)} == before, "values are not touched"
    names = [f"SECRET_{number}" for number in range(20)]
    values = await house.secrets.reveal("p", names, run="run_1")
    assert values == {f"SECRET_{number}": f"{VALUE}{number}" for number in range(20)}
    thief = Secrets(house.records, house.clock, KeyVault(house.folder / "none", {"NEXUS_SECRETS_KEY": old}))
    with pytest.raises(NotFoundError, match="is not here"):
        await thief.reveal("p", names, run="run_1")


async def test_a_rotation_that_was_cut_off_is_finished_by_the_next(house: House) -> None:
    owner = await house.owner()
    await house.secrets.set(MEMBER, "A_NAME", VALUE)
    await house.secrets.set(MEMBER, "B_NAME", VALUE)
    house.vault.renew()  # and then the server was killed
    assert await house.secrets.reveal("p", ["A_NAME", "B_NAME"], run="r") == {"A_NAME": VALUE, "B_NAME": VALUE}
    await house.secrets.rotate(owner)
    assert len((house.folder / "secrets.key").read_text().split()) == 1
    assert await house.secrets.reveal("p", ["A_NAME", "B_NAME"], run="r") == {"A_NAME": VALUE, "B_NAME": VALUE}


async def test_keys_that_a_person_keeps(house: House, tmp_path: Path) -> None:
    first, second = "11" * 32, "22" * 32
    records, clock, owner = house.records, house.clock, await house.owner()
    kept = Secrets(records, clock, KeyVault(tmp_path / "unused", {"NEXUS_SECRETS_KEY": first}))
    await kept.set(MEMBER, "A_NAME", VALUE)
    both = Secrets(records, clock, KeyVault(tmp_path / "unused", {"NEXUS_SECRETS_KEY": f"{second},{first}"}))
    assert await both.reveal("p", ["A_NAME"], run="r") == {"A_NAME": VALUE}
    await both.rotate(owner)
    alone = Secrets(records, clock, KeyVault(tmp_path / "unused", {"NEXUS_SECRETS_KEY": second}))
    assert await alone.reveal("p", ["A_NAME"], run="r") == {"A_NAME": VALUE}
    assert not (tmp_path / "unused").exists()
    with pytest.raises(UsageError, match="64 hex digits") as caught:
        KeyVault(tmp_path / "unused", {"NEXUS_SECRETS_KEY": "abc123"}).seal(b"x", "p|n")
    assert "abc123" not in caught.value.message


@pytest.mark.parametrize("name", ["", "1A", "a-b", "A B", "../X", "NEXUS_TOKEN", "nexus_x", "x" * 101, "A\n"])
async def test_names_become_variables(house: House, name: str) -> None:
    with pytest.raises(UsageError, match="name a secret"):
        await house.secrets.set(MEMBER, name, VALUE)


async def test_values_that_no_variable_can_hold(house: House) -> None:
    for value in ("", "a\0b"):
        with pytest.raises(UsageError):
            await house.secrets.set(MEMBER, "A_NAME", value)
    with pytest.raises(LimitError):
        await house.secrets.set(MEMBER, "A_NAME", "x" * 65_537)


async def test_what_is_done_with_secrets_is_written_down_without_them(house: House) -> None:
    await house.secrets.set(replace(MEMBER, address="198.51.100.7", token="abc"), "HF_TOKEN", VALUE)
    await house.secrets.reveal("p", ["HF_TOKEN"], run="run_1")
    await house.secrets.remove(MEMBER, "HF_TOKEN")
    events = await house.records.events(project="p")
    assert [(one.kind, one.subject, one.actor) for one in events] == [
        ("secret.set", "p/HF_TOKEN", "mel"),
        ("secret.read", "p/HF_TOKEN", "nexus"),
        ("secret.removed", "p/HF_TOKEN", "mel"),
    ]
    assert events[0].data == {"from": "198.51.100.7", "with": "abc"}
    assert events[1].data == {"run": "run_1"}
