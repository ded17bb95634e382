"""The floor plan: which room may import from which, and no circles."""

from __future__ import annotations

import ast

import pytest
from helpers.datasets import ROOT

PACKAGE = ROOT / "hf_unlearnable"

# A room may import from the rooms in lines above its own, and within itself; "ground" are the files beside the rooms.
FLOORS = [
    {"ground"},
    {"data", "modeling", "information"},
    {"models"},
    {"protection", "defences"},
    {"training"},
    {"methods", "evaluation"},
    {"metrics", "runs"},
    {"reports"},
    {"benchmark"},
    {"hub"},
    {"app"},
    {"cli"},
    {"door"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The last is what the cards of published models import: it offers names of the room above, and no room goes through it.
DOORS = {"hf_unlearnable", "hf_unlearnable.__main__", "hf_unlearnable.modeling"}


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module):
    if module in DOORS:
        return "door"
    first = module.split(".")[1]
    return first if (PACKAGE / first).is_dir() else "ground"


def imports_of(source):
    """The modules of the package that a module imports, in every form: also for type checkers, also in functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "hf_unlearnable"}


ARROWS = {name: imports_of(path.read_text()) for name, path in MODULES.items()}


def test_all_forms_of_import_are_seen():
    source = (
        "from typing import TYPE_CHECKING\n"
        "import hf_unlearnable.budget\n"
        "if TYPE_CHECKING:\n    from hf_unlearnable import registry\n"
        "def work():\n    from hf_unlearnable.hub import push\n    from hf_unlearnable import MIUE\n"
    )
    assert imports_of(source) == {
        "hf_unlearnable.budget",
        "hf_unlearnable.registry",
        "hf_unlearnable.hub",
        "hf_unlearnable",
    }


@pytest.mark.parametrize("module", [name for name in MODULES if name not in DOORS])
def test_no_arrow_runs_up(module):
    own = room_of(module)
    for other in ARROWS[module]:
        room = room_of(other)
        assert room == own or FLOOR[room] < FLOOR[own], f"{module} imports {other}: {own} may not import from {room}"


def test_no_circle():
    """Every module can be read after those that it imports."""
    left = {name: set(arrows) - {name} for name, arrows in ARROWS.items()}
    while free := {name for name, arrows in left.items() if not arrows & left.keys()}:
        left = {name: arrows for name, arrows in left.items() if name not in free}
    assert not left, f"these modules import one another: {sorted(left)}"


def test_the_ground_floor_is_small():
    """At most eight files beside the doors, and no room without a sentence that says what it holds."""
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert len(files) <= 8
    for room in PACKAGE.iterdir():
        if (room / "__init__.py").exists():
            assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), room
            assert room.name in FLOOR, f"give the room {room.name} a floor"


# The surfaces call what they do as the work itself is called; every metric is a page of its own.
SURFACES = {"app", "cli", "metrics"}


def test_a_public_function_has_a_name_of_its_own():
    """Two of one name are taken for each other by whoever reads a call of them, or looks for it."""
    places = {}
    for module, path in MODULES.items():
        for node in ast.parse(path.read_text()).body if room_of(module) not in SURFACES else ():
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    assert not {name: modules for name, modules in places.items() if len(modules) > 1}
