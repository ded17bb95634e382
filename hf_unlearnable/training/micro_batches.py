"""Batches that are larger than the memory of a device: passed through in parts, gradients added up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn

from hf_unlearnable.errors import DataWarning, warn, worded

T = TypeVar("T")


class MicroBatches:
    """In how many parts a batch is passed through a network; more when the device runs out of memory.

    Losses between the images of a batch, and batch normalisation, see a part at a time: the result is not that of the
    whole batch to the bit.

    Args:
        accelerator: its ``gradient_accumulation_steps`` is the number of parts to begin with.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.parts: int = accelerator.gradient_accumulation_steps

    def attempt(self, work: Callable[[int], T], rows: int) -> T:
        """Do ``work(parts)`` for a batch of ``rows`` rows; where memory runs out, again with twice as many parts.

        Raises:
            RuntimeError: of ``work``; out of memory, if parts have two rows already, or if there are several processes,
                since one cannot repeat a step alone.
        """
        while True:
            try:
                return work(max(1, min(self.parts, rows // 2)))
            except RuntimeError as error:
                if not should_reduce_batch_size(error) or self.parts > rows // 4:
                    raise
                if self.accelerator.num_processes > 1:
                    raise type(error)(
                        f"{error}\nGot too little memory for a batch of {rows} images on one of several processes; "
                        f"expected it to fit. Use a smaller batch_size, or "
                        + worded(
                            python="Accelerator(gradient_accumulation_steps=2)",
                            shell="accelerate launch --gradient_accumulation_steps 2",
                        )
                    ) from error
            self.parts *= 2
            clear_device_cache(garbage_collection=True)
            warn(
                f"the device ran out of memory at a batch of {rows} images; from here on each batch is passed through "
                f"in {self.parts} parts, which takes longer and changes the result a little",
                DataWarning,
            )

    def split(self, rows: int, parts: int, device: torch.device) -> list[torch.Tensor]:
        """The places of the rows in each part; neighbours stay together."""
        return list(torch.arange(rows, device=device).tensor_split(parts))

    def backward(self, loss: torch.Tensor, share: float, **options: Any) -> None:
        """Add the gradient of a part's mean loss, where the part is ``share`` of the batch."""
        # Accelerate divides by the number of its own accumulation steps.
        self.accelerator.backward(loss * (share * self.accelerator.gradient_accumulation_steps), **options)

    def gathering(self, network: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Around the passes of a part: processes add up their gradients once, with the last part."""
        if last or self.accelerator.num_processes == 1:
            return nullcontext()
        context: AbstractContextManager[Any] = self.accelerator.no_sync(network)
        return context


def retry_in_halves(work: Callable[[slice], torch.Tensor], rows: int) -> torch.Tensor:
    """``work`` for all rows at once, or for half and half where that does not fit the device.

    For what treats every row by itself, so that the parts make no difference.

    Raises:
        RuntimeError: of ``work``; out of memory for a single row.
    """

    def attempt(start: int, stop: int) -> torch.Tensor:
        try:
            return work(slice(start, stop))
        except RuntimeError as error:
            if not should_reduce_batch_size(error) or stop - start < 2:
                raise
        clear_device_cache(garbage_collection=True)
        middle = (start + stop) // 2
        return torch.cat([attempt(start, middle), attempt(middle, stop)])

    return attempt(0, rows)
