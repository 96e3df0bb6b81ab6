"""Hypothesis strategies that follow pydantic models: plain values their fields may hold."""

import types
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

#: Whole numbers are 32 bits wide in protobuf unless a field says more.
_INT32 = 2**31 - 1
_LONGEST = 20

#: What JSON can hold and protobuf's `Struct` keeps exactly.
_LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=_LONGEST)
JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


def fields_of(
    model: type[BaseModel], **fixed: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Fields of `model` with values that it takes; those with a default may be missing.

    Args:
        model: whose.
        fixed: what to draw from for some fields in place of what their types say.
    """
    drawn = {
        name: fixed.get(name, values(field.annotation, field.metadata))
        for name, field in model.model_fields.items()
    }
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    return st.fixed_dictionaries(
        {name: drawn[name] for name in required},
        optional={name: drawn[name] for name in drawn.keys() - required},
    )


def values(annotation: Any, constraints: Iterable[Any] = ()) -> st.SearchStrategy[Any]:
    """Values of a type, within the constraints that pydantic has collected for it; never None."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values(parts[0], _flat(parts[1:]))
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (Union, types.UnionType):
        held = [part for part in parts if part is not types.NoneType]
        return st.one_of(values(part, constraints) for part in held)
    if origin is dict and parts[1] is not Any:
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=3)
    if origin in (list, tuple):
        least = _bound(constraints, annotated_types.MinLen, "min_length", 0)
        pair = origin is tuple and ... not in parts
        several = st.lists(values(parts[0]), min_size=least, max_size=3)
        return st.tuples(*map(values, parts)) if pair else several
    return _plain(annotation, constraints)


def _plain(kind: Any, constraints: Iterable[Any]) -> st.SearchStrategy[Any]:
    if get_origin(kind) is dict:
        return st.dictionaries(st.text(max_size=5), JSON, max_size=3)
    if issubclass(kind, BaseModel):
        return fields_of(kind)
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    if pattern := _bound(constraints, object, "pattern", None):
        return st.from_regex(pattern, fullmatch=True)
    low = _bound(constraints, annotated_types.Ge, "ge", -_INT32)
    high = _bound(constraints, annotated_types.Le, "le", _INT32)
    shortest = _bound(constraints, annotated_types.MinLen, "min_length", 0)
    return {
        bool: st.booleans(),
        int: st.integers(low, high),
        float: st.floats(low, high),
        str: st.text(min_size=shortest, max_size=_LONGEST),
        datetime: st.datetimes(timezones=st.just(UTC)),
    }[kind]


def _flat(extra: Iterable[Any]) -> list[Any]:
    """The constraints of an annotation, those inside of `Field(...)` among them."""
    return [
        one for each in extra for one in (each.metadata if isinstance(each, FieldInfo) else [each])
    ]


def _bound(constraints: Iterable[Any], kind: type, name: str, default: int) -> Any:
    found = (getattr(each, name, None) for each in constraints if isinstance(each, kind))
    return next((each for each in found if each is not None), default)
