"""Put the figures of `bench/results/` into `bench/RESULTS.md`, between the words of `bench/results/template.md`.

python -m bench.assemble
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

HERE = Path(__file__).parent


def result(name: str) -> str:
    """One script's result, without a heading of its own."""
    lines = (HERE / "results" / f"{name}.md").read_text().strip().splitlines()
    return "\n".join(lines[1:] if lines[0].startswith("#") else lines).strip()


def machine() -> str:
    """What it was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cpu = model[1] if model else platform.processor()
    return f"{os.cpu_count()} cores ({cpu}), Python {platform.python_version()}, Linux {platform.release()}"


def main() -> None:
    text = (HERE / "results" / "template.md").read_text().replace("{machine}", machine())
    text = re.sub(r"\{(\w+)\}", lambda match: result(match[1]), text)
    (HERE / "RESULTS.md").write_text(text)


if __name__ == "__main__":
    main()
