"""Whether a value of a YAML file is of the kind that an option takes."""

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what the annotation of a field says; one text is as good as a list of one."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(fits(value, choice) for choice in get_args(hint))
    if origin is Literal:
        return isinstance(value, str)  # which ones there are is checked with the other values
    if origin is list:
        (element,) = get_args(hint)
        return (isinstance(value, list) and all(fits(item, element) for item in value)) or element is str is type(
            value
        )
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def describe(hint: Any) -> str:
    """The annotation of a field in words."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return " or ".join(describe(choice) for choice in get_args(hint) if choice is not NoneType)
    if origin is Literal:
        return f"one of {', '.join(get_args(hint))}"
    if origin is list:
        return f"a list, each {describe(get_args(hint)[0])}"
    return _NAMES[hint]
