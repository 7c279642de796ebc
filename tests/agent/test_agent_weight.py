"""The agent stays small: what it imports, and what it weighs while it waits."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.conftest import SRC, agent_process
from tests.agent.server import Server, is_final, until

HEAVY = {
    *("httpx", "pydantic", "sqlalchemy", "rich", "fastapi", "starlette", "jinja2", "click", "yaml", "structlog"),
    *("numpy", "torch", "uvicorn", "obstore", "anyio", "requests", "zipfile"),
}


def _modules(program: str, *flags: str) -> set[str]:
    code = f"import sys\n{program}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, *flags, "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_agent_imports_nothing_heavy() -> None:
    assert not HEAVY & _modules("import nexus.agent.__main__")


def test_the_shim_imports_little() -> None:
    folder = SRC / "nexus" / "agent" / "adapters"
    loaded = _modules(f"sys.path.append({str(folder)!r})\nimport shim.nursery", "-I", "-S")
    assert not loaded & {"json", "subprocess", "pathlib", "typing", "dataclasses", "asyncio", "logging", "threading"}
    assert not {name for name in loaded if name.startswith("nexus")}


@pytest.mark.anyio
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
async def test_an_agent_that_waits_is_light_and_silent_and_keeps_nothing(server: Server, home: Path, order) -> None:
    server.heartbeat_s = 10.0
    async with agent_process(server, home) as agent:
        await until(lambda: server.syncs > 0)
        server.want(*(order("echo hi", f"task_{number}") for number in range(20)))
        await until(lambda: all(is_final(server, task) for task in server.orders), 30)
        await until(lambda: not any((home / "tasks").iterdir()))
        files, memory = _open_files(agent.pid), _resident_b(agent.pid)
        server.want(*(order("echo hi", f"again_{number}") for number in range(40)))
        await until(lambda: all(is_final(server, task) for task in server.orders), 30)
        await until(lambda: not any((home / "tasks").iterdir()))
        await asyncio.sleep(0.3)
        assert _open_files(agent.pid) <= files + 1  # one kept connection more or less
        assert _resident_b(agent.pid) - memory < 2_000_000
        assert _resident_b(agent.pid) < 35_000_000
        assert len(_children(agent.pid).split()) <= 1  # the nursery
        used, asked = _cpu_ticks(agent.pid), server.syncs
        await asyncio.sleep(1.0)
        assert _cpu_ticks(agent.pid) - used <= 1
        assert server.syncs == asked


def _resident_b(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split("Rss:")[1].split()[0]) * 1024


def _open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()


def _cpu_ticks(pid: int) -> int:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])
