"""From a checked job to the text of a native job file: reading it again gives the same job."""

from __future__ import annotations

from typing import Any

import yaml

from nexus.launch.core.jobfile.tree import plain_value
from nexus.launch.core.spec import JobSpec


class _Dumper(yaml.SafeDumper):
    """Scripts as blocks; text that would read as something else in quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    block = "\n" in text and all(line == line.rstrip() for line in text.split("\n")) and not text[:1].isspace()
    style = "|" if block else "'" if plain_value(text) is not text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_native(spec: JobSpec) -> str:
    """The job file in native words; what is as by default is left out."""
    data = native_fields(spec)
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False)


def native_fields(spec: JobSpec) -> dict[str, Any]:
    """The same as values."""
    data: dict[str, Any] = {"name": spec.name}
    if spec.kind != "command":
        data["kind"] = spec.kind
    data |= spec.model_dump(mode="json", exclude_defaults=True)
    if spec.workspace is None:
        data["workspace"] = None
    for name, section in spec.sections.items():
        data[name] = section.model_dump(mode="json", exclude_defaults=True)
    return data
