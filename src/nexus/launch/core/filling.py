"""Giving nodes to runs, in the order of justice: what fits starts, and what does not learns why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from nexus.kernel.errors import NexusError
from nexus.kernel.records import altered
from nexus.launch.core.exits import Place
from nexus.launch.core.leasing import batches, lease, shape_of
from nexus.launch.core.lifecycle import Progress
from nexus.launch.core.making_room import MakingRoom
from nexus.launch.core.placement.place import in_words
from nexus.launch.core.policy import Policy
from nexus.launch.core.queue.limits import overspent, refusal
from nexus.launch.core.queue.lines import Line
from nexus.launch.core.queue.reservations import Reservation, ends_in_time, order_of
from nexus.launch.core.queue.shares import Amount, amount_of_roles, weights
from nexus.launch.core.queue.walk import Justice, Walk
from nexus.launch.core.standing import Standing
from nexus.launch.model import RUN_LIFE, TASK_LIFE, Placement, Run, RunState, Task

TURN = "waits for its turn"
QUOTA = "quota:"
NO_NODE = ("no node", "there is no node")  # how a refusal begins that more room would not change
_EXPLAIN_S = 300.0  # for so long what nodes have against one run is said of those that need the same
_EXPLAINED = 4096  # needs of which that is remembered
_BUDGET_LOOK_S = 60.0  # how often a run that waits for next month's budget is looked at

ProgressOf = Callable[[str], tuple[Progress, list[Task]]]


@dataclass(slots=True)
class Filled:
    """What became of a run's turn. The epochs of its leases are the caller's to give."""

    run: Run
    leases: list[Task] = field(default_factory=list)
    stopped: tuple[Task, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """A place, or why there is none; `lenders` are the reservations on whose room it is, until it is needed there."""

    placement: Placement
    lenders: Sequence[Reservation] = ()
    until: float | None = None


@dataclass(frozen=True, slots=True)
class _Refused:
    """What could not be had, and why not."""

    wanted: Sequence[Place]
    spent: float
    reason: str

    @property
    def is_by_quota(self) -> bool:
        return self.reason.startswith(QUOTA)


def justice_of(standing: Standing, now: float, policy: Policy) -> Justice:
    """How projects and users compare now."""
    weight = {project: standing.weight(project) for project in standing.active_projects()}
    deserved = weights(weight)
    past = {project: standing.past(project, now, policy) for project in weight}
    return Justice(
        share=lambda project: (standing.held.share(project) + past[project]) / weight[project],
        user_share=standing.held.user_share,
        deserves=lambda project: deserved[project] / weight[project],
        now=now,
        aging_s=policy.aging_s,
    )


class Filling:
    """One walk over the queue. `progress` says how a run goes on in this look; `stepped` are those looked at anyway."""

    def __init__(
        self,
        standing: Standing,
        coming: Mapping[str, str],
        now: float,
        policy: Policy,
        stepped: Sequence[str],
        progress: ProgressOf,
    ) -> None:
        self._standing, self._coming, self._now, self._policy = standing, coming, now, policy
        self._stepped, self._progress = stepped, progress
        self._room = MakingRoom(standing, now, policy, progress)
        self._told_already: set[str] = set()
        self._gone: set[str] = set()  # shapes for which all that was freed before this walk is taken
        self.more = False  # some had no turn, and could have one at once

    # ------------------------------------------------------------------ the walk

    def wants(self, run: Run, needed: Sequence[Place], tasks: Sequence[Task]) -> None:
        """The run wants these places; none: it waits for no node."""
        standing = self._standing
        if not needed or RUN_LIFE.is_final(run.state):
            standing.queue.drop(run.id)
            standing.cancel_reservation(run.id)
            return
        shape, needs = shape_of(run, needed, tasks)
        line = standing.queue.put(run, shape, needs, needed)
        if line.head == run.id:
            standing.queue.unblock(line)  # something about its head has changed: it is tried again
        standing.walk_due = True

    def walk(self) -> Iterator[Filled]:
        """Everybody's turn, as long as there may be something to have."""
        standing = self._standing
        if not (standing.walk_due or standing.nodes_changed or standing.rooms.mark() != standing.walked):
            return
        standing.walk_due = False
        self._refresh_reservations()
        self._wake()
        lines = self._lines()
        if lines:
            self._gone.clear()
            justice = justice_of(standing, self._now, self._policy)
            yield from self._turns(Walk(lines, justice, self._has_turn))
        yield from self._tell()
        standing.nodes_changed = False

    def _refresh_reservations(self) -> None:
        """What became free where room is kept is kept too: its run is tried again, and those who might borrow it."""
        standing = self._standing
        stale = sorted((one for one in standing.reservations.values() if one.stale), key=lambda one: one.order)
        for one in stale:
            one.refresh(standing.rooms)
            line = standing.queue.line_of(one.run)
            if line is not None:
                standing.queue.unblock(line)
        if stale and standing.queue.blocked:
            shadows = [shadow for one in standing.reservations.values() for shadow in one.shadows]
            with standing.rooms.as_if_ended(shadows):
                served = [(one, standing.rooms.serves(one.nodes)) for one in stale]
            for one, needs in served:
                for line in [line for need in needs for line in standing.queue.waiting(need)]:
                    if self._may_use(line, one):
                        standing.queue.unblock(line)

    def _may_use(self, line: Line, kept: Reservation) -> bool:
        """Whether room kept for another is there for the head of the line: it comes first, or is over in time."""
        run = self._standing.runs[line.head]
        return order_of(run) < kept.order or ends_in_time(run, self._now, kept.at)

    def _wake(self) -> None:
        """Blocked lines hear of room that was freed and could serve them, or of nodes if it was nodes they lacked."""
        standing, queue = self._standing, self._standing.queue
        mark, standing.walked = standing.walked, standing.rooms.mark()
        for need, nodes in standing.rooms.served(mark).items():
            standing.woken.setdefault(need, {}).update(dict.fromkeys(nodes))
        if standing.nodes_changed:
            for line in [line for line in queue.blocked.values() if line.refused.startswith(NO_NODE)]:
                queue.unblock(line)

    def _lines(self) -> list[Line]:
        """Those for which there may be room."""
        queue = self._standing.queue
        woken = {line.key: line for need in self._standing.woken for line in queue.waiting(need)}
        return [*queue.open.values(), *woken.values()]

    def _turns(self, walk: Walk) -> Iterator[Filled]:
        tries = turns = 0
        standing, queue = self._standing, self._standing.queue
        hopeless: dict[tuple[str, str], str] = {}  # what no run that needs the same can have in this walk
        while (turn := walk.next()) is not None:
            if tries >= self._policy.tries or turns >= self._policy.steps:
                standing.walk_due = True
                self.more = turns >= self._policy.steps
                return
            line, run_id = turn
            queue.unblock(line)
            alike = (line.key.project, line.key.shape)
            if alike in hopeless and not standing.reservations.get(run_id):  # another user's, tried just now
                queue.block(line)
                line.refused = line.refused or hopeless[alike]
                continue
            filled, goes_on = self._turn(line, run_id)
            if line.is_blocked:
                hopeless[alike] = line.refused
            if filled is not None:
                yield filled
            for run, tasks in self._room.taken():
                yield Filled(run, [], tasks)
            if goes_on:
                turns += 1
                walk.go_on(line)
            else:
                tries += 1
        standing.woken.clear()

    def _has_turn(self, line: Line) -> bool:
        """Whether there may be room for it: what was freed for a blocked line, those before it may have taken."""
        if not line.is_blocked:
            return True
        if line.key.shape not in self._gone and self._is_served(line):
            return True
        self._gone.add(line.key.shape)
        return False

    def _is_served(self, line: Line) -> bool:
        """Whether room that was freed for what the line needs is still there."""
        woken, rooms = self._standing.woken, self._standing.rooms
        for need in line.needs:
            nodes = woken.get(need, {})
            for node_id in list(nodes):
                if rooms.fits(need, node_id):
                    return True
                del nodes[node_id]
            woken.pop(need, None)
        return False

    # ------------------------------------------------------------------ one turn

    def _turn(self, line: Line, run_id: str) -> tuple[Filled | None, bool]:
        """What a run gets, and whether those behind it in its line have their turn too."""
        standing = self._standing
        try:
            progress, tasks = self._progress(run_id)
        except NexusError:  # who stepped it has said so
            return None, True
        run = progress.run
        if not progress.needed or self._room.has_evicted(run_id):
            return None, True
        leases, run, refused = self._fill(run, progress.needed, tasks)
        told = self._told(run, len(leases), refused, len(progress.needed))
        self._told_already.add(run_id)
        if leases:
            self._room.gave(run_id)
            if refused is None:  # it has all it wants; should this not be committed, it is looked at again
                standing.queue.drop(run_id)
        if refused is not None:
            line.refused = refused.reason
            if not leases and not refused.is_by_quota:
                standing.queue.block(line)
        return (Filled(told, leases) if leases or told != progress.run else None), refused is None

    def _fill(
        self, run: Run, needed: Sequence[Place], tasks: Sequence[Task]
    ) -> tuple[list[Task], Run, _Refused | None]:
        """As many of the needed places as there is room for: a gang all at once, others each."""
        leases: list[Task] = []
        refused: _Refused | None = None
        hopeless: set[str] = set()
        for wanted in batches(run, needed, tasks):
            if len(wanted) == 1 and wanted[0][0] in hopeless:
                continue
            spent = sum(task.price for task in (*tasks, *leases) if not TASK_LIFE.is_final(task.state))
            found = self._find(run, wanted, spent)
            if not found.placement.fits:
                refused = refused or _Refused(wanted, spent, found.placement.reason)
                hopeless.add(wanted[0][0])
                continue
            leases += self._lease(run, found)
            run = altered(run, until=found.until) if found.until is not None else run
        return leases, run, refused

    def _find(self, run: Run, wanted: Sequence[Place], spent: float) -> _Found:
        """A place for all of `wanted`, or why not; then room is made for them, or kept."""
        standing, rooms = self._standing, self._standing.rooms
        capped = self._capped(run, amount_of_roles(run.plan.role(name) for name, _ in wanted))
        if capped:
            return _Found(Placement(reason=capped))

        def place() -> Placement:
            return rooms.place(run.plan, wanted, spent=spent, policy=self._policy, project=run.project)

        own = standing.reservations.get(run.id)
        lenders, until = self._room.below(run), None
        shadows = [shadow for one in (*lenders, *([own] if own is not None else [])) for shadow in one.shadows]
        with rooms.as_if_ended(shadows):
            placement = place()
        if not placement.fits:
            borrowed, others = self._room.borrow(run, place)
            if borrowed is not None:
                placement, lenders = borrowed, [*lenders, *others]
                until = min((one.at for one in others if one.at is not None), default=None)
        if not placement.fits:
            with rooms.as_if_ended(shadows):
                keep = self._room.make(run, wanted, place)
            if keep is None:
                standing.cancel_reservation(run.id)
            elif keep is not own:
                standing.reserve(keep)
            return _Found(placement)
        dear = self._capped(run, Amount(price=placement.price))
        used = {one.node for one in placement.assignments}
        touched = [one for one in lenders if one.nodes & used]
        return _Found(Placement(reason=dear)) if dear else _Found(placement, touched, until)

    def _capped(self, run: Run, more: Amount) -> str:
        """Why the project's quota does not allow this much more; empty when it does."""
        standing, project = self._standing, run.project
        quota, held = standing.quotas.get(project), standing.held.project(project)
        spent = overspent(quota, standing.usages.get(project), held, self._now)
        if spent:
            standing.look_again(run.id, self._now + _BUDGET_LOOK_S)
        return spent or refusal(quota, held, more)

    def _lease(self, run: Run, found: _Found) -> list[Task]:
        """The tasks of a placement, which hold their room from now on."""
        standing = self._standing
        standing.cancel_reservation(run.id)
        tries = standing.books[run.id].tries
        leases = [
            lease(run, one, tries.get((one.role, one.index), 0), standing.nodes[one.node], self._now, self._policy)
            for one in found.placement.assignments
        ]
        for one in found.lenders:
            one.withdraw(standing.rooms)
        for task in leases:
            standing.hold(task, run.user)
        for one in found.lenders:
            one.refresh(standing.rooms)
        return leases

    # ------------------------------------------------------------------ words

    def _told(self, run: Run, leased: int, refused: _Refused | None, needed: int) -> Run:
        """The run with why it waits, in words."""
        if leased and run.state is RunState.QUEUED:
            run = altered(run, state=RUN_LIFE.move(run.state, RunState.STARTING))
        if refused is None:
            return altered(run, reason="", rejections=())
        told = self._waits(run, refused.reason, needed - leased, ())
        if refused.is_by_quota or (told is run and not self._standing.nodes_changed):
            return told
        return altered(told, rejections=self._rejections(run, refused))

    def _rejections(self, run: Run, refused: _Refused) -> tuple[str, ...]:
        """What nodes have against it: asked when the reason is news, and once a while for all that need the same."""
        standing = self._standing
        line = standing.queue.line_of(run.id)
        key = (run.project, line.key.shape if line is not None else run.id)
        made, known = standing.explained.get(key, (-inf, ()))
        if self._now < made + _EXPLAIN_S and not standing.nodes_changed:
            return known
        found = standing.rooms.place(
            run.plan,
            refused.wanted,
            spent=refused.spent,
            policy=self._policy,
            project=run.project,
            explain=True,
        ).rejections
        nodes = standing.nodes
        words = in_words(found, {one.node: nodes[one.node].name for one in found if one.node in nodes})
        if len(standing.explained) >= _EXPLAINED:
            standing.explained.clear()
        standing.explained[key] = self._now, words
        return words

    def _waits(self, run: Run, reason: str, missing: int, rejections: tuple[str, ...]) -> Run:
        """What is said already is not said again: how much is free here and there changes all the time."""
        reason = self._coming.get(run.id) or reason
        waiting = reason if run.state is RunState.QUEUED else f"{missing} of its tasks wait: {reason}"
        return run if run.reason == waiting else altered(run, reason=waiting, rejections=rejections)

    def _tell(self) -> Iterator[Filled]:
        """Those who had no turn learn why, once: what is true of the head of their line is true of them."""
        queue = self._standing.queue
        for run_id in list(self._stepped):
            line = queue.line_of(run_id)
            if line is None or run_id in self._told_already or self._room.has_evicted(run_id):
                continue
            run = self._progress(run_id)[0].run
            told = self._waits(run, line.refused or TURN, len(queue.wanted[run_id]), run.rejections)
            if told != run:
                yield Filled(told)
