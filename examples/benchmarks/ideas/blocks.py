"""The cosine transform of JPEG's blocks, and the part of it that compression keeps longest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.fft import dct
from torch.nn import functional as F

from hf_unlearnable.methods.waves import BLOCK

KEPT = 4  # the largest sum of a pair of frequencies; JPEG at quality 10 rounds most of what is beyond to nothing


def blocks_changed(images: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Images (B, C, H, W) whose blocks' cosine transforms (B, C, H/8, 8, W/8, 8) a function has changed."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % BLOCK, 0, -height % BLOCK))
    basis = torch.from_numpy(dct(np.eye(BLOCK), axis=0, norm="ortho")).to(images)
    blocks = padded.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK))
    found = torch.einsum("ui,...hiwj,vj->...huwv", basis, blocks, basis)
    back = torch.einsum("ui,...huwv,vj->...hiwj", basis, change(found), basis)
    return back.flatten(-2).flatten(-3, -2)[..., :height, :width]


def low(images: torch.Tensor, *, signed: bool = False) -> torch.Tensor:
    """The low frequencies of the blocks of images (B, C, H, W), without their means; ``signed``: 1 or -1 of each."""
    total = torch.arange(BLOCK)[:, None] + torch.arange(BLOCK)
    kept = ((total > 0) & (total <= KEPT)).to(images)[:, None, :]
    return blocks_changed(images, lambda found: (found.sign() if signed else found) * kept)
