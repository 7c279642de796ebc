"""`nexus --help` beside `mlflow --help`: CPU seconds of the whole process.

python -m bench.cli_help
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.peer import cpu_seconds, peer_python, report


def main() -> None:
    ours = cpu_seconds([str(Path(sys.executable).parent / "nexus"), "--help"])
    bare = cpu_seconds([sys.executable, "-c", "pass"])
    lines = [
        "| command | CPU s |",
        "|---|---|",
        f"| `python -c pass` | {bare} |",
        f"| `nexus --help` | {ours} |",
    ]
    python = peer_python("mlflow", "mlflow>=3.1")
    if python:
        peer = cpu_seconds([str(python.parent / "mlflow"), "--help"], repeat=3)
        lines += [f"| `mlflow --help` | {peer} |", "", f"Ratio mlflow / nexus: {peer.median / ours.median:.1f}"]
    report("cli_help", "\n".join(lines))


if __name__ == "__main__":
    main()
