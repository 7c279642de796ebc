"""Tokens: only who was given one gets in, once where once was meant, and never after it was revoked."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec
import pytest

from nexus.access.model import TOKENS, Purpose, Token
from nexus.access.service import Access
from nexus.infra.clock import system_entropy
from nexus.infra.records.memory import MemoryRecords
from nexus.kernel.errors import DeniedError, ForbiddenError, NotFoundError, UsageError
from nexus.kernel.identity import Principal, PrincipalKind, Role

pytestmark = pytest.mark.anyio


class StillClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


async def run_lives(run: str) -> bool:
    return run != "run_ended"


ADMIN = Principal(PrincipalKind.USER, "ada", "p", Role.ADMIN)
MEMBER = Principal(PrincipalKind.USER, "mel", "p", Role.MEMBER)
VIEWER = Principal(PrincipalKind.USER, "vic", "p", Role.VIEWER)


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryRecords()


@pytest.fixture
def access(records: MemoryRecords, clock: StillClock) -> Access:
    return Access(records, clock, system_entropy, b"k" * 32, is_live=run_lives)


async def test_a_token_proves_its_subject_role_and_project(access: Access) -> None:
    made = await access.create_for(ADMIN, "laptop", Role.MEMBER, None)
    assert await access.authenticate(made.secret) == Principal(PrincipalKind.USER, "laptop", "p", Role.MEMBER)
    assert await access.authenticate(made.secret[:-1] + "x") is None
    assert await access.authenticate("") is None


async def test_the_secret_is_kept_nowhere(access: Access, records: MemoryRecords) -> None:
    made = await access.create_for(ADMIN, "laptop", Role.MEMBER, None)
    everything = msgspec.json.encode([await records.find(TOKENS), await records.events()])
    assert made.secret.encode() not in everything
    assert made.secret[8:].encode() not in everything


async def test_nobody_gives_more_than_they_have(access: Access) -> None:
    with pytest.raises(ForbiddenError):
        await access.create_for(MEMBER, "x", Role.ADMIN, None)
    with pytest.raises(ForbiddenError):
        await access.join_token(VIEWER)
    with pytest.raises(UsageError):
        await access.create_for(ADMIN, " ", Role.VIEWER, None)


async def test_revoked_tokens_stop_at_once(access: Access) -> None:
    made = await access.create_for(ADMIN, "laptop", Role.MEMBER, None)
    assert await access.authenticate(made.secret)
    await access.revoke(ADMIN, made.token.id)
    assert await access.authenticate(made.secret) is None


@pytest.mark.parametrize("lifetime_s", [0.0, -5.0, float("inf"), float("nan")])
async def test_a_lifetime_is_a_time(access: Access, lifetime_s: float) -> None:
    with pytest.raises(UsageError, match="lifetime") as caught:
        await access.create_for(ADMIN, "laptop", Role.MEMBER, lifetime_s)
    assert "30d" in caught.value.hint


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
async def test_a_token_has_a_name_for_people(access: Access, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        await access.create_for(ADMIN, name, Role.MEMBER, None)


async def test_a_token_that_is_revoked_while_it_is_looked_up_is_not_remembered(access: Access) -> None:
    made = await access.create_for(ADMIN, "laptop", Role.MEMBER, None)
    find = access._find

    async def slowly(secret: str) -> Token | None:
        token = await find(secret)
        await access.revoke(ADMIN, made.token.id)
        return token

    access._find = slowly  # type: ignore[method-assign]
    assert await access.authenticate(made.secret) is not None, "this request came before the revocation"
    access._find = find  # type: ignore[method-assign]
    assert await access.authenticate(made.secret) is None


async def test_other_projects_tokens_do_not_exist(access: Access) -> None:
    made = await access.create_for(ADMIN, "laptop", Role.MEMBER, None)
    stranger = Principal(PrincipalKind.USER, "eve", "q", Role.ADMIN)
    with pytest.raises(NotFoundError):
        await access.revoke(stranger, made.token.id)
    assert await access.tokens(stranger) == []


async def test_expired_tokens_stop(access: Access, clock: StillClock) -> None:
    made = await access.create_for(ADMIN, "laptop", Role.MEMBER, 60.0)
    assert await access.authenticate(made.secret)
    clock.at += 61
    assert await access.authenticate(made.secret) is None


async def test_a_join_token_works_once_even_for_two_at_a_time(access: Access) -> None:
    made = await access.join_token(MEMBER)
    assert await access.authenticate(made.secret) is None
    outcomes = await asyncio.gather(
        *(access.redeem(made.secret, Purpose.JOIN) for _ in range(5)), return_exceptions=True
    )
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 1
    with pytest.raises(DeniedError):
        await access.redeem(made.secret, Purpose.JOIN)


async def test_a_join_token_is_no_login_code_and_the_other_way(access: Access) -> None:
    join, login = await access.join_token(MEMBER), await access.login_code(VIEWER)
    with pytest.raises(DeniedError):
        await access.exchange(join.secret)
    with pytest.raises(DeniedError):
        await access.redeem(login.secret, Purpose.JOIN)


async def test_a_login_code_becomes_one_session_with_the_same_role(access: Access) -> None:
    code = await access.login_code(VIEWER)
    session = await access.exchange(code.secret)
    assert await access.authenticate(session.secret) == VIEWER
    with pytest.raises(DeniedError):
        await access.exchange(code.secret)


async def test_a_run_cannot_become_a_person(access: Access) -> None:
    """Its token must not turn into a session that nobody gave."""
    principal = await access.authenticate(access.run_token("run_1", "p"))
    assert principal is not None
    with pytest.raises(ForbiddenError):
        await access.login_code(principal)


async def test_a_node_that_joins_again_fences_its_old_token(access: Access) -> None:
    first = await access.node_token("node_1", "p")
    second = await access.node_token("node_1", "p")
    assert await access.authenticate(first) is None
    principal = await access.authenticate(second)
    assert principal and principal.need_node() == "node_1"
    with pytest.raises(ForbiddenError):
        principal.need(Role.VIEWER)


async def test_run_tokens_are_signed(access: Access, records: MemoryRecords) -> None:
    secret = access.run_token("run_1", "p")
    assert secret == access.run_token("run_1", "p")
    principal = await access.authenticate(secret)
    assert principal == Principal(PrincipalKind.RUN, "run_1", "p", Role.VIEWER)
    forged = secret.replace("run_1", "run_2")
    assert await access.authenticate(forged) is None
    other = Access(records, StillClock(), system_entropy, b"z" * 32, is_live=run_lives)
    assert await other.authenticate(secret) is None
    with pytest.raises(ForbiddenError):
        principal.need(Role.MEMBER)
    assert await access.authenticate(access.run_token("run_ended", "p")) is None


async def test_ids_are_half_a_digest(access: Access) -> None:
    made = await access.create_for(ADMIN, "laptop", Role.MEMBER, None)
    assert hashlib.sha256(made.secret.encode()).hexdigest().startswith(made.token.id)
