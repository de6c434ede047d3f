"""Tables to attrs objects with every fault reported at once, in words: used for experiment files and for policies' params alike.

cattrs checks the types; validators of the class check the values. What is added here is that all faults of a table are found
(attrs stops at the first) and that each says its key, what must hold and what it got.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, get_args, get_origin

import attrs
import cattrs

from mmlab.errors import did_you_mean

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", list: "a list", dict: "a table"}
_BOUND = re.compile(r"Validator for x (>=|<=|<|>) ([^>\s]+)>")


def structure(cls: type, table: Mapping[str, Any], path: str, errors: list[str]) -> Any:
    """An instance of the attrs class `cls`, or None after adding each fault to `errors` as `path.key: what must hold, got VALUE`."""
    before = len(errors)
    attrs.resolve_types(cls)
    known = {a.alias.lstrip("_"): a for a in attrs.fields(cls) if a.init}
    values = {}
    for key, value in table.items():
        if key not in known:
            errors.append(f"{_dot(path, key)}: unknown key (known: {', '.join(sorted(known)) or 'none'}){did_you_mean(key, known)}")
        else:
            values[key] = _typed(value, known[key].type, _dot(path, key), errors)
    errors.extend(f"{_dot(path, key)}: missing" for key, a in known.items() if a.default is attrs.NOTHING and key not in table)
    _validate(known, values, path, errors)
    if len(errors) > before:
        return None
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        named = str(error).partition(":")[0] in known
        errors.append(f"{_dot(path, str(error))}" if named else f"{path}: {error}")
        return None


def structure_value(value: Any, wanted: Any) -> Any:
    """`value` as the type `wanted`, by cattrs, with no silent conversions; raises TypeError or ValueError with a plain message."""
    try:
        return _CONVERTER.structure(value, wanted)
    except cattrs.BaseValidationError as group:
        raise TypeError("; ".join(cattrs.transform_error(group))) from None


def _typed(value: Any, wanted: Any, path: str, errors: list[str]) -> Any:
    try:
        return structure_value(value, wanted)
    except (TypeError, ValueError) as error:
        errors.append(f"{path}: {error}")
        return attrs.NOTHING


def _validate(known: Mapping[str, Any], values: dict[str, Any], path: str, errors: list[str]) -> None:
    """Run every attribute's validator, not just up to the first that fails."""
    typed = {key: value for key, value in values.items() if value is not attrs.NOTHING}
    probe = SimpleNamespace(**{a.name: typed.get(key, a.default) for key, a in known.items()})
    for key, value in typed.items():
        attribute = known[key]
        if attribute.validator is None:
            continue
        try:
            attribute.validator(probe, attribute, value)
        except (ValueError, TypeError) as error:
            errors.append(f"{_dot(path, key)}: {_in_words(str(error.args[0]), attribute, value)}")


def _in_words(message: str, attribute: Any, value: Any) -> str:
    bounds = dict(_BOUND.findall(repr(attribute.validator)))
    if ">=" in bounds and "<=" in bounds and re.search(r"must be [<>]=", message):
        return f"must be between {bounds['>=']} and {bounds['<=']}, got {value!r}"
    if match := re.search(r"must be (>=|<=|<|>) ([^:\s]+): ", message):
        words = {">=": "{} or more", "<=": "{} or less", "<": "less than {}", ">": "more than {}"}[match[1]]
        return f"must be {words.format(match[2])}, got {value!r}"
    if match := re.search(r"must be in (.*?) \(got ", message):
        options = [str(o) for o in getattr(attribute.validator, "options", ())]
        return f"must be one of {', '.join(options) or match[1]}, got {value!r}{did_you_mean(str(value), options)}"
    message = re.sub(r" \(.* doesn't\)$", "", re.sub(rf"^'?{re.escape(attribute.name)}'? ?:? ?", "", message))
    return message if repr(value) in message or str(value) in message else f"{message}, got {value!r}"


def _dot(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _strict(wanted: type, *accepted: type) -> Any:
    def hook(value: Any, _: Any) -> Any:
        if isinstance(value, bool) and wanted is not bool or not isinstance(value, accepted):
            raise TypeError(f"must be {_WORDS[wanted]}, got {value!r}")
        return wanted(value)

    return hook


def _literal(value: Any, wanted: Any) -> Any:
    options = get_args(wanted)
    if value not in options or isinstance(value, bool) != any(o is value for o in options if isinstance(o, bool)):
        near = did_you_mean(str(value), [str(o) for o in options])
        raise ValueError(f"must be one of {', '.join(str(o) for o in options)}, got {value!r}{near}")
    return value


def _list_like(value: Any, wanted: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"must be a list, got {value!r}")
    kind, *rest = get_args(wanted) or (Any,)
    items = [_element(i, v, kind) for i, v in enumerate(value)]
    return tuple(items) if (get_origin(wanted) or wanted) is tuple else items


def _element(index: int, value: Any, wanted: Any) -> Any:
    try:
        return value if wanted is Any else _CONVERTER.structure(value, wanted)
    except (TypeError, ValueError) as error:
        raise TypeError(f"element {index} {error}") from None


def _table(value: Any, wanted: Any) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"must be a table, got {value!r}")
    kinds = get_args(wanted)
    return dict(value) if not kinds or kinds[1] is Any else {k: _CONVERTER.structure(v, kinds[1]) for k, v in value.items()}


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, detailed_validation=True)
    converter.register_structure_hook(int, _strict(int, int))
    converter.register_structure_hook(float, _strict(float, int, float))
    converter.register_structure_hook(str, _strict(str, str))
    converter.register_structure_hook(bool, _strict(bool, bool))
    converter.register_structure_hook_func(lambda t: str(get_origin(t)) == "typing.Literal", _literal)
    converter.register_structure_hook_func(lambda t: any((get_origin(t) or t) is kind for kind in (list, tuple)), _list_like)
    converter.register_structure_hook_func(lambda t: (get_origin(t) or t) is dict, _table)
    return converter


_CONVERTER = _make_converter()
