"""The JSON Schema of the native job file, sections of every kind included: editors complete and check with it."""

from __future__ import annotations

from typing import Any

from nexus.launch.core.jobkind import KINDS
from nexus.launch.core.spec import JobSpec


def job_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    schema = JobSpec.model_json_schema(ref_template="#/$defs/{model}")
    properties = schema["properties"]
    for hidden in ("sections", "warnings"):
        properties.pop(hidden, None)
    definitions = schema.setdefault("$defs", {})
    definitions.pop("BaseModel", None)
    properties["kind"] = {"enum": KINDS.names(), "default": "command", "description": properties["kind"]["description"]}
    properties["dialect"] = {"const": "nexus", "description": "Says outright that this file is in the native form."}
    for name in KINDS:
        model = KINDS.get(name).section
        if not model.model_fields:
            continue
        section = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= section.pop("$defs", {})
        definitions[model.__name__] = section
        properties[name] = {
            "anyOf": [{"$ref": f"#/$defs/{model.__name__}"}, {"type": "null"}],
            "description": f"What only `kind: {name}` has.",
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Nexus job file",
    }
