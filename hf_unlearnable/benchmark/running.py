"""Doing the work of a comparison: fits and cells one by one, shared by as many processes as were started."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from accelerate import Accelerator
from datasets import Dataset

from hf_unlearnable.benchmark.cells import Cell, Elsewhere, Protected, cells_of
from hf_unlearnable.benchmark.config import Config
from hf_unlearnable.benchmark.datasets import Sets, pinned_sets
from hf_unlearnable.benchmark.fits import digest_released, fit, fit_again, verified
from hf_unlearnable.benchmark.metering import COSTS, Meter
from hf_unlearnable.benchmark.protocol import protocol_digest
from hf_unlearnable.benchmark.records import (
    CELLS,
    CLAIMS,
    CONFIG,
    PROTECTED,
    SETS,
    CellRecord,
    Record,
    SetRecord,
    kept,
    require_config,
)
from hf_unlearnable.data.sources import load_source
from hf_unlearnable.errors import DataError, OutputError, UnlearnableError, number_of, warn, where_raised
from hf_unlearnable.evaluation.opening import Opened
from hf_unlearnable.evaluation.thieves import Thief
from hf_unlearnable.files import atomic_write, held, local_path, private_folder
from hf_unlearnable.progress import Progress
from hf_unlearnable.runs.audit_subject import published_at
from hf_unlearnable.runs.folder import RunFolder
from hf_unlearnable.training.processes import default_accelerator

R = TypeVar("R", bound=Record)

PAUSE = 1.0  # seconds between two looks at what other processes are doing


@dataclass
class Work:
    """All that a comparison needs, planned.

    Attributes:
        config: what is compared.
        folder: of the run: ``cells`` and ``sets``, a document for each that is finished; ``protected``, the released
            images and, private, what undoes them.
        sets: the datasets, open, by name.
        protected: all protected sets.
        cells: all cells.
        say: told what is begun.
        failures: what could not be done, and why.
        compared: the digests of the sets of elsewhere whose images were looked at.
    """

    config: Config
    folder: Path
    sets: dict[str, Sets]
    protected: list[Protected]
    cells: list[Cell]
    say: Callable[[str], None] = field(default=lambda text: None)
    failures: dict[str, str] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)

    @classmethod
    def plan(cls, config: Config, folder: Path, say: Callable[[str], None] = lambda text: None) -> Work:
        """Open the datasets and list what is to be done.

        Raises:
            SourceError: a dataset is not there.
            DataError: one that cannot be opened, or is another than the protocol's.
            RecipeError: a thief needs what is not installed.
        """
        sets = {data.name: pinned_sets(data) for data in config.datasets}
        protected: list[Protected] = []
        cells: list[Cell] = []
        for opened in sets.values():
            own = config.sets_of(opened.data)
            thieves = config.thieves_of(opened.data)
            attacks = [config.attack_on(one) for one in own]
            for thief in dict.fromkeys([*thieves, *attacks]):
                try:
                    thief.require()
                except UnlearnableError as error:
                    raise type(error)(f"thieves: {thief.name} with {thief.defence}: {error}") from error
            protected += own
            cells += cells_of(config.protocol, opened.data, own, thieves, attacks, config.ratios, config.seeds)
        return cls(config, folder, sets, protected, cells, say)

    def set_file(self, one: Protected) -> Path:
        """Where the document of a protected set lies."""
        return self.folder / SETS / f"{one.digest}.json"

    def cell_file(self, cell: Cell) -> Path:
        """Where the document of a cell lies."""
        return self.folder / CELLS / f"{cell.digest}.json"

    def run_folder(self, one: Protected) -> RunFolder:
        """Where a fit lies."""
        return RunFolder(self.folder / PROTECTED / one.digest)

    def released(self, one: Protected) -> Dataset:
        """The released images of a finished set."""
        if isinstance(one.method, Elsewhere):
            return load_source(published_at(one.method.source), one.method.split)
        return self.run_folder(one).dataset

    def finished(self, file: Path, kind: type[R]) -> R | None:
        """What is kept of a piece of work under this protocol; None if it is to be done, or done again."""
        record = kept(file, kind)
        if record is not None and record.protocol != protocol_digest(self.config.protocol):
            warn(f"{str(file)!r} was measured under another protocol; it is measured again")
            return None
        return record

    def made(self, one: Protected) -> bool:
        """Whether a set needs no fit: it is finished, and its images are there as long as a cell needs them."""
        if self.finished(self.set_file(one), SetRecord) is None:
            return False
        if isinstance(one.method, Elsewhere) or self.run_folder(one).is_complete:
            return True
        return all(self.finished(self.cell_file(cell), CellRecord) for cell in self._grouped[group_name(one)])

    @property
    def _groups(self) -> list[Protected | Sets]:
        """What shares images to train on: what has none that are protected, and every protected set."""
        return [*self.sets.values(), *self.protected]

    @cached_property
    def _grouped(self) -> dict[str, list[Cell]]:
        """The cells of every protected set, and those without one of every dataset."""
        groups: dict[str, list[Cell]] = {group_name(group): [] for group in self._groups}
        for cell in self.cells:
            groups[group_name(cell.protected or self.sets[cell.data.name])].append(cell)
        return groups

    @property
    def open_work(self) -> tuple[list[Protected], list[Cell]]:
        """What is not finished."""
        return (
            [one for one in self.protected if not self.made(one)],
            [cell for cell in self.cells if self.finished(self.cell_file(cell), CellRecord) is None],
        )

    def do(self, *, worker: int = 0, progress: bool = False) -> None:
        """Do all that is not finished, beside other processes that do the same; return when nothing is left.

        Every piece is claimed by a lock on a file, which the system gives back when a process ends, however it does.
        A piece that cannot be done is left out, told at once and raised at the end: the others of a night are not lost.

        Args:
            worker: the number of this process: each begins at another protected set.
            progress: show bars.

        Raises:
            UnlearnableError: pieces that cannot be done.
        """
        self.failures.clear()
        accelerator = default_accelerator()
        (self.folder / CLAIMS).mkdir(exist_ok=True)
        groups = self._groups
        start = worker * max(1, len(groups) // 4) % len(groups)
        groups = groups[start:] + groups[:start]
        finished: set[str] = set()  # groups, so that a look at what is left reads no file twice

        while len(finished) < len(groups):
            moved = False
            for group in groups:
                name = group_name(group)
                if name in finished:
                    continue
                left = True
                with self._going_on(str(group) if isinstance(group, Protected) else name) as failed:
                    left, did = self._do_group(group, accelerator, progress)
                    moved = moved or did
                left = left and not failed
                if not left:
                    finished.add(name)
            if not moved and len(finished) < len(groups):
                time.sleep(PAUSE)
        if self.failures:
            raise UnlearnableError(
                f"{number_of(len(self.failures), 'piece')} of work could not be done, and all others are: "
                + "; ".join(f"{what}: {why}" for what, why in self.failures.items())
            )

    def _do_group(self, group: Protected | Sets, accelerator: Accelerator, progress: bool) -> tuple[bool, bool]:
        """Do what of a group nobody else is at: whether something is left, and whether something was done."""
        protected = group if isinstance(group, Protected) else None
        data = group.data
        did = False
        if protected is not None:
            self._compare(protected)
        if protected is not None and not self.made(protected):
            with self._claimed(protected.digest) as mine:
                if not mine:
                    return True, False
                if not self.made(protected):
                    self._protect(protected, accelerator, progress)
                    did = True
        opened: Opened | None = None
        left = False
        for cell in self._grouped[group_name(group)]:
            if str(cell) in self.failures or self.finished(self.cell_file(cell), CellRecord) is not None:
                continue
            with self._claimed(cell.digest) as mine:
                if not mine:
                    left = True
                    continue
                if self.finished(self.cell_file(cell), CellRecord) is not None:
                    continue
                did = True
                with self._going_on(str(cell)) as failed:
                    opened = opened or self.opened(data.name, protected)
                    self.say(str(cell))
                    self.measured(cell, opened, accelerator, progress).write(self.folder / CELLS)
                if failed:
                    opened = None  # it may have left the images in another state
        return left, did

    def _compare(self, one: Protected) -> None:
        """See, once, that what another tool released is what was measured before; on the Hub if there is work left.

        Raises:
            DataError: it is not.
        """
        if not isinstance(one.method, Elsewhere) or one.digest in self.compared:
            return
        self.compared.add(one.digest)
        cells = self._grouped[group_name(one)]
        if one.method.public and all(self.finished(self.cell_file(cell), CellRecord) for cell in cells):
            return  # nothing of it is needed, and the Hub may be out of reach
        earlier = self.finished(self.set_file(one), SetRecord)
        if earlier is not None and digest_released(one, self.released(one)) != earlier.released:
            raise DataError(
                f"got other released images in {one.method.source!r} than those that were measured; give them a name "
                f"of their own, and both stand in the table"
            )

    @contextmanager
    def _going_on(self, what: str) -> Iterator[list[str]]:
        """Note an error that ends the block, and go on behind it; gives a list that then holds it.

        Methods, defences and victims of others raise what they like. What the system raises, such as that a disk is
        full, would end every further piece too, and is passed on.
        """
        noted: list[str] = []
        try:
            yield noted
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, UnlearnableError):
                raise
            noted.append(str(error) if isinstance(error, UnlearnableError) else where_raised(error))
            self.failures[what] = noted[0]
            self.say(f"Failed: {what}: {noted[0]}")

    @contextmanager
    def _claimed(self, name: str) -> Iterator[bool]:
        """Whether this process alone is at a piece of work while the block runs."""
        file = self.folder / CLAIMS / name
        file.touch()
        with ExitStack() as stack:
            try:
                stack.enter_context(held(file))
                mine = True
            except OutputError:
                mine = False
            yield mine

    def opened(self, name: str, protected: Protected | None) -> Opened:
        """The sets that a model is trained and tested on; the clean one for the protected one where there is none."""
        sets = self.sets[name]
        thieves: Sequence[Thief] = [cell.trial.thief for cell in self.cells if cell.data == sets.data]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # which column is taken was said when it was opened first
            return Opened.of(
                self.released(protected) if protected is not None else sets.train,
                sets.train,
                sets.test,
                # Only where it counts: a model in memory may have no processor left to be asked.
                largest=0 if sets.data.resolution else max(thief.victim.image_size for thief in thieves),
                resolution=sets.data.resolution,
                image_column=sets.data.image_column,
                label_column=sets.data.label_column,
            )

    def measured(self, cell: Cell, opened: Opened, accelerator: Accelerator, progress: bool) -> CellRecord:
        """Train and test the model of a cell."""
        meter, victims = Meter(), opened.victims(accelerator)
        with Progress(str(cell), victims.steps(cell.trial), enabled=progress) as bar:
            result = victims.trained(cell.trial, bar)
        thieves = self.config.thieves_of(cell.data)
        return CellRecord(
            identity=cell.identity,
            protocol=protocol_digest(self.config.protocol),
            victim=result.victim,
            defence=result.defence,
            epochs=list(result.epochs),
            picked=result.picked,
            chance=opened.chance,
            images=len(opened.sets["clean"]),
            test_images=len(opened.sets["test"]),
            test_seen=opened.seen,
            set=cell.protected.digest if cell.protected else "",
            place=thieves.index(cell.trial.thief) if cell.trial.thief in thieves else None,
            **meter.read(),
        )

    def _protect(self, one: Protected, accelerator: Accelerator, progress: bool) -> None:
        """Fit, release, read back, compare, and keep what was found; a fit that was killed goes on.

        Raises:
            BudgetError: released images outside the budget.
            DataError: images of other rows; or it was finished before, its images are gone, and others came of it now.
        """
        sets = self.sets[one.data.name]
        self.say(f"fit {one}")
        meter = Meter()
        earlier = self.finished(self.set_file(one), SetRecord)
        if earlier is not None:  # its images are gone
            fit_again(self.run_folder(one), one, earlier, sets.train, accelerator, progress)
            return
        goes_on = self.run_folder(one).root.exists()
        fit(self.run_folder(one), one, sets.train, accelerator, progress)
        took = meter.read()
        if goes_on:
            took |= dict.fromkeys(COSTS)
        released = self.released(one)
        record = SetRecord(
            identity=one.identity,
            protocol=protocol_digest(self.config.protocol),
            name=one.name,
            seed=None if isinstance(one.method, Elsewhere) else one.method.seed,
            adaptive=one.adaptive,
            released=digest_released(one, released),
            images=len(released),
            verification=verified(one, sets.train, released).as_dict(),
            theory=self._theory(one) if self.config.theory else {},
            elsewhere=isinstance(one.method, Elsewhere),
            **took,
        )
        record.write(self.folder / SETS)

    def _theory(self, one: Protected) -> dict[str, float | None]:
        from hf_unlearnable.evaluation.theory import theory

        opened = self.opened(one.data.name, one)
        return asdict(theory(opened.parts["protected"], opened.parts["clean"]))


def group_name(group: Protected | Sets) -> str:
    """What tells a group of cells from others: those of a protected set, or those of a dataset without any."""
    return group.digest if isinstance(group, Protected) else group.data.name


def run(
    config: Config,
    output: str | Path,
    *,
    text: str = "",
    worker: int = 0,
    progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Work:
    """Compare methods: fit, train, test, and keep every cell; go on where an earlier call was stopped.

    Any number of processes may do this with the same folder at once, on machines that see one disk: each cell is the
    work of one of them, and how many there are changes no figure.

    Args:
        config: what is compared.
        output: the folder of the run.
        text: the configuration as it was written, to be kept in the folder.
        worker: the number of this process.
        progress: show bars.
        say: told what is begun.

    Raises:
        OutputError: the folder holds the run of another configuration.
        UnlearnableError: as the parts raise them.
    """
    folder = local_path(output).absolute()
    require_config(folder, text)
    work = Work.plan(config, folder, say)
    private_folder(folder / PROTECTED)
    if text:
        atomic_write(folder / CONFIG, text)
    work.do(worker=worker, progress=progress)
    return work
