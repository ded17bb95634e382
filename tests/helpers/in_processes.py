"""What ``test_processes`` starts in two processes: every method held to the contract, measured, killed."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from datasets import load_from_disk

from helpers.datasets import FASHION_MNIST
from helpers.methods import quick
from hf_unlearnable import EM, MIUE, CheckpointError, DataError, Training, available_methods, learnability
from hf_unlearnable.cli.demo import demo
from hf_unlearnable.methods import Task, fitting, labelling
from hf_unlearnable.methods.alternating import shared_schedule
from hf_unlearnable.training import checkpoints
from hf_unlearnable.training.checkpoints import DESCRIPTION, Checkpoints
from hf_unlearnable.training.processes import Shard, default_accelerator, gather_objects, run_on_all


def brief(name: str, **changes):
    return quick(name, **{"steps": 3, "guide_accuracy": 0, **changes})


@dataclass(frozen=True)
class CountingTask(Task):
    """Counts how often each row is stored."""

    @cached_property
    def moved(self) -> np.ndarray:
        return np.zeros(len(self.images))

    def store(self, rows, perturbations):
        self.moved[rows] += 1
        super().store(rows, perturbations)


class Counting(EM):
    """Tells which rows were moved, and how often, and whether the surrogates of all processes stay the same."""

    def run(self, task: Task) -> None:
        counting = CountingTask(**{one.name: getattr(task, one.name) for one in fields(task)})
        super().run(counting)
        moved = counting.moved
        everywhere = np.zeros(len(task.shard.labels))
        everywhere[task.shard.rows] = moved
        task.findings["moved"] = task.shard.sum(torch.from_numpy(everywhere)).tolist()
        learner = task.checkpoints._parts["alternation"]()["learners"][0]["network"]
        guide = task.checkpoints._parts["em: guide 1"]()["network"]
        # Batch normalisation's statistics are brought together with the next step, and when a training ends.
        weights = [one.flatten().float() for name, one in learner.items() if "running" not in name]
        weights += [one.flatten().float() for one in guide.values()]
        apart = task.accelerator.gather(torch.cat(weights)[None])
        task.findings["apart"] = float((apart - apart[0]).abs().max())


def contract(data, folder: Path) -> dict:
    """Fit every method; what the main process has to say."""
    said = {}
    for name in available_methods():
        protection = brief(name).fit(data, output_dir=folder / name, progress=False)
        figures = protection.verify(data, data.map(protection, desc=None))
        said[name] = {"violations": figures.violations, "unchanged": figures.unchanged, "images": len(protection)}
    said["again"] = brief("em").fit(data, output_dir=folder / "again", progress=False).digest
    said["first"] = json.loads((folder / "em" / "protection.json").read_text())["digest"]
    current = brief("beo", mode="self", sigma=0.3, sigma_of="current", optimiser="adamw")
    current.fit(data, output_dir=folder / "self", progress=False)
    MIUE.paper(epochs=1, inner_steps=1, batch_size=16).fit(data, output_dir=folder / "paper", progress=False)
    shared_schedule.LEAST = 2
    crafted = MIUE(epochs=2, batch_size=16, variants=2, targeted_weight=0, gather_features=True)
    crafted.fit(data, output_dir=folder / "gathered", progress=False, on_unseen="craft")
    shared_schedule.MOST_STEPS, shared_schedule.WINDOW = 20, 2
    shared_schedule.LEARNED = 10.0  # learned at once, and all stop together
    learned = EM(batch_size=16).fit(data, output_dir=folder / "learned", progress=False)
    said["passes"] = learned.about["findings"]["settings"]["epochs"]
    counted = Counting(
        epochs=2, batch_size=16, pattern_share=0.5, targeted_weight=1, guides=1, guide_epochs=1, guide_accuracy=0
    ).fit(data, output_dir=folder / "counted", progress=False)
    return {**said, **counted.about["findings"]}


def measured(data, folder: Path) -> dict:
    """The same figures in every process."""
    report = learnability(
        data,
        clean=data,
        test=data,
        training=Training(epochs=1, batch_size=16),
        seeds=[1, 2, 3],
        ratios=[0, 0.5],
        defences=["none", "validation:0.2"],
        sequential=True,
        keep_in=folder / "victims",
        progress=False,
    )
    return report.as_dict()


def faults(data, folder: Path) -> dict:
    """An error of one process ends all of them, with its message."""
    accelerator = default_accelerator()

    def work() -> None:
        if accelerator.process_index == 1:
            raise DataError("row 7: unreadable")

    try:
        run_on_all(accelerator, work)
    except DataError as error:
        told = str(error)
    try:
        brief("em").fit(data.select([0, 3]), output_dir=folder / "few", progress=False)
    except ValueError as error:
        return {"told": told, "few": str(error)}
    return {}


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there")


def full_disks(data, folder: Path) -> dict:
    """What each process raises where the disk of one of them is full, or a file of the main one is damaged."""
    signal.alarm(120)  # a process that waits for ever is ended
    accelerator = default_accelerator()
    rank = accelerator.process_index
    (damaged := folder / "damaged").mkdir(exist_ok=True)
    accelerator.wait_for_everyone()
    (damaged / DESCRIPTION).write_text("{")
    checkpoints.ASK_EVERY = 1
    method, kept = brief("em"), {"checkpoint_every": 0, "progress": False}
    attempts = {
        "clusters": (0, labelling, "clusters", {"labels": "clusters:2"}),
        "perturbations": (0, fitting, "allocate_memmap", {}),
        "result": (0, fitting.Outcome, "write", {}),
        "part of a checkpoint": (1, torch, "save", {"checkpoint_dir": folder / "part"}),
        "its description": (0, Checkpoints, "_describe", {"checkpoint_dir": folder / "description"}),
        "damaged": (None, torch, "save", {"checkpoint_dir": damaged}),
    }
    told = {}
    for name, (where, owner, function, options) in attempts.items():
        with mock.patch.object(owner, function, side_effect=FULL) if rank == where else nullcontext():
            try:
                method.fit(data.remove_columns("label") if name == "clusters" else data, **kept, **options)
            except (OSError, CheckpointError) as error:
                told[name] = gather_objects(accelerator, f"{type(error).__name__}: {error}")
    signal.alarm(0)
    return told


def killed(data, folder: Path) -> dict:
    """Fit with checkpoints; the first time the last process dies in the middle."""
    tick, ticks = Checkpoints.tick, []

    def counted(self):
        tick(self)
        ticks.append(None)
        if len(ticks) == 25 and self.shard.rank == 1 and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), 9)

    Checkpoints.tick = counted
    options = {"checkpoint_every": 0, "progress": False}
    method = MIUE(epochs=6, batch_size=16, guides=1, guide_epochs=1, guide_accuracy=0)
    return {"digest": method.fit(data, checkpoint_dir=folder / "kept", **options).digest, "ticks": len(ticks)}


def alone(data, folder: Path) -> dict:
    """The same fit, undisturbed."""
    method = MIUE(epochs=6, batch_size=16, guides=1, guide_epochs=1, guide_accuracy=0)
    return {"digest": method.fit(data, output_dir=folder / "undisturbed", progress=False).digest}


def gathering(data, folder: Path) -> dict:
    """What processes tell one another is the same everywhere, in the order of the rows."""
    labels = np.array(data["label"])
    shard = Shard(default_accelerator(), labels)
    rows = torch.from_numpy(shard.rows)
    target = np.zeros((len(labels), 2), np.int8) if shard.is_main else None
    shard.write(lambda part: np.stack([shard.rows[part]] * 2, axis=1).astype(np.int8), target, (2,))
    joined = shard.gather_with_grad(rows.float()[: 3 + shard.rank].requires_grad_())
    joined.sum().backward()
    return {
        "gathered": shard.gather(rows).tolist(),
        "written": target[:, 0].tolist() if target is not None else [],
        "joined": len(joined),
        "mean": shard.mean(float(shard.rank)),
        "largest": shard.largest(shard.rank),
    }


def shown(data, folder: Path) -> dict:
    """The demo, of which only the main process speaks."""
    said = io.StringIO()
    with redirect_stdout(said):
        demo(folder / "demo", FASHION_MNIST, images=60, budget="8/255", seeds=1, epochs=1, seed=0)
    return {"said": gather_objects(default_accelerator(), said.getvalue())}


def work(folder: Path, *names: str) -> None:
    """Do parts of this module, and keep what the main process has to say."""
    result = {name: globals()[name](load_from_disk(str(folder / "data")), folder) for name in names}
    if default_accelerator().is_main_process:
        (folder / "said.json").write_text(json.dumps(result))


if __name__ == "__main__":
    work(Path(sys.argv[1]), *sys.argv[2:])
