"""JSON Schemas of every event, generated from the models; and what a change of a model breaks.

The committed files in `schemas/json/` are for upstream apps and data teams in other languages; a test says when they
are stale. `schemas/released/` holds the schemas of the last release: what readers out there know, and what records
out there look like. `breaks` compares with those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from schemas.families import EVENTS, SEND
from schemas.sends import SendRequested

FOLDER = Path(__file__).parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"

MODELS: dict[str, type[BaseModel]] = {SEND: SendRequested, **EVENTS}


def version(kind: str) -> int:
    return int(getattr(MODELS[kind], "version", 1))


def json_schemas() -> dict[str, dict[str, Any]]:
    """By event type: the schema of the record's value."""
    return {
        kind: {"$schema": DIALECT, **model.model_json_schema(by_alias=True, mode="validation")}
        for kind, model in sorted(MODELS.items())
    }


def file_name(kind: str) -> str:
    return f"{kind}.v{version(kind)}.json"


def breaks(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of a change from `old` to `new` (schemas of one type) breaks an old reader or an old record, in words.

    An old reader needs the fields that it requires, in the form that it knows; a new reader must still take records
    that lack what is new.
    """
    old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
    found = [f"{name} is gone: an old reader requires it" for name in _required(old) if name not in new_fields]
    found += [
        f"{name} is now required: an old record lacks it"
        for name in sorted(_required(new) - _required(old))
        if name not in old_fields or "default" in old_fields[name]
    ]
    for name in old_fields.keys() & new_fields.keys():
        before, after = _form(old_fields[name], old), _form(new_fields[name], new)
        if before != after:
            found.append(f"{name} changed its form from {before} to {after}")
    return sorted(found)


def _required(schema: dict[str, Any]) -> set[str]:
    return set(schema.get("required", ()))


def _form(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """The JSON types that a field may have, as text: what a reader in any language depends on."""
    if "$ref" in field:
        target = field["$ref"].rpartition("/")[2]
        return _form(schema.get("$defs", {}).get(target, {}), schema)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in field:
            return " or ".join(sorted(_form(each, schema) for each in field[several]))
    kind = str(field.get("type", "any"))
    if kind == "array" and "items" in field:
        return f"array of {_form(field['items'], schema)}"
    return kind
