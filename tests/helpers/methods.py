"""Methods with settings that take seconds, and a parametrisation over all of them."""

from __future__ import annotations

import dataclasses

import pytest

from hf_unlearnable import Method, available_methods, get_method

QUICK = {
    "epochs": 2,
    "steps": 4,
    "guides": 1,
    "guide_epochs": 1,
    "thief_steps": 1,
    "batch_size": 16,
}  # for methods that have such a field

methods = pytest.mark.parametrize("method", [get_method(name) for name in available_methods()], ids=lambda m: m.name)


def quick(method: type[Method] | str, **changes) -> Method:
    """A method, or the one of that name, with ``QUICK`` and ``changes`` as far as it has such fields."""
    kind = get_method(method) if isinstance(method, str) else method
    fields = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in {**QUICK, **changes}.items() if name in fields})
