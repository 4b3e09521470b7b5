from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from actors.errors import CapacityError, DubbingError, EngineError, ItemError


def error_classes(root: type[DubbingError] = DubbingError) -> Iterator[type[DubbingError]]:
    yield root
    for cls in root.__subclasses__():
        yield from error_classes(cls)


@pytest.mark.parametrize("cls", list(error_classes()), ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling_with_all_it_says(cls: type[DubbingError]) -> None:
    error = cls("a slot must be free; found none; try later")
    error.__dict__.update({name: 7.5 for name in vars(error) if name != "message"})

    back = pickle.loads(pickle.dumps(error))

    assert type(back) is cls
    assert str(back) == back.message == "a slot must be free; found none; try later"
    assert vars(back) == vars(error)


def test_capacity_error_says_when_to_come_back() -> None:
    assert pickle.loads(pickle.dumps(CapacityError("full", retry_after_s=12.0))).retry_after_s == 12.0


def test_an_item_error_is_an_engine_error_and_no_more_than_that() -> None:
    assert issubclass(ItemError, EngineError)
    assert ItemError.__mro__[1:3] == (EngineError, DubbingError)
