"""One client's turn, the same in simulation and on a silo: enter, train, say what it cost."""

from __future__ import annotations

from nexus.federate.core.algorithm import Algorithm, State, Step, Vectors
from nexus.federate.core.algorithms import build
from nexus.federate.core.task import Task
from nexus.federate.core.trainer import TorchTrainer
from nexus.federate.model import Settings, Turn
from nexus.kernel.clock import Clock


class Worker:
    """A model, its trainer and the client's half of the algorithm."""

    def __init__(self, task: Task, settings: Settings, clock: Clock) -> None:
        self.trainer = TorchTrainer(task, settings.seed, settings.local)
        self.algorithm: Algorithm = build(settings.algorithm, settings.options)
        self._clients = task.clients
        self._clock = clock

    def begin(self) -> State:
        """The state before the first round: the model as the task makes it under the seed."""
        trainer = self.trainer
        return self.algorithm.begin(trainer.initial, trainable=trainer.trainable, clients=self._clients)

    def turn(self, number: int, client: int, plan: Vectors, kept: Vectors) -> tuple[Turn, Step]:
        """Train `client` in round `number`. The step's vectors are good until the next turn. Raises JobError."""
        began = self._clock.monotonic()
        self.trainer.enter(client, number)
        step = self.algorithm.local(plan, self.trainer, kept)
        down = sum(vector.nbytes for vector in plan.values())
        up = sum(vector.nbytes for vector in step.send.values())
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
