"""The server looks at a model itself: on samples that no client has touched, and on those of an attacker."""

from __future__ import annotations

from nexus.federate.core.attack import Attack
from nexus.federate.core.task import Pair, Task
from nexus.federate.core.total import Array
from nexus.federate.core.trainer import TorchTrainer
from nexus.kernel.errors import UsageError

_NOBODY = -1  # the index under which the server trains: no client has it


class TorchJudge:
    """Implements `Judge` with the worker's own trainer. Not while a client is in it."""

    def __init__(self, task: Task, trainer: TorchTrainer) -> None:
        self._task = task
        self._trainer = trainer

    def score(self, model: Array) -> dict[str, float]:
        """Loss and metrics on the root samples. Raises UsageError."""
        return self._trainer.evaluate(model, self._root())

    def fit(self, model: Array, number: int) -> Array:
        """A copy of what one turn on the root samples changes. Raises UsageError."""
        self._trainer.enter_with(_NOBODY, number, *self._root())
        delta: Array = self._trainer.fit(model).delta
        return delta.copy()

    def _root(self) -> Pair:
        if self._task.root is None:
            raise UsageError(
                "this looks at models on the server's own samples, and the task has none",
                hint="Give some: Task(..., root=(x, y)); a hundred are enough, neither a client's nor in `test`.",
            )
        return self._task.root


def succeeds(attack: Attack, task: Task, trainer: TorchTrainer, model: Array) -> dict[str, float]:
    """`attack_success`: the part of the attacker's own test samples that the model takes as the attacker wants."""
    if task.test is None:
        return {}
    wanted = attack.probe(*trainer.test())
    if wanted is None:
        return {}
    return {"attack_success": trainer.share_right(model, *wanted)}
