"""`python -m nexus.agent HOME`: the agent's process, without the command line's weight."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from nexus.agent.adapters.home import Home
from nexus.agent.wire import Options, admitted, open_agent
from nexus.kernel.errors import ConflictError, NexusError

_HOLDS = 10  # tries


class Notes:
    """Lines for the machine's owner on standard error; the same line only once in a row."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, text: str) -> None:
        if text != self._last:
            self._last = text
            sys.stderr.write(f"nexus agent: {text}\n")
            sys.stderr.flush()


async def work(home: Path) -> None:
    """Run the agent until TERM or INT."""
    member = await admitted(home)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    note = Notes()
    doubt_s = float(os.environ.get("NEXUS_DOUBT_S", "0"))
    async with open_agent(home, member, Options(note=note, doubt_s=doubt_s)) as agent:
        note(f"{member.name} works for {member.url}")
        await agent.run(stop)


def _hold(home: Path) -> None:
    """Be seen as this home's agent until this process ends, even while it waits to be let in. Raises ConflictError."""
    for attempt in range(_HOLDS):
        try:
            Home(home).lock("process")
        except ConflictError:
            if attempt == _HOLDS - 1:
                raise
            time.sleep(0.05)  # who looks whether it is held, holds it for a moment
        else:
            return


def main(args: list[str]) -> int:
    """The exit code: 0, or that of the error."""
    home = Path(args[0])
    try:
        if home.exists():
            _hold(home)
        asyncio.run(work(home))
    except NexusError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"  → {error.hint}\n" if error.hint else ""))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
