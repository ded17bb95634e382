"""What must hold for whatever is given: budgets and images, settings and arguments, command lines."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import sys
from unittest import mock

import numpy as np
import pytest
import torch
import typer
from helpers import methods
from helpers.datasets import make_dataset
from helpers.environment import HUB
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hf_unlearnable import EM, Budget, BudgetError, Defence, Method, RecipeError, Surrogate, Training, learnability
from hf_unlearnable.cli.command import app, main
from hf_unlearnable.defences import available_defences
from hf_unlearnable.defences.base import _defences
from hf_unlearnable.hub.retry import Retry
from hf_unlearnable.methods import available_methods, get_method

quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

budgets = st.one_of(
    st.floats(1, 255).map(Budget), st.integers(1, 255).map(Budget), st.floats(1, 20_000).map(lambda r: Budget(r, "l2"))
)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@st.composite
def moved(draw):
    """Images of any size from 1x1, with perturbations of any length, some values of which are zero or alike."""
    shape = draw(shapes)
    pixels = draw(arrays.arrays(np.uint8, shape))
    alike = np.float32([0.0, 1 / 255, 0.5 / 255, -8 / 255, 1e-6]).tolist()  # hypothesis wants what float32 can hold
    values = st.one_of(st.floats(-2, 2, width=32), st.sampled_from(alike))
    return pixels, draw(arrays.arrays(np.float32, shape, elements=values))


@given(budgets, moved())
@quick
def test_a_perturbation_stays_in_the_ball_and_is_as_large_as_possible(budget, images):
    pixels, perturbations = images
    levels = budget.quantise(torch.from_numpy(perturbations), pixels)
    protected = budget.apply(pixels, levels)
    assert np.array_equal(protected.astype(int) - pixels, levels)
    assert budget.measure(pixels, protected).max() <= budget.radius
    exact = perturbations.astype(np.float64) * 255
    assert (levels * np.sign(exact) >= 0).all()
    low, high = -pixels.astype(int), 255 - pixels.astype(int)
    if budget.norm == "linf":
        most = math.floor(budget.radius)
        assert np.array_equal(levels, np.clip(np.clip(np.rint(exact), -most, most), low, high))
        return
    lengths = np.sqrt((exact**2).sum(axis=(1, 2, 3), keepdims=True))
    inside = np.clip(exact * np.minimum(1, budget.radius / np.maximum(lengths, 1e-9)), low, high).clip(-127, 127)
    most = np.minimum(np.rint((inside**2).sum(axis=(1, 2, 3))), budget.radius**2)
    room = most - (levels.astype(int) ** 2).sum(axis=(1, 2, 3))
    assert (room > -1e-6).all()
    # No value that was cut off could be a level longer without making the whole longer than it was.
    short = np.abs(inside) - np.abs(levels) > 1e-3
    growth = np.where(short, 2 * np.abs(levels.astype(int)) + 1, np.inf).min(axis=(1, 2, 3))
    assert (growth > room - 1e-6).all()


@given(budgets, shapes, st.integers(0, 2**32))
@quick
def test_what_is_projected_and_resampled_stays_in_the_ball(budget, shape, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    clean = pixels.float() / 255
    projected = budget.project(3 * torch.randn(shape, generator=generator), clean)
    assert ((clean + projected) >= 0).all()
    assert ((clean + projected) <= 1).all()
    levels = torch.randint(-300, 300, shape, generator=generator).numpy()
    try:
        limited = budget.limit(levels, pixels.numpy())
    except BudgetError:
        assume(budget.norm == "linf")  # an L2 radius may be too small for an image
    assert budget.measure(pixels.numpy(), budget.apply(pixels.numpy(), limited)).max() <= budget.radius


anything = st.one_of(
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=5),
    st.sampled_from([None, True, [], (), b"x", {}, -1, 0, 2**64 - 1, 10**6, 1e300, 9999, "3", "no", "nan"]),
)
RECIPES = {
    **{f"method {name}": get_method(name) for name in available_methods()},
    **{f"defence {name}": _defences.get(name) for name in available_defences()},
    "training": Training,
    "surrogate": Surrogate,
    "retry": Retry,
}


@pytest.mark.parametrize("kind", RECIPES.values(), ids=RECIPES)
def test_a_setting_is_taken_or_refused_by_name(kind):
    fields = dataclasses.fields(kind)
    if not fields:
        return
    required = {f.name: "x" for f in fields if f.default is f.default_factory is dataclasses.MISSING}

    @given(st.sampled_from(fields), anything)
    @settings(quick, max_examples=20)
    def check(field, value):
        refused, made = "", None
        try:
            made = kind(**{**required, field.name: value})
        except RecipeError as error:
            refused = str(error)
        assert made is not None or all(word in refused for word in (field.name, "got ", "expected "))
        if isinstance(made, Defence) and value != "":
            assert Defence.parse(str(made)).name == made.name

    check()


# The values that people tried, each of which was taken once.
@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *((kind, "seed", value) for kind in map(get_method, available_methods()) for value in (-1, 2**64 - 1)),
        *((Training, name, -1) for name in ("learning_rate", "weight_decay")),
        *((Training, "epochs", value) for value in (1.5, "3", math.nan)),
        (Training, "momentum", 5),
        (get_method("mi-ue"), "temperature", 0),
        (get_method("mi-ue"), "distance_weight", math.inf),
        (EM, "copies", 10**6),
        (EM, "gather_features", "no"),
        (_defences.get("adversarial"), "eps", 9999),
        (Surrogate, "model", 3),
        (Surrogate, "image_std", (0.0,)),
    ],
)
def test_values_that_cannot_be(kind, name, value):
    with pytest.raises(RecipeError, match=rf"got {name}=.*expected"):
        kind(**{name: value})


def test_a_defence_on_the_command_line_that_cannot_be():
    with pytest.raises(RecipeError, match=r"adversarial: got eps=9999.*at most 255 levels"):
        Defence.parse("adversarial:9999")


@pytest.mark.parametrize(
    ("name", "value"), [("resolution", -3), ("resolution", 100_000), ("resolution", "32"), ("checkpoint_every", -1),
                        ("cache", "tape"), ("on_unseen", "guess"), ("progress", "no")],
)  # fmt: skip
def test_arguments_of_fit_that_cannot_be(name, value):
    with pytest.raises(RecipeError, match=f"fit: got {name}="):
        EM().fit(make_dataset(), **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("resolution", -3), ("resolution", 0), ("seeds", [-1]), ("seeds", 3), ("seeds", [2**64 - 1]), ("ratios", [1.5]),
     ("ratios", [math.nan]), ("ratios", "1"), ("ratios", [1e-9]), ("ratios", [1 - 1e-9])],
)  # fmt: skip
def test_arguments_of_a_measurement_that_cannot_be(name, value):
    data = make_dataset()
    with pytest.raises(RecipeError, match=r"got .*expected"):
        learnability(data, clean=data, test=data, **{name: value}, training=Training(epochs=1), progress=False)


def test_a_seed_of_a_defence_that_cannot_be():
    with pytest.raises(RecipeError, match="apply: got seed=-1"):
        Defence.parse("jpeg").apply(make_dataset(), seed=-1)


@pytest.mark.parametrize("method", available_methods())
@pytest.mark.parametrize("seed", [0, 2**63 - 1])
@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.filterwarnings("ignore::hf_unlearnable.errors.DataWarning")  # tiny images may stay as they are
def test_the_smallest_images_and_the_largest_seed(method, seed, side):
    recipe = methods.quick(method, epochs=1, batch_size=8, steps=1, seed=seed)
    data = make_dataset(12, side=side, classes=2)
    with mock.patch("hf_unlearnable.methods.auto.Auto.candidates", ("texture",)):
        protect = recipe.fit(data, budget=Budget(8), progress=False)
    assert protect.verify(data, data.map(protect)).violations == 0


def _words(command):
    """Command lines of one command, with values of every kind for its options."""
    values = st.one_of(
        st.sampled_from(["-1", "0", "1", "1.5", "nan", "inf", "1e400", str(2**64), "x", "", "a,b", "none", "jpeg:0"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    )
    options = [
        option
        for option in command.params
        if option.param_type_name == "option"
        and option.name not in ("help", "plugin", "output", "config_file", "verbose")
    ]
    given_one = st.sampled_from(options).flatmap(
        lambda option: st.just([option.opts[0]]) if option.is_flag else values.map(lambda one: [option.opts[0], one])
    )
    return st.lists(given_one, max_size=3).map(lambda parts: [word for part in parts for word in part])


COMMANDS = {
    name: command
    for name, command in typer.main.get_command(app).commands.items()
    if name in ("protect", "measure", "report", "push", "pull", "verify")
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_line_ends_in_a_traceback_or_in_success_without_its_work(name, tmp_path, monkeypatch):
    """None of these has anything to work on, so that each must fail, in a sentence."""
    monkeypatch.chdir(tmp_path)
    begun = {
        "protect": ["nothing-here", "--output", "out"],
        "measure": ["nothing-here"],
        "report": ["nothing-here"],
        "push": ["nothing-here", "artist/nothing"],
        "pull": ["artist/nothing", "--output", "back"],
        "verify": ["nothing-here"],
    }[name]

    @given(_words(COMMANDS[name]))
    @settings(quick, max_examples=20)
    @example([])
    def check(words):
        said = io.StringIO()
        with (
            mock.patch.object(sys, "argv", ["hf-unlearnable", name, *begun, *words]),
            mock.patch("time.sleep"),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(said),
            pytest.raises(SystemExit) as end,
        ):
            main()
        assert end.value.code not in (0, None), words
        assert "Traceback" not in said.getvalue()
        assert "Error" in said.getvalue() or "Usage" in said.getvalue()

    try:
        check()
    finally:
        HUB.forget()
    assert [file.name for file in tmp_path.iterdir()] == []


@given(st.text(max_size=12))
@example("beo:steps=1e3")
@example("mi-ue:epochs=nan")
@example("em:copies=1000000")
@example("em:")
@example(":")
@example("jpeg:quality=")
@quick
def test_a_recipe_by_name_is_read_or_refused(text):
    for kind in (Method, Defence):
        try:
            made = kind.parse(text)
        except RecipeError:
            continue
        assert isinstance(made, kind)
    with contextlib.suppress(BudgetError):
        assert Budget.parse(text).radius >= 1
