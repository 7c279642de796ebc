"""A Launch on memory and virtual time, with a hand in the place of an agent."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from nexus.infra.hints import Hints
from nexus.infra.records.memory import MemoryRecords
from nexus.kernel.errors import NotFoundError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.core.policy import Policy
from nexus.launch.model import Node, RolePlan, Run, Submission, TaskState
from nexus.launch.ports import log_topic
from nexus.launch.protocol import Desired, Report, TaskOrder, TaskReport
from nexus.launch.service import Launch
from tests.launch.build import info, plan
from tests.simulation.loop import VirtualClock, VirtualLoop, run_virtually

T = TypeVar("T")
ADA = Principal(PrincipalKind.USER, "ada", "p", Role.ADMIN)
EVE = Principal(PrincipalKind.USER, "eve", "other", Role.ADMIN)
POLICY = Policy()


class House:
    """Everything in one place."""

    def __init__(self, loop: VirtualLoop, policy: Policy = POLICY) -> None:
        self.clock = VirtualClock(loop)
        self.loop = loop
        self.records = MemoryRecords()
        self.hints = Hints()
        self.logs: defaultdict[str, int] = defaultdict(int)
        self.known: dict[str, str] = {}
        self.policy = policy
        self.launch = self.new_launch()
        self._version = 0

    def new_launch(self) -> Launch:
        """A server, as after a restart: what it knew in memory is gone."""
        dice = Random(7)
        return Launch(
            self.records,
            self.clock,
            dice.randbytes,
            hints=self.hints,
            tracker=self,
            mint=self._mint,
            policy=self.policy,
        )

    async def log_end(self, task_id: str) -> int:
        return self.logs[task_id]

    async def resolve(self, project: str, reference: str) -> str:
        if reference not in self.known:
            raise NotFoundError(f"no such artifact: {reference}")
        return self.known[reference]

    async def _mint(self, run: Run, task: str) -> str:
        return f"token-of-{run.id}"

    def log_arrives(self, task: str, end: int) -> None:
        self.logs[task] = end
        self.hints.hint(log_topic(task))

    async def join(self, name: str = "a", **more: Any) -> Node:
        return await self.launch.join(info(name, **more), "p")

    async def submit(self, *roles: RolePlan, name: str = "x", key: str = "", **more: Any) -> Run:
        return await self.launch.submit(ADA, Submission(name=name, plan=plan(*roles, **more), key=key))

    async def sync(
        self, node: Node, *tasks: TaskReport, since: int = 0, wait_s: float = 0.0, **of_info: Any
    ) -> Desired:
        described = info(node.name, **of_info)
        return await self.launch.sync(node.id, Report(info=described, tasks=tasks), since, wait_s)

    async def settle(self) -> None:
        """Schedule until nothing changes any more."""
        before = -1
        while before != (before := len(self.records._events)) or not await self.launch.schedule_once():
            await self.launch.schedule_once()

    async def order(self, node: Node) -> TaskOrder:
        """The one order for a node."""
        await self.settle()
        (order,) = (await self.sync(node)).orders
        return order

    async def say(self, node: Node, order: TaskOrder, state: TaskState, **more: Any) -> Desired:
        """Report one task, and let the scheduler see it."""
        desired = await self.sync(node, TaskReport(task=order.task, epoch=order.epoch, state=state, **more))
        await self.settle()
        return desired

    async def run(self, run: Run) -> Run:
        return await self.launch.run(ADA, run.id)


def in_house(test: Callable[[House], Awaitable[None]]) -> Callable[[], None]:
    """A test as a plain function, on virtual time."""

    def plain() -> None:
        async def main(loop: VirtualLoop) -> None:
            await test(House(loop))

        run_virtually(1, main)

    plain.__name__, plain.__doc__ = test.__name__, test.__doc__
    return plain


async def soon(condition: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
    """Wait, bounded, until something holds."""
    for _ in range(int(within_s * 10)):
        if await condition():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it did not come about in time")


__all__ = ["ADA", "EVE", "POLICY", "House", "in_house", "replace", "soon"]
