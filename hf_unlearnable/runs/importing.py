"""Take over perturbations that another tool made: read their file, and make a run of them."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.torch import load_file

from hf_unlearnable.budget import Budget
from hf_unlearnable.errors import DataError, RecipeError, SourceError, first_line, option
from hf_unlearnable.files import local_path
from hf_unlearnable.protection.arrays import Layout, Per, Scale
from hf_unlearnable.protection.description import IMPORTED
from hf_unlearnable.protection.protection import Protection
from hf_unlearnable.runs.protected_run import ProtectedRun
from hf_unlearnable.runs.protecting import protect
from hf_unlearnable.settings import check_arguments

ENDINGS = (".npy", ".pt", ".pth", ".safetensors")


def read_noise(file: str | PathLike[str]) -> Any:
    """Open a file of perturbations; nothing in it is run.

    Args:
        file: ``.npy``, ``.pt`` or ``.pth`` with one tensor, or ``.safetensors`` with one.

    Returns:
        An array, mapped into memory, or a tensor.

    Raises:
        SourceError: there is no such file.
        DataError: damaged, of another kind, or without just one array.
    """
    path = local_path(file)
    if not path.is_file():
        raise SourceError(f"got {str(file)!r}, where there is no file; expected perturbations, {', '.join(ENDINGS)}")
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise DataError(f"got {str(file)!r}; expected a file that ends in {', '.join(ENDINGS)}")
    try:
        if kind == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        held = load_file(path) if kind == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise DataError(
            f"got {str(file)!r}, which cannot be read as an array ({first_line(error)}); expected nothing but numbers: "
            f"objects are not opened, since that runs code. Save the array alone, with numpy.save or torch.save"
        ) from error
    tensors = list(held.values()) if isinstance(held, Mapping) else [held]
    if len(tensors) != 1 or not isinstance(tensors[0], torch.Tensor):
        what = f"{len(tensors)} entries ({', '.join(map(str, list(held)[:5]))})" if isinstance(held, Mapping) else ""
        raise DataError(f"got {str(file)!r} with {what or type(held).__name__}; expected one tensor. Save it alone")
    return tensors[0]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """In place of a method in ``protect``: perturbations that are there already.

    Attributes:
        noise: as of ``Protection.from_arrays``, like the four after it.
        layout: see there.
        scale: see there.
        per: see there.
        clip: see there.
    """

    noise: Any
    layout: Layout | None = None
    scale: Scale | None = None
    per: Per | None = None
    clip: bool = False

    name = IMPORTED
    seed = 0  # nothing is drawn

    def parts(self) -> Mapping[str, float]:
        """No optimisation, which would take time."""
        return {}

    def check(self, surrogate: object = None, others: object = None) -> None:
        """Nothing: ``import_noise`` takes neither."""

    def fit(
        self,
        dataset: Dataset,
        *,
        budget: Budget,
        image_column: str | None,
        label_column: str | None,
        output_dir: Path,
        accelerator: Any,
        progress: bool,
        **unused: Any,
    ) -> Protection:
        """Write the protection; in one process, since there is nothing to share out.

        ``protect`` hands all settings of an optimisation on; ``import_noise`` has refused those of ``NOT_IMPORTED``.

        Raises:
            RecipeError: several processes.
            UnlearnableError: as ``Protection.from_arrays`` raises them.
        """
        if accelerator.num_processes > 1:
            raise RecipeError(f"got {accelerator.num_processes} processes; expected one, since nothing is optimised")
        shutil.rmtree(output_dir.parent, ignore_errors=True)  # of a process that was killed, perhaps with other noise
        return Protection.from_arrays(
            self.noise,
            dataset,
            budget=budget,
            layout=self.layout,
            scale=self.scale,
            per=self.per,
            clip=self.clip,
            image_column=image_column,
            label_column=label_column,
            output_dir=output_dir,
            progress=progress,
        )


@check_arguments
def import_noise(
    noise: Any,
    dataset: Dataset | str | PathLike[str],
    output: str | PathLike[str],
    *,
    budget: Budget | str | float,
    layout: Layout | None = None,
    scale: Scale | None = None,
    per: Per | None = None,
    clip: bool = False,
    **options: Any,
) -> ProtectedRun:
    """Make a run of perturbations that another tool made, as ``hf-unlearnable import`` does.

    ``measure``, ``verify``, ``report`` and ``push`` take it like one that ``protect`` wrote; its card and its page say
    that the perturbations were made elsewhere.

    Args:
        noise: a file as ``read_noise`` takes it, an array or a tensor.
        dataset: as of ``protect``.
        output: likewise.
        budget: as of ``Protection.from_arrays``, like the four after it.
        layout: see there.
        scale: see there.
        per: see there.
        clip: see there.
        options: of ``protect``, as far as they say what is read and how it is written.

    Raises:
        RecipeError: options of an optimisation.
        UnlearnableError: as ``read_noise``, ``Protection.from_arrays`` and ``protect`` raise them.
    """
    if wrong := sorted(set(options) & NOT_IMPORTED):
        raise RecipeError(f"got {option(wrong[0], options[wrong[0]])} for perturbations that are made; leave it out")
    read = read_noise(noise) if isinstance(noise, (str, PathLike)) else noise
    recipe = Imported(noise=read, layout=layout, scale=scale, per=per, clip=clip)
    made = protect(dataset, output, method=recipe, budget=budget, **options)
    assert made is not None  # in one process
    return made


# What has no meaning for perturbations that are there, one for each row.
NOT_IMPORTED = {"cache", "checkpoint_every", "duplicates", "hold_out", "labels", "method", "on_unseen", "others"}
NOT_IMPORTED |= {"others_split", "resolution", "skip_unreadable", "surrogate", "unlabelled"}
