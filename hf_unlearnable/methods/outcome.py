"""The result of a fit: where it goes, written as a whole or not at all, and found again."""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_unlearnable.data.image_set import Originals
from hf_unlearnable.errors import CheckpointError, SourceError
from hf_unlearnable.files import put, require_empty
from hf_unlearnable.protection.class_patterns import write_patterns
from hf_unlearnable.protection.description import Description
from hf_unlearnable.protection.layout import private_cache
from hf_unlearnable.protection.protection import Protection, is_kept
from hf_unlearnable.training.checkpoints import Checkpoints, start_afresh

STORED = 256  # perturbations in one record batch of the store


@dataclass(frozen=True)
class Outcome:
    """Where the result of a fit goes.

    Attributes:
        output: an absolute path, or None for the cache.
        checkpoints: of the fit, an absolute path, or None for no checkpoints.
    """

    output: Path | None
    checkpoints: Path | None

    def check_free(self) -> None:
        """See that nothing is there yet.

        Raises:
            OutputError: the output holds something.
        """
        if self.output is not None:
            require_empty(self.output)

    def place(self, digest: str) -> Path:
        """The folder of a protection with this digest."""
        return self.output or private_cache() / digest

    def write(
        self,
        levels: NDArray[Any],
        originals: Originals,
        description: Description,
        patterns: tuple[torch.Tensor, float] | None,
        scratch: Path,
        kept: Checkpoints,
    ) -> Path:
        """Write a protection, and move it to where it stays.

        Args:
            levels: (N, C, H, W), as ``Budget.quantise`` made them.
            originals: what the N images are recognised by.
            description: without the digests of what is written.
            patterns: for unseen images, with what they share; see ``write_patterns``.
            scratch: an empty folder, on the disk of the output if that can be.
            kept: told the digest before anything is moved.

        Raises:
            OutputError: the output holds something.
        """
        written = scratch / "protection"
        written.mkdir(mode=0o700)
        if patterns is not None:
            description = replace(description, patterns=write_patterns(written, *patterns, description.budget))
        parts = (slice(start, start + STORED) for start in range(0, len(levels), STORED))
        fitted = Protection.write(written, ((originals.digests[part], levels[part]) for part in parts), description)
        folder = self.place(fitted.digest)
        self.check_free()
        kept.announce(fitted.digest)
        if self.output is not None or not is_kept(folder, fitted.digest):
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                put(written, folder, private=True)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                fitted.save_pretrained(folder)  # checkpoints on another disk than the output
        return folder

    def finished(self, kept: Checkpoints) -> Protection | None:
        """The result of an earlier process that came to its end, or was killed just before it had noted that.

        Raises:
            CheckpointError: it is not there any more, damaged, or there is another one.
        """
        digest = kept.finished or kept.announced
        if digest is None:
            return None
        folder = self.place(digest)
        if kept.finished is None and not folder.exists():
            return None
        try:
            protection = Protection(folder)
        except SourceError as error:
            raise CheckpointError(
                f"the fit in {str(self.checkpoints)!r} came to its end, and its result is not there: {error}. Name the "
                f"output that it was written to, or {start_afresh()}"
            ) from error
        if protection.digest != digest:
            raise CheckpointError(
                f"got {str(folder)!r}, which holds another protection than the one that was fitted; expected the "
                f"digest {digest}. Remove {str(self.checkpoints)!r} to fit again"
            )
        kept.finish(digest)
        return protection


def share_copies(levels: NDArray[Any], originals: Originals) -> None:
    """Give the copies of an image the perturbation (C, H, W) of the first one, whatever their labels; in place."""
    first = originals.first_copies
    for row in np.flatnonzero(first != np.arange(len(first))):
        levels[row] = levels[first[row]]
