"""What anyone may know: with a secret in every place that a text has, none comes out."""

from __future__ import annotations

import json
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from syncd.daemon.http import public
from syncd.daemon.status import Status

SECRET = "/home/me/secret.pdf"
TOLD = {"name", "store", "last_scan", "oldest_pending", "last_upload"}
"""Texts that are told: names of the configuration, and times."""


def filled(kind: Any, name: str = "") -> Any:
    """A value of this type in which every text is the secret, and every number is 7."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        hints = get_type_hints(kind)
        return kind(**{each.name: filled(hints[each.name], each.name) for each in fields(kind)})  # type: ignore[operator]
    origin, arguments = get_origin(kind), [each for each in get_args(kind) if each is not NoneType]
    if origin is not None and len(arguments) == 2:
        return {filled(arguments[0]): filled(arguments[1])}
    if origin is not None and hasattr(origin, "__len__"):
        return [filled(arguments[0])]
    if arguments:
        return filled(arguments[0], name)
    if kind is str:
        return name if name in TOLD else SECRET
    return {int: 7, float: 7.5, bool: True, Any: 7}[kind]


def test_no_text_but_names_and_times_is_told() -> None:
    """Whatever the status has by now or will have."""
    status = filled(Status)
    assert isinstance(status, Status)
    assert json.dumps(status.to_json()).count(SECRET) > 20
    told = json.dumps(public.to_json(status))
    assert SECRET not in told
    assert "/" not in told


def test_it_is_a_part_of_what_the_token_shows() -> None:
    """A program reads both alike; only the health is said in fewer words."""
    status = filled(Status)
    told, whole = public.to_json(status), status.to_json()
    assert told["daemon"].pop("health") == "not ok"
    assert told["daemon"].items() <= whole["daemon"].items()
    (source,), (all_of_it,) = told["sources"], whole["sources"]
    assert source.items() <= all_of_it.items()
    assert told["stores"] == [{"name": "name", "up": False, "requests": 7}]
