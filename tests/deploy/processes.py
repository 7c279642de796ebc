"""Runs of replicas as real processes, for Deploy's tests: what launch and an agent do, without either."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nexus.infra.hints import Hints
from nexus.kernel.errors import NotFoundError
from nexus.launch.model import Cause, Run, RunState, Submission, Task, TaskState
from tests.ports import free_port


@dataclass
class Started:
    """One task and its process."""

    task: Task
    process: subprocess.Popen[bytes]
    stopping: bool = False


@dataclass
class LocalJobs:
    """Implements `deploy.ports.Jobs`. `models` maps a pinned reference to where its files lie."""

    workspace: Path
    models: dict[str, Path]
    log: Path
    hints: Hints = field(default_factory=Hints)  # told of every change, as launch does
    runs: dict[str, Run] = field(default_factory=dict)
    started: list[Started] = field(default_factory=list)
    attempts: dict[tuple[str, int], int] = field(default_factory=dict)

    async def submit(self, submission: Submission, *, project: str, user: str) -> Run:
        run_id = "run_" + submission.key.replace(":", "_")
        if run_id not in self.runs:
            self.runs[run_id] = Run(
                id=run_id, project=project, created=0.0, name=submission.name, kind="deploy", plan=submission.plan,
                state=RunState.RUNNING, user=user, scale={"replica": submission.plan.role("replica").count},
            )  # fmt: skip
            self._settle()
        return self.runs[run_id]

    async def scale(self, run_id: str, role: str, count: int) -> Run:
        self.runs[run_id] = replace(await self.run(run_id), scale={role: count})
        self._settle()
        return self.runs[run_id]

    async def stop(self, run_id: str) -> Run:
        self.runs[run_id] = replace(await self.run(run_id), scale={"replica": 0}, state=RunState.STOPPED)
        self._settle()
        return self.runs[run_id]

    async def run(self, run_id: str) -> Run:
        if run_id not in self.runs:
            raise NotFoundError("no such run")
        return self.runs[run_id]

    async def tasks(self, run_id: str) -> Sequence[Task]:
        return [one.task for one in self.started if one.task.run == run_id]

    # ------------------------------------------------------------------ the agent's part

    async def tick(self) -> None:
        """Look at every process; start what is missing, stop what is too much."""
        before = [one.task for one in self.started]
        for one in self.started:
            code = one.process.poll()
            if code is not None and one.task.state in {TaskState.RUNNING, TaskState.STOPPING}:
                ended = TaskState.STOPPED if one.stopping else TaskState.FAILED
                cause = Cause.STOPPED if one.stopping else Cause.EXIT
                one.task = replace(
                    one.task, state=ended, cause=cause, healthy=False, exit_code=code, detail=f"exit {code}"
                )
            elif code is None and not one.task.healthy and not one.stopping:
                one.task = replace(one.task, healthy=await self._answers(one.task))
        self._settle()
        if [one.task for one in self.started] != before:
            self.hints.hint("launch.schedule")

    def _settle(self) -> None:
        for run in self.runs.values():
            wanted = run.scale["replica"]
            alive = {
                one.task.index: one for one in self.started if one.task.run == run.id and one.process.poll() is None
            }
            for index in range(wanted):
                if index not in alive:
                    self.started.append(self._start(run, index))
            for index, one in alive.items():
                if index >= wanted and not one.stopping:
                    one.stopping = True
                    one.task = replace(one.task, state=TaskState.STOPPING)
                    one.process.send_signal(signal.SIGTERM)

    def _start(self, run: Run, index: int) -> Started:
        attempt = self.attempts[run.id, index] = self.attempts.get((run.id, index), -1) + 1
        port = free_port()
        role = run.plan.role("replica")
        env = {**os.environ, **role.env, "NEXUS_PORT_HTTP": str(port), "OMP_NUM_THREADS": "1"}
        reference = run.plan.inputs.get("model")
        if reference:
            env["NEXUS_INPUT_MODEL"] = str(self.models[reference])
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *role.argv[1:]], env=env, cwd=self.workspace, stdout=log, stderr=log
            )
        task = Task(
            id=f"{run.id}.{index}.{attempt}", project=run.project, created=float(len(self.started)), run=run.id,
            role="replica", index=index, attempt=attempt, node="here", epoch=attempt, state=TaskState.RUNNING,
            address="127.0.0.1", ports={"http": port},
        )  # fmt: skip
        return Started(task, process)

    async def _answers(self, task: Task) -> bool:
        health = self.runs[task.run].plan.role("replica").health
        assert health
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", task.ports["http"])
            writer.write(f"GET {health.path} HTTP/1.0\r\n\r\n".encode())
            line = await reader.readline()
            writer.close()
        except OSError:
            return False
        return b" 200 " in line

    def kill_everything(self) -> None:
        for one in self.started:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()
