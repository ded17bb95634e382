"""Results that nobody measured, to see how they are written down and shown."""

from __future__ import annotations

from result_files import Experiment, ResultFile

from hf_unlearnable import Report
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, MIX, PROTECTED, SEQUENTIAL, case_of
from hf_unlearnable.evaluation.results import Result

MEASURED = {
    CLEAN: (0.8, 0.82),
    CLEAN_PART: (0.78, 0.8),
    MIX: (0.77, 0.77),
    SEQUENTIAL: (0.5, 0.7),
    PROTECTED: (0.3, 0.4),
}


def made_report(cases=None, defence="none", **changes) -> Report:
    """Victims with seeds from 101 on, whose first epoch is a tenth better than their last one where protected."""
    results = []
    for case, values in (MEASURED if cases is None else cases).items():
        for seed, last in enumerate(values, start=101):
            epochs = (last + 0.1, last) if case == PROTECTED else (last, last)
            own = case_of(case).ratio
            results.append(Result("small-resnet", case, 0.5 if own is None else own, defence, seed, epochs))
    given = {"chance": 0.1, "images": 3000, "test_images": 3000, "iterations": 552, "training": {"epochs": 12}}
    return Report(**{"results": tuple(results), "versions": {}, **given, **changes})


def made_experiment(**changes) -> Experiment:
    given = {
        "script": "protection_strength",
        "dataset": "fashion-mnist",
        "images": 3000,
        "method": "mi-ue",
        "recipe": "mi-ue",
        "budget": "linf:8",
        "ratios": (0.0, 0.5, 1.0),
        "epochs": 12,
        "victims": ("small-resnet",),
        "seeds": (101, 102),
        "fit": 1,
        "settings": {"sequential": True, "surrogate": None},
    }
    return Experiment(**{**given, **changes})


def made_result(cases=None, **changes) -> ResultFile:
    report = made_report(cases).as_dict()
    return ResultFile(made_experiment(**changes), {"fit_seconds": 12.4, "protection": {}, "report": report})
