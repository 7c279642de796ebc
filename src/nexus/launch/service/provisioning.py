"""The loop around machines: load, decide, apply, and have providers do it.

A machine's record is stored before its provider hears of it, and every call may be repeated, so a server that is
killed at any line neither leaks a machine nor starts one twice: the next one goes on from the records. Calls run
beside the loop, each with its time limit, one at a time for a machine: a slow provider holds up nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from nexus.kernel.errors import ConflictError, NexusError, UnavailableError
from nexus.kernel.ids import to_name
from nexus.kernel.records import Drop
from nexus.launch.core.demand import Offered
from nexus.launch.core.events import machine_moved, node_event
from nexus.launch.core.machines import STARTING, begun, doubtful, ended, failed, is_node_of, upkeep_of
from nexus.launch.core.provisioning import Supply, provision
from nexus.launch.model import (
    FLEETS,
    MACHINE_LIFE,
    MACHINES,
    NODES,
    TASK_LIFE,
    TASKS,
    UPKEEPS,
    Fleet,
    Machine,
    MachineState,
    Node,
    Task,
)
from nexus.launch.ports import Machinery, MachineSighting, Provider
from nexus.launch.protocol import MACHINE_LABEL, Ticket
from nexus.launch.service.context import EVERYTHING, PROVISION, SCHEDULE, Context

log = structlog.get_logger()
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0  # between two tries of a call that a provider did not answer
_AGAIN_S = 10.0  # offers are asked again this soon after a machine is over, or while something has no place


class Provisioning:
    """Starts machines for what has no node, and ends those that nothing needs."""

    def __init__(self, context: Context, machinery: Machinery) -> None:
        self._context = context
        self.providers = machinery.providers
        self._tokens = machinery.tokens
        self._url = machinery.url
        self.offered: dict[str, Offered] = {}  # by fleet
        self.troubles: dict[str, str] = {}  # fleet -> why its provider does not answer
        self._sightings: dict[str, MachineSighting] = {}
        self._since: dict[str, float] = {}  # machine that is starting -> since when, on the monotonic clock
        self._look_at: dict[str, float] = {}  # fleet -> when its machines are looked at again
        self._past: list[Machine] | None = None  # machines that are over; None: to be read again
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[str, tuple[float, float]] = {}  # call -> not before, and the pause that this was

    async def run_forever(self) -> None:
        """Provision until cancelled. A failed look is logged, and taken again at the next tick."""
        context = self._context
        try:
            while True:
                woken = context.hints.listen(PROVISION)
                try:
                    clean = await self.provision_once()
                except Exception as error:
                    log.exception("launch.provision_failed", error=str(error))
                    clean = True
                if clean:
                    await context.hints.until(woken, context.policy.tick_s, PROVISION)
                else:
                    await context.clock.sleep(0)
        finally:
            calls = list(self._calls.values())
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def provision_once(self) -> bool:
        """One look at the machines, applied; False when a conflict says to look again at once."""
        context, records = self._context, self._context.records
        fleets = await records.find(FLEETS, limit=EVERYTHING)
        machines = await self._machines()
        if not fleets and not machines:
            context.shortage.coming = {}
            return True
        nodes = await records.find(NODES, limit=EVERYTHING)
        live = {"state": [str(state) for state in TASK_LIFE.live]}
        held = await records.find(TASKS, live, limit=EVERYTHING)
        self._remember(fleets, machines)
        supply = Supply(
            # Last: an older look of the scheduler beside newer records would ask for what was just given.
            unmet=context.shortage.unmet,
            nodes=nodes,
            held=held,
            fleets=fleets,
            machines=machines,
            offered=self.offered,
            troubles=self.troubles,
            sightings=self._believed(),
            starting_s={machine: context.clock.monotonic() - at for machine, at in self._since.items()},
        )
        decided = provision(supply, context.clock.now(), context.policy, lambda: context.new_id("mach"))
        self._tell(decided.coming)
        clean = True
        for group in decided.groups:
            clean &= await self._commit(*group.changes, events=group.events)
        for node in decided.over:
            clean &= await self._forget_node(node)
        names = {fleet.id: fleet.name for fleet in fleets}
        goes = {fleet.id for fleet in decided.fleets}  # with it, the name by which its machines are on the bill
        forgotten = [*decided.machines, *(one for one in machines if one.fleet in goes and one.ended is not None)]
        for machine in {one.id: one for one in forgotten}.values():
            kept = upkeep_of(machine, names.get(machine.fleet, machine.fleet))
            clean &= await self._commit(Drop(MACHINES, machine), *([(UPKEEPS, kept)] if kept else []))
        for fleet in decided.fleets:
            clean &= await self._commit(Drop(FLEETS, fleet))
        self._call_providers(fleets, machines, nodes, held)
        if decided.groups:
            context.hints.hint(PROVISION)  # what was decided now is done at the next look, which comes at once
        return clean

    async def _machines(self) -> list[Machine]:
        """Those that live, and those that are over, which change only by us and are read when they have."""
        if self._past is None:
            over = {"state": [str(state) for state in MACHINE_LIFE.final]}
            self._past = await self._context.records.find(MACHINES, over, limit=EVERYTHING)
        known = {machine.id for machine in self._past}
        alive = {"state": [str(state) for state in MACHINE_LIFE.live]}
        live = await self._context.records.find(MACHINES, alive, limit=EVERYTHING)
        return [*self._past, *(machine for machine in live if machine.id not in known)]

    def _remember(self, fleets: Sequence[Fleet], machines: Sequence[Machine]) -> None:
        """Keep only what still matters, and since when each machine has been starting."""
        known = {fleet.id for fleet in fleets}
        live = {machine.id for machine in machines if machine.ended is None}
        for book in (self.offered, self.troubles, self._look_at):
            for fleet in [fleet for fleet in book if fleet not in known]:
                del book[fleet]
        for machine in [machine for machine in self._sightings if machine not in live]:
            del self._sightings[machine]
        now, starting = self._context.clock.monotonic(), {one.id for one in machines if one.state in STARTING}
        self._since = {machine: self._since.get(machine, now) for machine in sorted(starting)}
        for machine_id in starting:
            seen = self._sightings.get(machine_id)
            if seen is not None and seen.queued:
                self._since[machine_id] = now
        self._pauses = {
            key: pause for key, pause in self._pauses.items() if key in live or key.partition(":")[2] in known
        }

    def doing(self, machines: Iterable[Machine]) -> dict[str, str]:
        """What providers said of these machines last."""
        seen = {machine.id: self._sightings[machine.id] for machine in machines if machine.id in self._sightings}
        return {machine: sighting.detail for machine, sighting in seen.items() if sighting.detail}

    def _believed(self) -> dict[str, MachineSighting]:
        """What was seen, less that a machine is gone while a call that may still start it is under way."""
        return {key: seen for key, seen in self._sightings.items() if seen.alive or key not in self._calls}

    def _tell(self, coming: Mapping[str, str]) -> None:
        shortage = self._context.shortage
        if shortage.coming != coming:
            shortage.coming = coming
            self._context.hints.hint(SCHEDULE)

    async def _commit(self, *changes: Any, events: Sequence[Any] = ()) -> bool:
        try:
            await self._context.commit(*changes, events=events)
        except ConflictError:
            return False
        finally:
            self._past = None
        return True

    async def _forget_node(self, node: Node) -> bool:
        """A node whose machine is over: its agent, should it still run somewhere, is refused and ends."""
        removed = node_event(node, "removed", self._context.clock.now(), "nexus")
        if not await self._commit(Drop(NODES, node), events=[removed]):
            return False
        await self._tokens.revoke(node.id)
        return True

    # ------------------------------------------------------------------ what providers are asked

    def _call_providers(
        self, fleets: Sequence[Fleet], machines: Sequence[Machine], nodes: Sequence[Node], held: Sequence[Task]
    ) -> None:
        by_id = {fleet.id: fleet for fleet in fleets}
        holding = {task.node for task in held}
        mine = [node for node in nodes if node.id in holding]
        busy = {machine.id for machine in machines if any(is_node_of(node, machine) for node in mine)}
        for machine in machines:
            fleet = by_id.get(machine.fleet)
            if fleet is None:
                continue
            if machine.state is MachineState.WANTED:
                self._call(machine.id, self._start, fleet, machine)
            elif machine.state is MachineState.STOPPING and machine.id not in busy:
                self._call(machine.id, self._stop, fleet, machine)
        for fleet in fleets:
            its = [machine for machine in machines if machine.fleet == fleet.id]
            if self._wants_offers(fleet, its):
                self._call(f"offers:{fleet.id}", self.ask, fleet)
            taken_on = [one for one in its if one.state in {MachineState.STARTING, MachineState.UP}]
            if taken_on and self._context.clock.monotonic() >= self._look_at.get(fleet.id, 0.0):
                self._call(f"look:{fleet.id}", self._look, fleet, taken_on)

    def _wants_offers(self, fleet: Fleet, machines: Sequence[Machine]) -> bool:
        if fleet.paused or fleet.ending:
            return False
        known = self.offered.get(fleet.id)
        if known is None:
            return True
        age = self._context.clock.now() - known.at
        stale = any(machine.ended is not None and machine.ended >= known.at for machine in machines)
        limit_s = _AGAIN_S if stale or self._context.shortage.unmet else self._context.policy.offers_s
        return age >= min(limit_s, self._context.policy.offers_s)

    def _call(self, key: str, what: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Have it done beside the loop, unless it is being done, or failed a moment ago."""
        not_before, _ = self._pauses.get(key, (0.0, 0.0))
        if key in self._calls or self._context.clock.monotonic() < not_before:
            return
        call = asyncio.create_task(self._guarded(key, what, *arguments), name=f"provider {key}")
        self._calls[key] = call
        call.add_done_callback(lambda _: self._done(key))

    def _done(self, key: str) -> None:
        self._calls.pop(key, None)
        self._context.hints.hint(PROVISION)

    async def _guarded(self, key: str, what: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        try:
            await what(*arguments)
        except UnavailableError as error:
            _, last = self._pauses.get(key, (0.0, 0.0))
            pause = min(last * 2, _LONGEST_PAUSE_S) if last else _PAUSE_S
            self._pauses[key] = (self._context.clock.monotonic() + pause, pause)
            log.info("launch.provider_unavailable", call=key, error=error.message, again_in_s=pause)
        except Exception as error:
            self._pauses[key] = (self._context.clock.monotonic() + _LONGEST_PAUSE_S, _LONGEST_PAUSE_S)
            log.exception("launch.provider_broken", call=key, error=str(error))
        else:
            self._pauses.pop(key, None)

    def _provider(self, fleet: Fleet) -> Provider:
        return self.providers.get(fleet.provider)

    async def ask(self, fleet: Fleet) -> None:
        """Ask a fleet's provider what it offers now. Raises UnavailableError."""
        at = self._context.clock.now()
        try:
            async with asyncio.timeout(self._context.policy.call_s):
                offers = await self._provider(fleet).offers(fleet)
        except (NexusError, TimeoutError) as error:
            self.offered.pop(fleet.id, None)
            self.troubles[fleet.id] = _words(error)
            raise UnavailableError(f"{fleet.name}: {_words(error)}", hint=getattr(error, "hint", "")) from error
        self.offered[fleet.id] = Offered(tuple(replace(offer, fleet=fleet.id) for offer in offers), at)
        self.troubles.pop(fleet.id, None)

    async def _start(self, fleet: Fleet, machine: Machine) -> None:
        context = self._context
        ticket = self._ticket(fleet, machine, await self._tokens.issue(machine))
        try:
            async with asyncio.timeout(context.policy.call_s):
                handle = await self._provider(fleet).start(fleet, machine, ticket)
        except (UnavailableError, TimeoutError) as error:
            self._sightings[machine.id] = MachineSighting(alive=True, detail=_words(error))
            raise UnavailableError(_words(error)) from error
        except NexusError as error:
            why = _words(error)
            await self._store(machine.id, lambda known: failed(known, why, context.clock.now()))
        except Exception as error:
            log.exception("launch.start_broken", machine=machine.id, error=str(error))
            why = f"the provider broke: {error}"
            await self._store(machine.id, lambda known: doubtful(known, why))
        else:
            self._sightings.pop(machine.id, None)
            await self._store(machine.id, lambda known: begun(known, handle))

    def _ticket(self, fleet: Fleet, machine: Machine, token: str) -> Ticket:
        offer = machine.offer
        return Ticket(
            url=self._url,
            token=token,
            name=to_name(f"{fleet.name}-{offer.machine}"),
            provider=fleet.provider,
            labels={**offer.labels, "fleet": fleet.name, MACHINE_LABEL: machine.id},
            price=offer.price,
            spot=offer.spot,
            region=offer.region,
            network=offer.network,
        )

    async def _stop(self, fleet: Fleet, machine: Machine) -> None:
        try:
            async with asyncio.timeout(self._context.policy.call_s):
                await self._provider(fleet).stop(fleet, machine)
        except (NexusError, TimeoutError) as error:
            self._sightings[machine.id] = MachineSighting(alive=True, detail=f"cannot be ended yet: {_words(error)}")
            raise UnavailableError(_words(error)) from error
        await self._store(machine.id, lambda known: ended(known, self._context.clock.now()))

    async def _look(self, fleet: Fleet, machines: Sequence[Machine]) -> None:
        self._look_at[fleet.id] = self._context.clock.monotonic() + self._context.policy.look_s
        try:
            async with asyncio.timeout(self._context.policy.call_s):
                seen = await self._provider(fleet).look(fleet, machines)
        except (NexusError, TimeoutError) as error:
            raise UnavailableError(_words(error)) from error
        for machine in machines:
            self._sightings[machine.id] = seen.get(machine.id, MachineSighting(alive=False, detail="it is gone"))

    async def _store(self, machine_id: str, change: Callable[[Machine], Machine]) -> None:
        """Put what a provider answered into the machine's record, whatever that has become meanwhile."""

        async def step() -> None:
            known = await self._context.records.get(MACHINES, machine_id)
            if known is None or MACHINE_LIFE.is_final(known.state):
                return
            after = change(known)
            events = [machine_moved(after, self._context.clock.now())] if after.state is not known.state else []
            if after != known:
                self._past = None
                await self._context.commit((MACHINES, after), events=events)

        await self._context.retry(step)


def _words(error: BaseException) -> str:
    """What a provider's error says, with what to do about it."""
    if not isinstance(error, NexusError):
        return "its provider does not answer in time"
    return f"{error.message} ({error.hint})" if error.hint else error.message
