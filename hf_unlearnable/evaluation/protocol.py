"""What a thief gains: fresh victims trained on protected, clean and mixed data, tested on clean images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike

from accelerate import Accelerator
from datasets import Dataset

from hf_unlearnable.defences import Defence
from hf_unlearnable.errors import RecipeError, option, warn
from hf_unlearnable.evaluation.cases import CLEAN, CLEAN_PART, LEFT_OUT, MIX, PROTECTED, SEQUENTIAL
from hf_unlearnable.evaluation.opening import Opened
from hf_unlearnable.evaluation.report import Report
from hf_unlearnable.evaluation.side_by_side import Bench, Group, chosen_count, side_by_side
from hf_unlearnable.evaluation.thieves import Model, Thief, crossed_thieves, thieves_of_suite
from hf_unlearnable.evaluation.victims import Trial, draw_clean
from hf_unlearnable.files import local_path, require_writable
from hf_unlearnable.models.classical import Classical
from hf_unlearnable.progress import Progress
from hf_unlearnable.settings import Count, Seed, Share, Side, check_arguments
from hf_unlearnable.training.processes import default_accelerator, gather_objects, ordinary_torch, run_on_all
from hf_unlearnable.training.run import Training
from hf_unlearnable.version import versions

SEEDS = (101, 102, 103)  # none that a surrogate starts from by default

RATIOS = (0.0, 0.5, 1.0)


@check_arguments
@ordinary_torch()
def learnability(
    protected: Dataset,
    *,
    clean: Dataset,
    test: Dataset,
    victims: Sequence[Model] | Model | None = None,
    defences: Sequence[Defence | str] | Defence | str | None = None,
    trainings: Sequence[str] | str | None = None,
    suite: str | None = None,
    attack: Defence | str | None = None,
    others: Dataset | None = None,
    others_test: Dataset | None = None,
    ratios: Sequence[Share] | None = None,
    sequential: bool = False,
    training: Training = Training(),
    seeds: Sequence[Seed] = SEEDS,
    resolution: Side | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    accelerator: Accelerator | None = None,
    keep_in: str | PathLike[str] | None = None,
    num_proc: Count | None = 1,
    progress: bool = True,
) -> Report:
    """Train fresh victims and test them on clean images.

    Every victim, training, defence, ratio and seed with every other; or the thieves of a suite, which are chosen so
    that each is unlike the others.

    A ratio is the share of the rows that is protected. At 0 the victim is trained on the clean set, at 1 on the
    protected one, in between on a mixture, whose clean and protected rows are drawn class by class and disjoint (each
    image is in it once), and on the clean part of that mixture alone, without which the mixture says nothing. All with
    the same number of optimiser steps, that of the full set.

    With ``others`` the question is another one: whether a model learns one owner's images that lie among clean ones of
    other people. The owner's images, all of them one class, stand beside the others' classes; protected, clean, or left
    out altogether; and what counts is the recall of that class on clean images of the owner, beside its precision and
    the accuracy on the others.

    Args:
        protected: the released data set, made by this package or another tool.
        clean: the same rows in the same order, unprotected.
        test: clean images that nobody trained on, of the same size and classes.
        victims: models as ``Surrogate`` takes them, each trained from the weights that it builds, or ``"knn"``,
            ``"svm"``, ``"random-features"``, ``"hog"``, ``"hog-knn"``, ``"hog-svm"``, ``"simclr"``, which are fitted in
            one go; ``"small-resnet"`` when left out.
        defences: what the thief does against the protection, as ``Defence.parse`` reads it; to clean data too.
            ``"none"`` when left out. One that learns slowly trains for ``Defence.epochs_factor`` times as long.
        trainings: recipes by name, as ``Training.named`` has them; ``training`` itself when left out.
        suite: ``"quick"``, ``"standard"`` or ``"full"`` instead of those three, see ``thieves_of_suite``. Its first
            thief meets all ratios, the others only clean and protected sets; a defence that changes no image of these
            is left out.
        attack: of a suite alone: what its thief does who knows how the images were protected, such as
            ``MIUE.adaptive``; the best attack that is known, ``"class-clusters:1"``, when left out.
        others: clean images of other people, to train on beside the owner's; of one class where they have no labels:
            then thieves only tell the owner's images from all others.
        others_test: further ones that nobody trained on, of the same classes; a fifth of ``others`` when left out.
        ratios: shares of protected rows in [0, 1], with ``others`` of the owner's rows; 0, 0.5 and 1 when left out,
            with ``others`` 0 and 1.
        sequential: for each ratio in between, also train on the clean part first, and go on from there on the protected
            part alone, for a quarter of the epochs at a fifth of the learning rate.
        training: the victims' recipe; those with a name take epochs and batch size from it.
        seeds: one run of everything each.
        resolution: side in pixels of the square that all images are resampled to; when left out, the clean images' own
            size where they have one that the victims take, else as for ``Method.fit``.
        image_column: of all three data sets; may be left out when there is exactly one.
        label_column: likewise.
        accelerator: device, precision and processes, which share out the victims; a fresh one when left out. Folders
            must be on a disk that all processes see.
        keep_in: a folder in which the result of every victim is kept as soon as it is there, under a digest of all that
            it depends on. What lies there already is not trained again: a stopped measurement goes on, and measurements
            with the same clean data share their baselines. Sequential trainings keep the weights that they go on from.
        num_proc: processes that train side by side on this machine, each with its share of the threads: on a CPU two of
            one thread take about three quarters of the time of one of two. Each imports torch and holds the images.
            None for as many as there are threads, but one on a GPU or for a minute's work. A script that asks for more
            than one starts from ``if __name__ == "__main__":``, since each process imports it. The last digits of a
            figure may depend on the number of threads that a victim has.
        progress: show a bar, of the main process.

    Raises:
        DataError: data sets that do not belong together.
        RecipeError: an unknown name, a ratio out of range, something that is not installed, or nothing to do.
        SourceError: a victim that is not there.
        DivergenceError: a victim's loss left the finite numbers.
        OutputError: nothing can be kept in ``keep_in``.
        UnlearnableError: one of several processes was killed.

    Warns:
        UserWarning: each of ``Report.doubts``: the protected images are the clean ones, or look like other images;
            test images are among those that victims are trained on, which ``Report.test_seen`` counts; no test image
            shows a class; a defence changes no image, or was not tried with a victim.
    """
    accelerator = accelerator or default_accelerator()
    ratios = ratios_of(ratios, owner=others is not None)
    if others is None and others_test is not None:
        raise RecipeError("got images of others to test on and none to train on; expected both, or neither")
    if sequential and all(ratio in (0, 1) for ratio in ratios):
        raise RecipeError(
            f"got {option('sequential', True, '--sequential')} and no ratio between 0 and 1; expected one, such as "
            f"0.5, since it goes on from the clean part of a mixture"
        )
    thieves, left_out = chosen_thieves(victims, defences, trainings, suite, training, attack)
    if num_proc is not None and num_proc > 1 and accelerator.num_processes > 1:
        raise RecipeError(
            f"got {option('num_proc', num_proc)} in each of {accelerator.num_processes} processes that share the work "
            f"already; expected one or the other"
        )
    for name, given in (("ratios", ratios), ("seeds", seeds)):
        if not given:
            raise RecipeError(f"got no {name}; expected at least one")
    if sequential and (
        starting := [str(thief.defence) for thief in thieves if type(thief.defence).start is not Defence.start]
    ):
        raise RecipeError(
            f"got {option('sequential', True, '--sequential')} with the defence {starting[0]}, which replaces the "
            f"weights that a training starts from; expected one or the other"
        )
    if keep_in is not None:
        require_writable(local_path(keep_in))
    for thief in thieves:
        thief.require()
    opened = Opened.of(
        protected,
        clean,
        test,
        # Only where it counts: a model in memory may have no processor left to be asked.
        largest=0 if resolution else max(thief.victim.image_size for thief in thieves),
        others=others,
        others_test=others_test,
        resolution=resolution,
        image_column=image_column,
        label_column=label_column,
        progress=progress and accelerator.is_main_process,
    )
    sets, doubts = opened.sets, [*opened.doubts, *left_out]
    for ratio in ratios:
        drawn = (~draw_clean(sets["clean"].labels, ratio, 0, opened.owner_class)).sum()
        if 0 < ratio < 1 and drawn in (0, len(clean)):
            raise RecipeError(
                f"got the ratio {ratio:g}, which makes {drawn} of {len(clean)} images protected; expected a mixture of "
                f"protected and clean images, or 0 or 1"
            )
    idle = opened.idle(list(dict.fromkeys(thief.defence for thief in thieves)))
    if suite is None:
        doubts += [f"the defence {defence} changes no image, so it does nothing here" for defence in idle]
    else:
        thieves = [thief for thief in thieves if thief.defence not in idle]
    few = {
        thief.defence: thief.defence.clean_images
        for thief in thieves
        if thief.defence.clean_images > len(sets["clean"])
    }
    doubts += [
        f"the defence {defence} wants {wanted} clean images, and there are {len(sets['clean'])}: it had these"
        for defence, wanted in few.items()
    ]
    for doubt in doubts if accelerator.is_main_process else []:
        warn(doubt)
    planned = trials(
        thieves, ratios, seeds, sequential=sequential, mixtures_for_all=suite is None, owner=others is not None
    )
    groups = _assigned(planned, accelerator)
    with tempfile.TemporaryDirectory() as scratch:
        folder = local_path(keep_in or scratch).absolute()
        all_victims = opened.victims(accelerator, folder)
        total = sum(all_victims.steps(trial) for group in groups for _, trial, _ in group)
        count = num_proc or chosen_count(opened, total * training.batch_size, len(groups), accelerator)
        with Progress("victims", total, enabled=progress and accelerator.is_main_process) as bar:
            if count > 1:
                found = side_by_side(Bench.of(groups, opened, folder, accelerator), min(count, len(groups)), bar)
            else:
                found = run_on_all(
                    accelerator,
                    lambda: {
                        place: all_victims.result(trial, bar, keep_weights=keep_weights)
                        for group in groups
                        for place, trial, keep_weights in group
                    },
                )
        everything = {place: result for part in gather_objects(accelerator, found) for place, result in part.items()}
        results = tuple(everything[place] for place in range(len(planned)))
    classical = [thief.victim for thief in thieves if isinstance(thief.victim, Classical)]
    used = {name: text for victim in classical for name, text in victim.packages().items()}
    return Report(
        results=results,
        chance=opened.chance,
        images=len(sets["clean"]),
        test_images=len(sets["test"]),
        iterations=training.iterations(len(sets["clean"])),
        training=training.as_dict(),
        versions={**versions(), **used},
        doubts=tuple(doubts),
        trainings={thief.named: Training.named(thief.named, training).as_dict() for thief in thieves if thief.named},
        epochs_factors={
            thief.defence.name: thief.defence.epochs_factor for thief in thieves if thief.defence.epochs_factor > 1
        },
        suite=suite or "",
        owner=opened.owner,
        test_seen=opened.seen,
    )


def ratios_of(ratios: Sequence[float] | None, *, owner: bool) -> Sequence[float]:
    """Those that were given, or what is measured where none were; ``owner`` where it is one among others."""
    return ratios if ratios is not None else (0.0, 1.0) if owner else RATIOS


def chosen_thieves(
    victims: Sequence[Model] | Model | None = None,
    defences: Sequence[Defence | str] | Defence | str | None = None,
    trainings: Sequence[str] | str | None = None,
    suite: str | None = None,
    training: Training = Training(),
    attack: Defence | str | None = None,
) -> tuple[list[Thief], list[str]]:
    """The thieves of a measurement, and a sentence for what was left out; arguments as of ``learnability``.

    Raises:
        RecipeError: an unknown name, a suite beside other choices, an attack without a suite, or nobody.
    """
    if suite is not None:
        if (victims, defences, trainings) != (None, None, None):
            raise RecipeError(
                f"got the suite {suite!r} beside victims, defences or trainings of your own; expected one or the other"
            )
        return thieves_of_suite(suite, training, attack), []
    if attack is not None:
        raise RecipeError(
            f"got the attack {str(attack)!r} without a suite; expected both, or the attack among the defences"
        )
    models = ["small-resnet"] if victims is None else _listed(victims)
    chosen = ["none"] if defences is None else [defences] if isinstance(defences, (str, Defence)) else defences
    recipes = [] if trainings is None else [trainings] if isinstance(trainings, str) else trainings
    for name, given in (("victims", models), ("defences", chosen), ("trainings", recipes or trainings is None)):
        if not given:
            raise RecipeError(f"got no {name}; expected at least one")
    return crossed_thieves(models, recipes, chosen, training)


def trials(
    thieves: Sequence[Thief],
    ratios: Sequence[float] = RATIOS,
    seeds: Sequence[int] = SEEDS,
    *,
    sequential: bool = False,
    mixtures_for_all: bool = True,
    owner: bool = False,
) -> list[Trial]:
    """Every training of a measurement, in order; arguments as of ``learnability``.

    The first of the thieves alone meets mixtures without ``mixtures_for_all``, as in a suite and in the protocol.
    ``owner`` where it is one among others: without his images a model is trained too, since nothing else says what the
    others' images give by themselves; by the first of the thieves.
    """
    return [  # each once: the spread of a training and its copy would be zero
        Trial(thief, case, ratio, seed)
        for index, thief in enumerate(dict.fromkeys(thieves))
        for seed in dict.fromkeys(seeds)
        for case, ratio in [
            *_cases(
                [ratio for ratio in ratios if mixtures_for_all or index == 0 or ratio in (0, 1)],
                sequential and not isinstance(thief.victim, Classical),
            ),
            *([(LEFT_OUT, 0.0)] if owner and index == 0 else []),
        ]
    ]


def _listed(victims: Sequence[Model] | Model) -> Sequence[Model]:
    return list(victims) if isinstance(victims, Sequence) and not isinstance(victims, str) else [victims]


def _cases(ratios: Sequence[float], sequential: bool) -> Iterator[tuple[str, float]]:
    """Every case with its ratio, once."""
    for ratio in dict.fromkeys(ratios):
        if ratio == 0:
            yield CLEAN, ratio
        elif ratio == 1:
            yield PROTECTED, ratio
        else:
            yield MIX, ratio
            yield CLEAN_PART, ratio
            if sequential:
                yield SEQUENTIAL, ratio


def _assigned(planned: Sequence[Trial], accelerator: Accelerator) -> list[Group]:
    """What this process trains, each by itself, so that the number of processes changes no result.

    A clean part and what goes on from it belong together.
    """
    together: dict[Trial, Group] = {}
    goes_on = {replace(trial, case=CLEAN_PART) for trial in planned if trial.case == SEQUENTIAL}
    for place, trial in enumerate(planned):
        start = replace(trial, case=CLEAN_PART) if trial.case == SEQUENTIAL else trial
        together.setdefault(start, []).append((place, trial, trial in goes_on))
    return list(together.values())[accelerator.process_index :: accelerator.num_processes]
