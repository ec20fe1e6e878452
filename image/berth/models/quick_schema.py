"""Whether a document obeys a JSON Schema, said by the few keywords that Berth's own schema has.

jsonschema takes 5 MB and a tenth of a second of every worker that imports it. A document that `fits` is valid; of any
other, jsonschema says whether it is and what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "integer": (int,),
    "number": (int, float),
}  # fmt: skip
# value, what the schema says -> whether it fits. Each is only for values of its type, as in JSON Schema.
_CHECKS: Mapping[str, Callable[[Any, Any], bool]] = {
    "type": lambda value, name: type(value) in _TYPES.get(name, ()),
    "const": lambda value, wanted: type(value) is type(wanted) and bool(value == wanted),
    "enum": lambda value, wanted: any(type(value) is type(one) and value == one for one in wanted),
    "minimum": lambda value, least: type(value) not in (int, float) or value >= least,
    "pattern": lambda value, text: type(value) is not str or re.search(text, value) is not None,
    "minLength": lambda value, least: type(value) is not str or len(value) >= least,
    "maxLength": lambda value, most: type(value) is not str or len(value) <= most,
    "minItems": lambda value, least: type(value) is not list or len(value) >= least,
    "minProperties": lambda value, least: type(value) is not dict or len(value) >= least,
    "required": lambda value, names: type(value) is not dict or all(name in value for name in names),
}
_NOTES = frozenset({"$schema", "title", "description", "$defs"})
# These say what the values in a document are to be.
_INNER = frozenset({"properties", "additionalProperties", "propertyNames", "items"})


def fits(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether `value` is certain to obey `schema`, whose references are to `root`; False where that is not known."""
    if (reference := schema.get("$ref")) is not None:
        prefix, _, name = str(reference).rpartition("/")
        return prefix == "#/$defs" and len(schema.keys() - _NOTES) == 1 and fits(value, root["$defs"][name], root)
    for keyword, wanted in schema.items():
        if (check := _CHECKS.get(keyword)) is not None:
            if not check(value, wanted):
                return False
        elif keyword == "not":
            if wanted.keys() != {"const"} or value == wanted["const"]:
                return False
        elif keyword not in _INNER and keyword not in _NOTES:
            return False
    return _inner_fit(value, schema, root)


def _inner_fit(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    if type(value) is list:
        items = schema.get("items", {})
        return all(fits(item, items, root) for item in value) if items else True
    if type(value) is not dict:
        return True
    named, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    if (names := schema.get("propertyNames")) is not None and not all(fits(name, names, root) for name in value):
        return False
    for name, item in value.items():
        of_item = named.get(name, others)
        if of_item is False or (of_item is not True and not fits(item, of_item, root)):
            return False
    return True
