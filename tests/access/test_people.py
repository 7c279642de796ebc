"""Projects, users and roles: nobody has more than they were given, and nothing stays of what was taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.access.core.passwords import hash_password, is_password
from nexus.access.model import MEMBERSHIPS, OWNER, TOKENS, USERS, Purpose, Token
from nexus.access.service.tokens import SYSTEM
from nexus.kernel.errors import ConflictError, DeniedError, ForbiddenError, NotFoundError, UsageError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from tests.access.house import House

pytestmark = pytest.mark.anyio
PASSWORD = "correct horse battery staple"


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


# --------------------------------------------------------------------------- founding


async def test_a_new_server_has_a_project_and_an_owner_and_founding_it_again_changes_nothing(house: House) -> None:
    owner = await house.owner()
    assert (owner.subject, owner.project, owner.role, owner.owner) == ("owner", "default", Role.ADMIN, True)
    before = await house.records.events()
    await house.people.found()
    assert await house.records.events() == before


async def test_tokens_of_before_there_were_users_become_the_owners(house: House) -> None:
    old = await house.access.create(purpose=Purpose.USER, subject="owner", project="default", role=Role.ADMIN)
    laptop = await house.access.create(purpose=Purpose.USER, subject="laptop", project="default", role=Role.MEMBER)
    await house.people.found()
    assert (await house.who(old.secret)).owner
    found = await house.who(laptop.secret)
    assert (found.subject, found.role, found.owner) == ("laptop", Role.MEMBER, False)
    with pytest.raises(ForbiddenError):
        await house.access.authenticate(laptop.secret, "vision")


# --------------------------------------------------------------------------- projects


async def test_an_owner_works_in_every_project_with_one_token(house: House) -> None:
    owner = await house.owner()
    await house.people.create_project(owner, "vision")
    token = await house.people.login_token(OWNER, "default", by=SYSTEM)
    there = await house.who(token.secret, "vision")
    assert (there.project, there.role, there.owner) == ("vision", Role.ADMIN, True)
    assert [one.name for one in await house.people.projects(there)] == ["default", "vision"]
    with pytest.raises(NotFoundError, match="no such project: nothing"):
        await house.access.authenticate(token.secret, "nothing")


async def test_a_project_that_one_is_not_in_is_as_one_that_is_not_there(house: House) -> None:
    owner = await house.owner()
    await house.people.create_project(owner, "vision")
    mia = await house.user("mia")
    said = []
    for name in ("vision", "nothing"):
        with pytest.raises(NotFoundError) as caught:
            await house.access.authenticate(mia.secret, name)
        said.append((caught.value.message.replace(name, "X"), caught.value.hint))
    assert said[0] == said[1]
    assert [one.name for one in await house.people.projects(await house.who(mia.secret))] == ["default"]


@pytest.mark.parametrize("name", ["", "Vision", "a/b", "..", "x" * 64, "-a", "a b"])
async def test_names_of_projects_and_users_are_names(house: House, name: str) -> None:
    owner = await house.owner()
    with pytest.raises(UsageError):
        await house.people.create_project(owner, name)
    with pytest.raises(UsageError):
        await house.people.add_user(owner, name, Role.MEMBER)


async def test_a_project_in_use_stays_and_says_what_uses_it(house: House) -> None:
    owner = await house.owner()
    await house.people.create_project(owner, "vision")
    house.used["vision"] = "2 machines, 1 run"
    with pytest.raises(ConflictError, match="2 machines, 1 run"):
        await house.people.remove_project(owner, "vision")
    with pytest.raises(ConflictError):
        await house.people.remove_project(owner, "default")


async def test_a_removed_project_lets_nobody_in_and_its_name_is_not_given_again(house: House) -> None:
    owner = await house.owner()
    await house.people.create_project(owner, "vision")
    mia = await house.user("mia", Role.MEMBER, "vision")
    inside = await house.who(mia.secret, "vision")
    robot = await house.access.create_for(inside, "robot", Role.MEMBER, None)
    await house.secrets.set(inside, "HF_TOKEN", "hf_abcdef")
    await house.people.remove_project(owner, "vision")
    with pytest.raises(NotFoundError):
        await house.access.authenticate(mia.secret, "vision")
    assert await house.access.authenticate(robot.secret) is None
    assert [one.name for one in await house.people.projects(owner)] == ["default"]
    with pytest.raises(ConflictError, match="history"):
        await house.people.create_project(owner, "vision")
    with pytest.raises(NotFoundError):
        await house.secrets.check("vision", ["HF_TOKEN"])


# --------------------------------------------------------------------------- users and roles


async def test_only_owners_manage_users_and_projects(house: House) -> None:
    admin = await house.who((await house.user("ada", Role.ADMIN)).secret)
    for forbidden in (
        house.people.users(admin),
        house.people.add_user(admin, "eve", Role.ADMIN),
        house.people.remove_user(admin, "owner"),
        house.people.create_project(admin, "mine"),
        house.people.remove_project(admin, "default"),
        house.people.set_password(admin, "owner", PASSWORD),
        house.secrets.rotate(admin),
        house.audit.verify(admin),
    ):
        with pytest.raises(ForbiddenError):
            await forbidden


async def test_an_owners_token_for_a_program_does_not_make_owners(house: House) -> None:
    owner = await house.owner()
    robot = await house.who((await house.access.create_for(owner, "robot", Role.ADMIN, None)).secret)
    assert (robot.subject, robot.role, robot.owner) == ("owner", Role.ADMIN, False)
    with pytest.raises(ForbiddenError):
        await house.people.add_user(robot, "eve", Role.ADMIN, owner=True)


async def test_a_lowered_role_counts_at_once_for_every_token_of_the_user(house: House) -> None:
    owner = await house.owner()
    mia = await house.user("mia", Role.ADMIN)
    person = await house.who(mia.secret)
    robot = await house.access.create_for(person, "robot", Role.ADMIN, None)
    viewer = await house.access.create_for(person, "screen", Role.VIEWER, None)
    await house.people.set_role(owner, "mia", Role.MEMBER)
    assert (await house.who(mia.secret)).role is Role.MEMBER
    assert (await house.who(robot.secret)).role is Role.MEMBER
    assert (await house.who(viewer.secret)).role is Role.VIEWER
    with pytest.raises(ForbiddenError):
        await house.people.set_role(await house.who(mia.secret), "mia", Role.ADMIN)
    await house.people.set_role(owner, "mia", None)
    assert await house.access.authenticate(mia.secret) is None
    assert await house.access.authenticate(robot.secret) is None


async def test_another_process_hears_of_it_within_its_two_seconds(house: House) -> None:
    """A second process has a memory of its own; only time empties it."""
    owner, mia = await house.owner(), await house.user("mia")
    other = House(house.folder, records=house.records, clock=house.clock)
    assert (await other.who(mia.secret)).role is Role.MEMBER
    await house.people.remove_user(owner, "mia")
    assert await house.access.authenticate(mia.secret) is None
    house.clock.at += 2.1
    assert await other.access.authenticate(mia.secret) is None


async def test_nothing_stays_of_a_removed_user(house: House) -> None:
    owner, mia = await house.owner(), await house.user("mia")
    person = await house.who(mia.secret)
    code, join = await house.access.login_code(person), await house.access.join_token(person)
    session = await house.access.exchange((await house.access.login_code(person)).secret)
    await house.people.remove_user(owner, "mia")
    assert await house.access.authenticate(session.secret) is None
    for secret, purpose in ((code.secret, Purpose.LOGIN), (join.secret, Purpose.JOIN)):
        with pytest.raises(DeniedError):
            await house.access.redeem(secret, purpose)
    assert await house.records.find(MEMBERSHIPS, {"user": "mia"}) == []
    with pytest.raises(DeniedError):
        await house.people.log_in("mia", PASSWORD)


async def test_a_user_who_is_removed_while_making_a_token_gets_none(house: House) -> None:
    owner, mia = await house.owner(), await house.user("mia")
    person = await house.who(mia.secret)
    apply = house.records.apply

    async def late(*changes: object, events: object = ()) -> None:
        house.records.apply = apply  # type: ignore[method-assign]
        await house.people.remove_user(owner, "mia")
        await apply(*changes, events=events)  # type: ignore[arg-type]

    house.records.apply = late  # type: ignore[method-assign]
    with pytest.raises(DeniedError):
        await house.access.create_for(person, "robot", Role.MEMBER, None)
    live = [one for one in await house.records.find(TOKENS, {"user": "mia"}) if not one.revoked]
    assert live == []


async def test_the_last_owner_stays(house: House) -> None:
    owner = await house.owner()
    with pytest.raises(ConflictError, match="last owner"):
        await house.people.remove_user(owner, "owner")
    await house.people.add_user(owner, "ada", None, owner=True)
    await house.people.remove_user(owner, "owner")
    assert await house.people.an_owner() == "ada"


async def test_a_program_token_stays_in_its_project_and_ends_with_its_parent(house: House) -> None:
    owner = await house.owner()
    await house.people.create_project(owner, "vision")
    short = await house.access.create_for(owner, "ci", Role.ADMIN, 60.0)
    with pytest.raises(ForbiddenError, match="default only"):
        await house.access.authenticate(short.secret, "vision")
    child = await house.access.create_for(await house.who(short.secret), "child", Role.ADMIN, None)
    session = await house.access.exchange(short.secret)
    by_code = await house.access.exchange((await house.access.login_code(await house.who(short.secret))).secret)
    house.clock.at += 61
    for made in (short, child, session, by_code):
        assert await house.access.authenticate(made.secret) is None


async def test_members_see_and_revoke_their_own_tokens_only(house: House) -> None:
    mia, bob = await house.user("mia"), await house.user("bob")
    hers, his = await house.who(mia.secret), await house.who(bob.secret)
    assert {one.subject for one in await house.access.tokens(hers)} == {"mia"}
    with pytest.raises(NotFoundError):
        await house.access.revoke(hers, bob.token.id)
    await house.access.revoke(his, bob.token.id)
    assert await house.access.authenticate(bob.secret) is None


async def test_a_job_leaves_no_token_behind(house: House) -> None:
    """A run's own token reads its project; it makes nothing that lives longer than the run."""
    run = Principal(PrincipalKind.RUN, "run_1", "default", Role.ADMIN)
    for forbidden in (
        house.access.create_for(run, "x", Role.VIEWER, None),
        house.access.join_token(run),
        house.access.login_code(run),
        house.secrets.set(run, "A_NAME", "value"),
        house.secrets.names(run),
        house.people.members(run),
        house.audit.trail(run),
    ):
        with pytest.raises(ForbiddenError):
            await forbidden
    with pytest.raises(ForbiddenError):
        await house.access.authenticate(house.access.run_token("run_1", "default"), "vision")


# --------------------------------------------------------------------------- passwords


def test_a_password_is_kept_so_that_nobody_reads_it() -> None:
    kept = hash_password(PASSWORD, b"s" * 16)
    assert PASSWORD not in kept
    assert is_password(PASSWORD, kept)
    assert not is_password(PASSWORD + "x", kept)
    assert not is_password("", "")
    assert hash_password(PASSWORD, b"t" * 16) != kept


async def test_a_log_in_by_password_gives_what_the_user_may_do(house: House) -> None:
    owner, mia = await house.owner(), await house.user("mia")
    with pytest.raises(DeniedError):
        await house.people.log_in("mia", "")
    await house.people.set_password(await house.who(mia.secret), "mia", PASSWORD)
    found = await house.who((await house.people.log_in("mia", PASSWORD)).secret)
    assert (found.subject, found.role, found.project) == ("mia", Role.MEMBER, "default")
    session = await house.people.log_in("mia", PASSWORD, browser=True)
    assert (await house.who(session.secret)).subject == "mia"
    await house.people.set_password(owner, "mia", PASSWORD + "!")
    assert await house.access.authenticate(session.secret) is None, "browsers log in again"
    with pytest.raises(DeniedError):
        await house.people.log_in("mia", PASSWORD)
    with pytest.raises(ForbiddenError):
        await house.people.set_password(await house.who(mia.secret), "owner", PASSWORD)


async def test_a_wrong_password_and_a_wrong_name_are_answered_alike_and_written_down(house: House) -> None:
    mia = await house.user("mia")
    await house.people.set_password(await house.who(mia.secret), "mia", PASSWORD)
    said = []
    for name, password in (("mia", "wrong password"), ("nobody", "wrong password"), ("mia", ""), ("../x", "y" * 2000)):
        with pytest.raises(DeniedError) as caught:
            await house.people.log_in(name, password, address="203.0.113.9")
        said.append((caught.value.message, caught.value.hint))
    assert len(set(said)) == 1
    denied = [one for one in await house.records.events() if one.kind == "login.denied"]
    assert [one.data["from"] for one in denied] == ["203.0.113.9"] * 4
    assert "wrong password" not in str(denied)


@pytest.mark.parametrize("password", ["", "short", "x" * 1001])
async def test_a_password_has_a_length(house: House, password: str) -> None:
    owner = await house.owner()
    with pytest.raises(UsageError, match="12 characters"):
        await house.people.set_password(owner, "owner", password)


async def test_what_is_kept_of_people_holds_no_secret(house: House) -> None:
    mia = await house.user("mia")
    await house.people.set_password(await house.who(mia.secret), "mia", PASSWORD)
    everything = repr([await house.records.find(USERS), await house.records.find(TOKENS), await house.records.events()])
    assert PASSWORD not in everything
    assert mia.secret[5:] not in everything
    assert isinstance((await house.records.find(TOKENS))[0], Token)
