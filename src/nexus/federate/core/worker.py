"""One client's turn, the same in simulation and on a silo: enter, train, say what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from nexus.federate.core.algorithm import Algorithm, State, Step, Vectors
from nexus.federate.core.composition import compose
from nexus.federate.core.judge import TorchJudge, succeeds
from nexus.federate.core.packing import Packing
from nexus.federate.core.task import Task
from nexus.federate.core.total import Array
from nexus.federate.core.trainer import TorchTrainer
from nexus.federate.model import Settings, Turn
from nexus.kernel.clock import Clock


class Worker:
    """A model, its trainer and the client's half of the algorithm."""

    def __init__(self, task: Task, settings: Settings, clock: Clock, secret: Callable[[], bytes] | None = None) -> None:
        self.trainer = TorchTrainer(task, settings.seed, settings.local)
        self.settings = settings
        self.composition = replace(compose(settings, secret), judge=TorchJudge(task, self.trainer))
        self.algorithm: Algorithm = self.composition.algorithm
        self._packing: dict[str, Packing] = {}
        self._task = task
        self._clients = task.clients
        self._clock = clock

    def begin(self) -> State:
        """The state before the first round: the model as the task makes it under the seed."""
        trainer = self.trainer
        state = self.composition.begin(trainer.initial, trainable=trainer.trainable, clients=self._clients)
        self._packing = self.algorithm.packing(state)
        return state

    def evaluate(self, model: Array) -> dict[str, float]:
        """Loss and metrics on the test set, and how far an attack succeeds that plants something."""
        metrics = self.trainer.evaluate(model)
        if self.composition.attack is not None:
            metrics |= succeeds(self.composition.attack, self._task, self.trainer, model)
        return metrics

    def expect(self, clients: Sequence[int], number: int) -> None:
        """A hint: these clients' turns come next, in this order."""
        self.trainer.expect(clients, number)

    def turn(self, number: int, client: int, plan: Vectors, kept: Vectors) -> tuple[Turn, Step]:
        """Train `client` in round `number`. The step's vectors are good until the next turn. Raises JobError."""
        began = self._clock.monotonic()
        self.trainer.enter(client, number)
        step = self.algorithm.local(plan, self.trainer, kept)
        down = sum(vector.nbytes for vector in plan.values())
        up = sum(self._size_b(name, vector) for name, vector in step.send.items())
        seconds = self._clock.monotonic() - began
        turn = Turn(
            client=client,
            samples=self.trainer.samples,
            seconds=seconds,
            bytes_down=down,
            bytes_up=up,
            loss=step.loss,
        )
        return turn, step

    def _size_b(self, name: str, vector: Array) -> int:
        packing = self._packing.get(name)
        return packing.size_b(vector) if packing else vector.nbytes
