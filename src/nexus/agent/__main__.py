"""`python -m nexus.agent HOME`: the agent's process, without the command line's weight."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from nexus.agent.adapters.home import Home
from nexus.agent.wire import Options, admitted, open_agent
from nexus.kernel.errors import NexusError


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


def main(args: list[str]) -> int:
    """The exit code: 0, or that of the error."""
    home = Path(args[0])
    try:
        if home.exists():
            Home(home).lock("process")  # until this process ends: it is there even while it waits to be let in
        asyncio.run(work(home))
    except NexusError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"  → {error.hint}\n" if error.hint else ""))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
