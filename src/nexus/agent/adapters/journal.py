"""The agent's memory: one file a task, replaced as a whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import msgspec

from nexus.agent.adapters.home import Home
from nexus.agent.model import LocalTask
from nexus.launch.core.orders import without_secrets
from nexus.launch.protocol import TaskOrder

_DRAFT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class FileJournal:
    """Implements `ports.Journal`. A record that cannot be read is put aside, and the owner is told.

    Secrets are not remembered: a restarted agent starts nothing before the server has said again what it should.
    """

    def __init__(self, home: Home, note: Callable[[str], None] = lambda _: None) -> None:
        self._home = home
        self._note = note

    def load(self) -> list[LocalTask]:
        found = []
        for record in sorted(self._home.tasks.glob("*/task.json")):
            try:
                found.append(msgspec.json.decode(record.read_bytes(), type=LocalTask))
            except (msgspec.DecodeError, OSError) as error:
                self._note(f"{record} cannot be read ({error}); it is kept as task.json.broken")
                record.replace(record.with_name("task.json.broken"))
        return found

    def save(self, task: LocalTask) -> None:
        home = self._home.task(task.order)
        draft = f"{home.record}.new"
        try:
            fd = os.open(draft, _DRAFT, 0o600)
        except FileNotFoundError:
            home.make()
            fd = os.open(draft, _DRAFT, 0o600)
        try:
            content = memoryview(msgspec.json.encode(replace(task, order=without_secrets(task.order))))
            while content:
                content = content[os.write(fd, content) :]
        finally:
            os.close(fd)
        os.replace(draft, home.record)  # noqa: PTH105 (a task's life writes it often)

    def drop(self, order: TaskOrder) -> None:
        self._home.task(order).record.unlink(missing_ok=True)
