"""Load the file that a person wrote: it is their own code, and runs as such."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from nexus.federate.core.task import Task
from nexus.kernel.errors import FileError, MissingError


def load_task(path: Path) -> Task:
    """The `task` that a Python file defines. Raises FileError, MissingError."""
    if not path.is_file():
        raise FileError(f"there is no file {path}", hint="nexus federate simulate PATH/TO/app.py", file=str(path))
    spec = importlib.util.spec_from_file_location(f"nexus_task_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileError(f"{path} is not a Python file", hint="Name a .py file that defines `task`.", file=str(path))
    sys.path.insert(0, str(path.resolve().parent))
    try:
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{path} needs {error.name}, which is not installed", hint=f"pip install {error.name}"
        ) from error
    except SyntaxError as error:
        raise FileError(
            f"not valid Python: {error.msg}",
            hint="Fix the line.",
            file=str(path),
            line=error.lineno,
            column=error.offset,
        ) from error
    finally:
        sys.path.pop(0)
    task = getattr(module, "task", None)
    if not isinstance(task, Task):
        raise FileError(
            f"{path} defines no `task`",
            hint="Write: task = nexus.federate.Task(model=..., data=..., loss=...)",
            file=str(path),
        )
    return task
