"""Encodes records as msgpack and decodes them by their type hints; arrays are raw buffers.

Never pickle: a store may be shared, and data from outside must not be executed.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from actors import types as records
from actors.types import ADDED, Reference

_ARRAY = 1
"""msgpack's extension type for an array: its dtype, shape and bytes."""


class CodecError(ValueError):
    """The bytes or the value are not a record of a known type."""


def encode(record: object) -> bytes:
    """Encode a dataclass of ``actors.types``. Raises CodecError for anything else, also inside of it."""
    name = type(record).__name__
    if _known().get(name) is not type(record):
        raise CodecError(f"a stored record must be one of {', '.join(_known())}; found {type(record)!r}")
    return _pack([name, plain(record)])


def decode(data: bytes) -> Any:
    """The record that was encoded; its arrays are read-only. Raises CodecError."""
    try:
        name, tree = msgpack.unpackb(data, ext_hook=_unpack_array, strict_map_key=True)
        return _typed(tree, _known()[name])
    except (ValueError, TypeError, KeyError, msgpack.UnpackException) as error:
        raise CodecError(f"a stored record must be readable; {type(error).__name__}: {error}") from error


def content(record: object) -> bytes:
    """A canonical encoding of a request, to be hashed: its type and fields, voice samples by content address.

    Fields that are ``ADDED`` are left out at their default: results of an earlier release are found.

    Raises CodecError if a field is not a number, text, array, or a dataclass, mapping or sequence of these.
    """
    return _pack([type(record).__qualname__, plain(record, for_key=True)])


def plain(value: object, *, for_key: bool = False) -> object:
    """The value with dataclasses turned into mappings, in the order of their fields; mappings are sorted by key."""
    walk = functools.partial(plain, for_key=for_key)
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bytes | np.ndarray):
        return value
    if for_key and isinstance(value, Reference):
        return {"key": value.key, "sample_hz": value.sample_hz}
    if dataclasses.is_dataclass(value):
        fields = [each for each in dataclasses.fields(value) if not (for_key and _is_left_out(each, value))]
        return {each.name: walk(getattr(value, each.name)) for each in fields}
    if isinstance(value, Mapping):
        return {key: walk(value[key]) for key in sorted(value)}
    if isinstance(value, Sequence):
        return [walk(item) for item in value]
    raise CodecError(f"a record must hold numbers, texts, arrays and records; found {type(value)!r}")


def _is_left_out(field: dataclasses.Field[Any], record: object) -> bool:
    return field.metadata == ADDED and getattr(record, field.name) == field.default


def _pack(tree: object) -> bytes:
    try:
        packed: bytes = msgpack.packb(tree, default=_pack_array)
    except (ValueError, TypeError, OverflowError, UnicodeEncodeError) as error:
        raise CodecError(f"a record must fit msgpack; {error}") from error
    return packed


def _pack_array(array: object) -> object:
    if not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise TypeError(f"no such type: {type(array)!r}")
    flat = np.ascontiguousarray(array)
    # Always little-endian, so that the bytes are the same on every machine.
    flat = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    return msgpack.ExtType(_ARRAY, msgpack.packb([flat.dtype.str, array.shape, flat.data.cast("B")]))


def _unpack_array(code: int, data: bytes) -> object:
    if code != _ARRAY:
        raise ValueError(f"unknown extension type {code}")
    dtype, shape, raw = msgpack.unpackb(data)
    return np.frombuffer(raw, np.dtype(dtype)).reshape(shape)


# --- by type hints


@functools.cache
def _known() -> dict[str, type]:
    """Every dataclass of ``actors.types``, by name."""
    return {
        name: kind
        for name, kind in vars(records).items()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == records.__name__
    }


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _typed(tree: Any, hint: Any) -> Any:
    """``tree`` as a value of the hinted type. Raises ValueError if it is not one."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _record(tree, hint)
    if origin in (typing.Union, types.UnionType):
        return _either(tree, args)
    if origin is tuple and isinstance(tree, list):
        kinds = [args[0]] * len(tree) if args[1:] == (Ellipsis,) else args
        return tuple(_typed(item, kind) for item, kind in zip(tree, kinds, strict=True))
    if origin is np.ndarray and isinstance(tree, np.ndarray) and tree.dtype == np.dtype(typing.get_args(args[1])[0]):
        return tree
    if origin is typing.Literal and tree in args:
        return tree
    if hint is float and type(tree) is int:
        return float(tree)
    if hint in (str, int, float, bool, bytes, type(None)) and type(tree) is hint:
        return tree
    raise ValueError(f"must be {hint}; found {type(tree).__name__}")


def _record(tree: Any, kind: type) -> Any:
    hints = _hints(kind)
    if not isinstance(tree, dict) or tree.keys() != hints.keys():
        raise ValueError(f"a {kind.__name__} must have the fields {', '.join(hints)}")
    return kind(**{name: _typed(tree[name], hint) for name, hint in hints.items()})


def _either(tree: Any, kinds: Sequence[Any]) -> Any:
    for kind in kinds:
        try:
            return _typed(tree, kind)
        except ValueError:
            continue
    raise ValueError(f"must be one of {kinds}; found {type(tree).__name__}")
