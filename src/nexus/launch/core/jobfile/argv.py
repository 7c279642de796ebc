"""`nexus launch -- CMD...`: a job from a command line, without a file."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.kernel.errors import UsageError
from nexus.kernel.ids import to_name
from nexus.launch.core.jobfile.reading import read_native
from nexus.launch.core.jobfile.tree import Fields, Items, Place, Scalar
from nexus.launch.core.spec import JobSpec

_INTERPRETERS = ("python", "python3", "bash", "sh", "node", "uv", "torchrun", "accelerate")


def job_from_argv(argv: Sequence[str], *, overrides: Sequence[str] = ()) -> JobSpec:
    """A job that runs these words as they are, in this folder, named after what they run. Raises UsageError."""
    if not argv:
        raise UsageError(
            "say what to run: a job file, or a command after --",
            hint="nexus launch job.yaml   or   nexus launch -- python train.py",
        )
    place = Place(0, 0, "the command")
    words = Items(place, [Scalar(word, word, place) for word in argv])
    tree = Fields(place, {"run": words}, {"run": place})
    return read_native(tree, place.source, name=command_name(argv), overrides=overrides)


def command_name(argv: Sequence[str]) -> str:
    """`train` for `python -u scripts/train.py --lr 0.1`; `echo` for `echo hi`."""
    words = [word for word in argv if not word.startswith("-")] or list(argv)
    program = words[0].rpartition("/")[2]
    if program in _INTERPRETERS and len(words) > 1 and " " not in words[1]:
        program = words[1].rpartition("/")[2]
    stem = program.rpartition(".")[0] if "." in program else program
    return to_name(stem or program)
