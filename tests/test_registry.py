"""Names, settings and plugins, in this process; installed packages are in ``cli/test_plugins``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Annotated, ClassVar, Literal

import pytest

import hf_unlearnable.defences
import hf_unlearnable.methods
from hf_unlearnable import (
    Defence,
    Method,
    PluginError,
    RecipeError,
    Surrogate,
    Training,
    available_victims,
    load_plugin,
    register_victim,
    registry,
)
from hf_unlearnable.cli.plugins import _load
from hf_unlearnable.defences.base import _defences
from hf_unlearnable.methods.base import _methods
from hf_unlearnable.modeling.small_vit import small_vit
from hf_unlearnable.models.built_in import FITTED_AT_ONCE, MODELS
from hf_unlearnable.models.classical import CLASSICAL
from hf_unlearnable.registry import Recipes, Registry
from hf_unlearnable.settings import Count, OneOf, Positive, Range, Share, check_fields

GROUP = "hf_unlearnable.methods"


@pytest.fixture(autouse=True)
def forget_plugins(monkeypatch):
    """Processes that later tests start would look for the files of these."""
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))


# --- settings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: ClassVar[str] = "mine"
    count: Count = 1
    share: Share = 0.5
    rate: Positive | None = None
    rule: float | Literal["auto"] = "auto"
    choice: Annotated[str | None, OneOf((None, "a", "b"))] = None
    part: Annotated[float, Range(above=0, below=1)] = 0.5
    bits: Annotated[int, Range(least=1, most=8)] = 2
    flag: bool = False
    several: tuple[Share, ...] = ()
    anything: object = None

    def __post_init__(self) -> None:
        check_fields(self)


def test_settings_that_fit():
    Settings(count=3, share=1, rate=1e-3, rule=2, choice="a", flag=True, several=(0, 0.5), anything=len)
    Settings(several=[0.5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "count=0; expected 1 to 1,000,000,000"),
        ({"count": 2.0}, r"count=2\.0; expected a whole number, 1 to 1,000,000,000"),
        ({"count": "2"}, "count='2'; expected a whole number, 1 to 1,000,000,000"),
        ({"count": True}, "count=True; expected a whole number"),
        ({"share": 1.5}, r"share=1\.5; expected a share in \[0, 1\]"),
        ({"share": float("nan")}, r"share=nan; expected a finite number, a share in \[0, 1\]"),
        ({"rate": 0}, "rate=0; expected more than 0 and at most 1,000,000,000 or None"),
        ({"rate": float("inf")}, "rate=inf; expected a finite number, more than 0 and at most 1,000,000,000 or None"),
        ({"rule": "best"}, "rule='best'; expected a number or one of 'auto'"),
        ({"choice": "c"}, "choice='c'; expected one of None, 'a', 'b'"),
        ({"choice": 3}, "choice=3; expected text or None, one of None, 'a', 'b'"),
        ({"part": 1}, "part=1; expected more than 0 and less than 1"),
        ({"bits": 9}, "bits=9; expected 1 to 8"),
        ({"flag": 1}, "flag=1; expected True or False"),
        ({"several": 0.5}, r"several=0\.5; expected a tuple"),
        ({"several": (0.5, 2)}, r"several=\(0\.5, 2\); expected a tuple whose members are each a share in \[0, 1\]"),
    ],
    ids=str,
)
def test_settings_that_do_not(change, message):
    with pytest.raises(RecipeError, match=f"mine: got {message}"):
        Settings(**change)


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"epochs": "3"}, {"momentum": 1}, {"learning_rate": 0}, {"weight_decay": -1}], ids=str
)
def test_a_training_is_checked_too(change):
    with pytest.raises(RecipeError, match=r"Training: got .*; expected"):
        Training(**change)


def test_a_setting_that_would_be_ignored_is_told():
    class Forgotten(Settings):
        epochs: int = 3

    with pytest.raises(RecipeError, match=r"'epochs' would be ignored.*@dataclass\(frozen=True, kw_only=True\)"):
        Forgotten()


@pytest.mark.parametrize("base", [Method, Defence])
def test_settings_are_checked_whether_or_not_a_class_calls_its_base(base):
    @dataclass(frozen=True, kw_only=True)
    class Blocks(base):
        name: ClassVar[str] = "blocks"
        block: int = 4

        def run(self, task): ...

        def __post_init__(self) -> None:
            if self.block < 1:
                raise RecipeError("too small")

    assert Blocks(block=2).block == 2
    with pytest.raises(RecipeError, match=r"blocks: got block='4'; expected a whole number"):
        Blocks(block="4")
    with pytest.raises(RecipeError, match="too small"):
        Blocks(block=0)


@pytest.mark.parametrize("base", [Method, Defence])
def test_a_recipe_without_a_name_is_told(base):
    @dataclass(frozen=True, kw_only=True)
    class Nameless(base):
        def run(self, task): ...

    with pytest.raises(RecipeError, match=r"which has no name; expected .* class Nameless\(\.\.\., name="):
        Nameless()


# --- names ------------------------------------------------------------------------------------------------------------


def plugins(monkeypatch, **values):
    """A registry with entry points; each value is a module and a name in it."""
    entries = [EntryPoint(name, value, GROUP) for name, value in values.items()]
    monkeypatch.setattr("hf_unlearnable.registry.entry_points", lambda group: entries)
    recipes: Recipes = Recipes("method", GROUP)
    recipes._searched = True  # not those of the package
    return recipes


def test_a_plugin_is_imported_when_it_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    recipes = plugins(monkeypatch, good="plugin_good:Good", missing="plugin_missing:X", other="plugin_good:Good")
    (tmp_path / "plugin_good.py").write_text("from test_recipes import add\n\nclass Good: ...\nadd('good', Good)\n")
    monkeypatch.setitem(sys.modules, "test_recipes", recipes)
    assert list(recipes) == ["good", "missing", "other"]
    assert "good" in recipes
    assert "plugin_good" not in sys.modules
    assert recipes.get("good").__name__ == "Good"
    with pytest.raises(PluginError, match=r"'missing' .*cannot be imported \(ModuleNotFoundError: .*mend it"):
        recipes.get("missing")
    with pytest.raises(PluginError, match=r"'other' .*no method of that name; expected a class .*name=\"other\""):
        recipes.get("other")
    with pytest.raises(RecipeError, match=r"got the method 'magic'; expected one of .*, other \(load_plugin brings"):
        recipes.get("magic")
    with pytest.warns(UserWarning, match="'missing'|'other'") as told:
        assert recipes.names() == ["good"]
    assert len(told) == 2
    with pytest.warns(UserWarning, match="'missing'"):
        assert recipes.find("missing") is None
    assert recipes.find("magic") is None


def test_a_name_is_given_once(monkeypatch):
    registry: Registry = plugins(monkeypatch, taken="json:dumps")
    registry.add("taken", len)
    registry.add("taken", len)  # the same definition again
    with pytest.raises(RecipeError, match="second method with the name 'taken'"):
        registry.add("taken", max)
    for name in ("a/b", "a:b", "a,b", "a b", ""):
        with pytest.raises(RecipeError, match="expected letters, digits"):
            registry.add(name, len)
    with pytest.warns(UserWarning, match="'taken' .*expected another name, since <built-in function len> has"):
        assert registry.names() == ["taken"]
    assert registry.get("taken") is len


def test_victims_have_names():
    try:

        @register_victim("nearly-vit")
        def nearly_vit(num_labels, channels):
            return small_vit(num_labels, channels)

        @register_victim("no-model")
        def no_model(num_labels, channels):
            return len

        assert {"nearly-vit", "small-resnet"} < set(available_victims())
        assert Surrogate("nearly-vit").build(5, 3, seed=0).channels == 3
        assert Surrogate("nearly-vit").image_size == 64
        with pytest.raises(PluginError, match=r"'no-model', which builds a builtin.*; expected a PreTrainedModel"):
            Surrogate("no-model").build(5, 3, seed=0)
        with pytest.raises(RecipeError, match="second victim with the name 'small-vit'"):
            register_victim("small-vit")(nearly_vit)
        with pytest.raises(RecipeError, match="second victim with the name 'knn'"):
            register_victim("knn")(nearly_vit)
        with pytest.raises(RecipeError, match="got 5 for the victim 'five'; expected a function"):
            register_victim("five")(5)
        with pytest.raises(RecipeError, match=r"nearly_vit.* for a name; .* write @register_victim\('my-model'\)"):
            register_victim(nearly_vit)
        assert set(CLASSICAL) == set(FITTED_AT_ONCE)
    finally:
        for name in ("nearly-vit", "no-model"):
            MODELS.remove(name)


# --- plugins ----------------------------------------------------------------------------------------------------------


def test_a_file_is_loaded_once(tmp_path):
    (tmp_path / "odd name.py").write_text("class Here: ...\n")
    plugin = load_plugin(tmp_path / "odd name.py")
    assert load_plugin(str(tmp_path / "odd name.py")) is plugin
    assert plugin.Here.__module__ in sys.modules
    assert load_plugin("json").dumps


def test_one_file_is_one_definition_however_it_is_imported(tmp_path, monkeypatch):
    (tmp_path / "twice_here.py").write_text(
        "from hf_unlearnable import Defence\n\n\nclass Twice(Defence, name='twice'):\n"
        "    def image(self, image):\n        return image\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        load_plugin(tmp_path / "twice_here.py")
        again = import_module("twice_here")
        assert _defences.get("twice") is again.Twice
    finally:
        _defences.remove("twice")


def test_plugins_that_cannot_be_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faulty.py").write_text("import no_such_dependency\n")
    (tmp_path / "raising.py").write_text("1 / 0\n")
    for plugin, message in {
        "nowhere.py": "'nowhere.py', where there is no file",
        "no_such.module": "'no_such.module', which is not installed; expected the name of a module that Python finds",
        "raising.py": r"cannot be imported \(ZeroDivisionError: division by zero\)",
        "faulty.py": r"cannot be imported \(ModuleNotFoundError: No module named 'no_such_dependency'\)",
    }.items():
        with pytest.raises(PluginError, match=message):
            load_plugin(plugin)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    with pytest.raises(PluginError, match=r"there is a file of that name here, write raising\.py"):
        load_plugin("raising")


def test_the_command_line_finds_modules_in_the_folder_where_it_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    (tmp_path / "plugin_lying_here.py").write_text("")
    assert _load(None) is None
    assert str(tmp_path) not in sys.path
    assert _load(["plugin_lying_here"]) == ["plugin_lying_here"]
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize(
    ("package", "registry", "base"),
    [(hf_unlearnable.methods, _methods, Method), (hf_unlearnable.defences, _defences, Defence)],
)
def test_a_new_file_in_the_folder_needs_no_other_edit(package, registry, base, tmp_path, monkeypatch):
    """Also in a folder of its own. They lie in a second folder of the package, not among those of the repository."""
    code = f"from {base.__module__} import {base.__name__} as Base\n\n"
    code += "class New(Base, name='{}'):\n    def batch(self, *given): ...\n"
    (tmp_path / "dropped_file.py").write_text(code.format("dropped"))
    (tmp_path / "dropped_family").mkdir()
    (tmp_path / "dropped_family" / "__init__.py").write_text("")
    (tmp_path / "dropped_family" / "member.py").write_text(code.format("member"))
    before = set(registry.names())
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "_searched", False)
    try:
        assert set(registry.names()) == before | {"dropped", "member"}
        assert registry.get("member").__module__ == f"{package.__name__}.dropped_family.member"
    finally:
        for name in ("dropped", "member"):
            registry.remove(name)
