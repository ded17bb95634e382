"""How far released images are from their originals, and how visible that is."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from skimage.metrics import structural_similarity

from hf_unlearnable.budget import WHITE, Budget
from hf_unlearnable.data.pixels import split_alpha, to_array
from hf_unlearnable.errors import DataError, RecipeError
from hf_unlearnable.metrics.inputs import OfImages
from hf_unlearnable.metrics.lpips import MIN_SIDE, Distance, load_lpips
from hf_unlearnable.protection.verification import compare

_DESCRIPTION = """
The distance between released images and their originals: the largest change of a pixel, the Euclidean length of the
change, and figures for how visible it is: PSNR, SSIM and the colour difference CIEDE2000 over several scales
(scikit-image), and LPIPS (torchmetrics) where its weights are on the machine.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions (list of images): released images: Pillow images of mode L or RGB, or uint8 arrays (H, W) or (H, W, 3).
        Of LA, RGBA and (H, W, 4) the colour is measured, and not the alpha.
    references (list of images): the originals, in the same order and of the same sizes.
    lpips (str or callable, optional): "auto" (default): LPIPS by AlexNet where torchmetrics, torchvision and the
        weights are on this machine and the images have at least 31 pixels a side, else none; "alex", "vgg" or
        "squeeze": by this network, and an error where it cannot be; None: none; or a perceptual distance of two float
        tensors (1, 3, H, W) in [-1, 1]. Nothing is downloaded.

Returns:
    linf (float): largest change of any value of any image, in levels of 255.
    l2 (float): mean Euclidean length of an image's change, in levels of 255.
    mean_change (float): mean absolute change of a value, in levels of 255.
    unchanged (int): images that equal their originals.
    psnr (float): mean peak signal-to-noise ratio of the changed images, in dB; only if there are any.
    delta_e (float): mean colour difference, over scales from grain to blotches, of pictures of 640 pixels a side; 0 for
        equal images, about 1 is just seen side by side.
    ssim (float): mean structural similarity at the images' own size, 1 for equal images; only for images of at least 3
        pixels a side. It falls with the fineness of a pattern, and hardly sees blotches.
    lpips (float): mean perceptual distance, 0 for equal images; see above.

Examples:
    >>> import numpy as np
    >>> from hf_unlearnable import load_metric
    >>> imperceptibility = load_metric("imperceptibility")
    >>> original = np.full((8, 8), 100, dtype=np.uint8)
    >>> results = imperceptibility.compute(predictions=[original + 8], references=[original])
    >>> results["linf"], results["l2"], results["mean_change"], round(results["psnr"], 2)
    (8.0, 64.0, 8.0, 30.07)
    >>> round(results["ssim"], 3)
    0.997
    >>> imperceptibility.compute(predictions=[original], references=[original], lpips=lambda a, b: (a - b).abs().sum())
    {'linf': 0.0, 'l2': 0.0, 'mean_change': 0.0, 'unchanged': 1, 'delta_e': 0.0, 'ssim': 1.0, 'lpips': 0.0}
"""

_CITATION = """
@article{wang2004image,
  title = {Image Quality Assessment: From Error Visibility to Structural Similarity},
  author = {Wang, Zhou and Bovik, Alan C. and Sheikh, Hamid R. and Simoncelli, Eero P.},
  journal = {IEEE Transactions on Image Processing},
  volume = {13},
  number = {4},
  year = {2004}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class Imperceptibility(OfImages, evaluate.Metric):
    """L-inf, L2, PSNR, colour difference, SSIM and, where its weights are, LPIPS."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": datasets.Image(), "references": datasets.Image()}),
        )

    def _compute(self, predictions: Any, references: Any, lpips: str | Distance | None = "auto") -> dict[str, float]:
        pairs = [
            (to_array(original), to_array(released)) for original, released in zip(references, predictions, strict=True)
        ]
        verified = compare(pairs, Budget(WHITE))
        pairs = [(split_alpha(original)[0], split_alpha(released)[0]) for original, released in pairs]
        lengths = [Budget(WHITE, "l2").measure(original[None], released[None])[0] for original, released in pairs]
        results: dict[str, float] = {
            "linf": verified.max_perturbation,
            "l2": float(np.mean(lengths)),
            "mean_change": verified.mean_perturbation,
            "unchanged": verified.unchanged,
        }
        if verified.psnr is not None:
            results["psnr"] = verified.psnr
        assert verified.delta_e is not None  # it was made just now
        results["delta_e"] = verified.delta_e
        side = min(min(original.shape[1:]) for original, _ in pairs)
        if side >= 3:
            results["ssim"] = float(np.mean([_similarity(*pair) for pair in pairs]))
        if (distance := _distance(lpips, side)) is not None:
            with torch.no_grad():
                distances = [
                    float(distance(_perceptual(original), _perceptual(released))) for original, released in pairs
                ]
            results["lpips"] = float(np.mean(distances))
        return results


def _similarity(original: Any, released: Any) -> float:
    window = min(7, *(side - 1 + side % 2 for side in original.shape[1:]))
    return float(structural_similarity(original, released, channel_axis=0, data_range=WHITE, win_size=window))


def _distance(lpips: str | Distance | None, side: int) -> Distance | None:
    """What is asked for, for images of at least ``side`` pixels; None where nothing is, or not at any price."""
    if not isinstance(lpips, str):
        return lpips
    if side < MIN_SIDE and lpips != "auto":
        raise DataError(f"got images of {side} pixels a side for lpips={lpips!r}; expected at least {MIN_SIDE}")
    if lpips != "auto":
        return load_lpips(lpips)
    try:
        return load_lpips() if side >= MIN_SIDE else None
    except RecipeError:
        return None


def _perceptual(image: Any) -> torch.Tensor:
    return torch.tensor(image, dtype=torch.float32).expand(3, -1, -1)[None] / (WHITE / 2) - 1
