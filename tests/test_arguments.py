"""Functions that everybody calls say at once what kind of argument they take: a str is no sequence of letters."""

from __future__ import annotations

import inspect
from functools import partial

import pytest
from helpers.datasets import make_dataset

import hf_unlearnable
from hf_unlearnable import RecipeError, hub, pull, push, push_model, runs, verify, write_report
from hf_unlearnable.reports.comparison import write_comparison
from hf_unlearnable.runs import audit, intake, measure, protect, protect_like
from hf_unlearnable.settings import check_arguments

ONE_NAME = {  # functions that take what goes by one name, and check it in words of their own
    *("available_defences", "available_methods", "available_metrics", "available_victims"),
    *("get_method", "load_metric", "load_plugin", "register_victim"),
}

CHECKED = check_arguments(lambda: None).__code__

SLIPS = {
    "push": (partial(push, "OUT", "me/boats", drop_columns="meta"), "drop_columns='meta'; expected a list or a tuple"),
    "pull": (partial(pull, "me/boats", 3), "folder=3; expected text or a path"),
    "verify": (partial(verify, "OUT", clean=3), "clean=3; expected text or a path or None"),
    "push_model": (partial(push_model, None, "me/net", role="hero"), "role='hero'; expected one of 'surrogate', "),
    "write_report": (partial(write_report, "OUT", public="yes"), "public='yes'; expected True or False"),
    "write_comparison": (partial(write_comparison, ["a", "b"], names="ab"), "names='ab'; expected a list or a tuple"),
    "audit": (partial(audit, "OUT", also="other"), "also='other'; expected a list or a tuple"),
    "measure": (partial(measure, "OUT", owner="no"), "owner='no'; expected True or False"),
    "intake": (partial(intake, make_dataset(), keep_clean="test"), "keep_clean='test'; expected a list or a tuple"),
    "protect": (partial(protect, make_dataset(), "OUT", drop_columns="name"), "drop_columns='name'; expected a list"),
    "protect_like": (partial(protect_like, "OUT", "IN", "TO", leave_out="a"), "leave_out='a'; expected True or False"),
}


@pytest.mark.parametrize("name", SLIPS)
def test_an_argument_of_another_kind_is_told_before_anything_is_opened(name):
    work, told = SLIPS[name]
    with pytest.raises(RecipeError, match=f"^{name}: got {told}"):
        work()


def test_no_public_function_is_forgotten():
    rooms = (hf_unlearnable, hub, runs)
    public = {f"{room.__name__}.{name}": getattr(room, name) for room in rooms for name in room.__all__}
    functions = {name: thing for name, thing in public.items() if inspect.isfunction(thing)}
    forgotten = [
        name
        for name, function in functions.items()
        if name.rpartition(".")[2] not in ONE_NAME and not _is_checked(function)
    ]
    assert not forgotten


def _is_checked(function) -> bool:
    """Whether one of the decorators of a function, from the outermost on, is ``check_arguments``."""
    while function is not None:
        if function.__code__ is CHECKED:
            return True
        function = getattr(function, "__wrapped__", None)
    return False
