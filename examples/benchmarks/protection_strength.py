"""How strongly each recipe protects, for how much computing.

    python examples/benchmarks/protection_strength.py                      # everything that is not there yet (hours)
    python examples/benchmarks/protection_strength.py --set photo-patches --recipe mi-ue
    python examples/benchmarks/protection_strength.py --table              # only print what is there

Every run is one file: the report of ``learnability`` with the fit's processor time. A run whose file exists is not
repeated, and nothing is fitted or trained twice (data/protections, data/victims): a stopped benchmark goes on where it
was, and all recipes share the victims of the clean data.

Data: the first 3,000 training and 3,000 test images of Fashion-MNIST; 4,000 and 2,000 colour patches of photographs.
The full size is ``full_size.py``, for a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import (
    ALL_SETS,
    ANOTHER_FIT,
    RECIPES,
    SETS,
    fitted,
    kept,
    load,
    of_recipe,
    options,
    parse,
    size,
    victim_seeds,
)
from result_files import ResultFile, place, read_results
from tables import NONE, differences, markdown, percent, told

from hf_unlearnable import Budget, Method, Protection, Training, learnability
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED, SEQUENTIAL

SCRIPT = Path(__file__).stem


def run(
    script: str,
    name: str,
    recipe: str,
    budget: Budget,
    arguments: argparse.Namespace,
    recipes: Mapping[str, Method] = RECIPES,
    go_on: bool = False,
) -> None:
    """Fit, protect, measure and write one result file; with ``go_on`` a fit that was stopped is gone on with."""
    experiment = of_recipe(
        script,
        name,
        recipe,
        budget,
        arguments,
        recipes,
        ratios=tuple(sorted(arguments.ratio)),
        victims=tuple(arguments.victim),
        fit=arguments.fit,
        settings={"sequential": arguments.sequential, "surrogate": arguments.surrogate},
    )
    if place(experiment).exists():
        return
    train, test = load(name, size(name, arguments))
    folder, seconds = fitted(name, recipe, budget, train, arguments.surrogate, recipes, arguments.fit, go_on)
    protection = Protection.from_pretrained(folder)
    report = learnability(
        train.map(protection),
        clean=train,
        test=test,
        victims=arguments.victim,
        ratios=arguments.ratio,
        sequential=arguments.sequential,
        training=Training(epochs=arguments.epochs),
        seeds=victim_seeds(arguments),
        keep_in=kept("victims"),
    )
    told_of_fit = ("budget", "method", "surrogates", "verification", "findings")
    figures = {
        "fit_seconds": seconds,
        "protection": {key: protection.about[key] for key in told_of_fit},
        "report": report.as_dict(),
    }
    ResultFile(experiment, figures).write()
    print(f"\n{name}, {recipe}, {budget}: fitted in {seconds} s\n{report}\n", flush=True)


def table(results: Sequence[ResultFile]) -> str:
    """Every victim of every run, as Markdown."""
    cases = (CLEAN_PART, MIX, SEQUENTIAL)
    head = ["set", "images", "recipe", "budget", "fit", "fit, s", "victim", "epochs"]
    head += [CLEAN, PROTECTED, "protected, peak epoch", "clean half alone", "half protected", "half, sequential"]
    lines = []
    for one in results:
        about, report = one.experiment, one.report
        first = [about.dataset, about.images, about.recipe, about.budget, about.fit]
        seconds = one.figures["fit_seconds"]
        first.append(NONE if seconds is None else f"{seconds:.0f}")
        for victim in report.victims:
            cells = [percent(report, victim, CLEAN), percent(report, victim, PROTECTED)]
            cells += [percent(report, victim, PROTECTED, "peak"), *(percent(report, victim, case) for case in cases)]
            lines.append([*first, victim, about.epochs, *cells])
    return markdown(head, lines)


def mixtures(results: Sequence[ResultFile]) -> str:
    """Of the runs with mixtures, how far each ends from its clean half alone, seed by seed, as Markdown."""
    head = ["set", "images", "budget", "recipe", "fit", "epochs", "victims", "clean half alone"]
    head += ["half protected: difference", "clean half first: difference", "all protected"]
    lines = []
    for one in results:
        about, report = one.experiment, one.report
        if MIX not in report.cases:
            continue
        first = [about.dataset, about.images, about.budget, about.recipe, about.fit, about.epochs, len(report.seeds)]
        measured = [told(differences(report, case), "+.1f") for case in (MIX, SEQUENTIAL)]
        lines.append([*first, percent(report, None, CLEAN_PART), *measured, percent(report, None, PROTECTED)])
    return markdown(head, lines)


def main(
    script: str = SCRIPT,
    recipes: Mapping[str, Method] = RECIPES,
    *,
    text: str | None = __doc__,
    victims: Sequence[str] = ("small-resnet", "small-vgg"),
    ratios: Sequence[float] = (0.0, 0.5, 1.0),
    sequential: bool = False,
    surrogate: str | None = None,
    images: int = 3000,
    epochs: int = 12,
    small: Mapping[str, Method] | None = None,
    go_on: bool = False,
) -> None:
    """The command, for other recipes and with other defaults too; ``small`` are the recipes of ``--tiny``."""
    parser = options(text, epochs=epochs)
    parser.add_argument("--set", choices=ALL_SETS, action="append", help=f"default: {' and '.join(SETS)}")
    parser.add_argument("--recipe", choices=recipes, action="append", help="default: all")
    parser.add_argument("--budget", action="append", help="default: 8/255")
    parser.add_argument("--images", type=int, default=images, help="training images of Fashion-MNIST")
    parser.add_argument("--surrogate", default=surrogate, help=f"default: {surrogate or 'that of the recipe'}")
    parser.add_argument("--victim", action="append", help=f"default: {' and '.join(victims)}")
    parser.add_argument("--ratio", type=float, action="append", help=f"of protected rows; default: {list(ratios)}")
    parser.add_argument("--sequential", action="store_true", help="also clean images first, protected ones afterwards")
    parser.add_argument("--fit", type=int, default=1, help=ANOTHER_FIT)
    parser.set_defaults(sequential=sequential)
    arguments = parse(parser)
    recipes = small if arguments.tiny and small else recipes
    arguments.victim = arguments.victim or list(victims)
    arguments.ratio = arguments.ratio or list(ratios)
    if not arguments.table:
        for budget in arguments.budget or ["8/255"]:
            for name in arguments.set or SETS:
                for recipe in arguments.recipe or recipes:
                    run(script, name, recipe, Budget.parse(budget), arguments, recipes, go_on)
    found = read_results(script)
    print(table(found), mixtures(found), sep="\n\n")


if __name__ == "__main__":
    main()
