"""Where the classes come from that a protection tells apart: a column of any kind, one owner, or clusters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from numpy.typing import NDArray

from hf_unlearnable.data.columns import Classes, Columns, find_columns, label_candidates, unlabelled
from hf_unlearnable.data.image_set import ImageSet
from hf_unlearnable.data.reading import class_numbers, labelled
from hf_unlearnable.errors import DataError, DataWarning, RecipeError, blank, number_of, option, warn
from hf_unlearnable.lazy import require_extra
from hf_unlearnable.methods.captions import CAPTIONS, caption_column, embed_captions, require_text_model
from hf_unlearnable.methods.deriving import FREQUENT, LARGEST, automatic, derive, source_of
from hf_unlearnable.models.built_in import MODELS
from hf_unlearnable.models.classical import SelfSupervised
from hf_unlearnable.models.contrastive import contrastive_features
from hf_unlearnable.models.surrogate import Surrogate
from hf_unlearnable.training.batches import load
from hf_unlearnable.training.inference import embed
from hf_unlearnable.training.processes import from_main

AUTO, NONE, CLUSTERS = "auto", "none", "clusters"

CLUSTERED = (CLUSTERS, CAPTIONS)  # made by k-means

SIMCLR = SelfSupervised.name  # in the place of a model

SIDE = 32  # pixels a side at which images are looked at without a model

COMPONENTS = 32  # principal components of the features that clusters are sought in

FORMS = (
    f"{AUTO}, {NONE}, {CLUSTERS}:K or {CLUSTERS}:K,MODEL, {CAPTIONS}:K,MODEL or {CAPTIONS}:K,MODEL,COLUMN, "
    f"{LARGEST} or {LARGEST}:COLUMN, {FREQUENT} or "
    f"{FREQUENT}:COLUMN"
)


@dataclass(frozen=True)
class Labels:
    """Where classes come from.

    Attributes:
        kind: ``"auto"``: the label column; where there is none, derived from objects or several labels; and one class
            where there is nothing of that. ``"none"``: one class; ``"clusters"`` of images, or of their
            ``"captions"``; ``"largest"``: the category of the largest object of an image, or of what has the most
            pixels in its mask; ``"frequent"``: the most frequent of its labels.
        count: of clusters.
        column: that ``"largest"`` or ``"frequent"`` derives classes from, or of the captions; empty for the only one
            there is.
        model: what gives the features that are clustered: folder or Hub id of an image classifier; ``"simclr"`` for a
            network that learns them from the images themselves, see ``contrastive_features``; empty for features that
            nothing was trained for, see ``gradients``. Of captions a text model, which has to be named.
    """

    kind: str = AUTO
    count: int = 0
    model: str = ""
    column: str = ""

    @classmethod
    def parse(cls, text: str | Labels) -> Labels:
        """Read ``auto``, ``none``, ``clusters:10``, ``clusters:10,MODEL``, ``captions:10,MODEL``, ``largest:COLUMN``, …

        Raises:
            RecipeError: anything else, or fewer than two clusters.
        """
        if isinstance(text, Labels):
            return text
        kind, _, rest = text.strip().partition(":")
        number, _, model = rest.partition(",")
        model, _, column = model.partition(",") if kind == CAPTIONS else (model, "", "")
        if kind in (AUTO, NONE) and not rest:
            return cls(kind)
        if kind in (LARGEST, FREQUENT):
            return cls(kind, column=rest)
        if kind not in CLUSTERED or not number.isdecimal() or int(number) < 2:
            raise RecipeError(f"got the labels {text!r}; expected {FORMS}, K from 2 on")
        return cls(kind, int(number), model, column)

    def found_in(self, dataset: Dataset, label_column: str | None = None) -> Labels:
        """The same where it is clear what is meant: ``"auto"`` without labels and with something to derive them from.

        Raises:
            DataError: no such column.
            RecipeError: captions without a model.
        """
        if self.kind in (LARGEST, FREQUENT):
            return replace(self, column=source_of(dataset, self.kind, self.column))
        if self.kind == CAPTIONS and not self.model:
            raise RecipeError(
                f"got {option('labels', str(self))}; expected a text model too, a folder or Hub id: "
                f"{option('labels', f'{self},MODEL')}"
            )
        if self.kind == CAPTIONS:
            return replace(self, column=caption_column(dataset, self.column))
        if self.kind != AUTO or label_column is not None or label_candidates(dataset):
            return self
        chosen = automatic(dataset)
        return self if chosen is None else Labels(chosen[0], column=chosen[1])

    def require(self) -> None:
        """See that all is there by which classes are made, before anybody looks at images.

        Raises:
            MissingExtraError: scikit-learn is not installed, and clusters are wanted.
            SourceError: no such model.
        """
        if self.kind in CLUSTERED:
            require_extra("sklearn", "sorting images into clusters")
        if self.kind == CAPTIONS and self.model:
            require_text_model(self.model)
        elif self.kind == CLUSTERS and self.model not in ("", SIMCLR) and self.model not in MODELS:
            Surrogate(self.model).require(f"the folder or Hub id of a trained image classifier, or {SIMCLR}")

    @property
    def meaning(self) -> str:
        """What tells the classes apart, in words for people."""
        return {
            CLUSTERS: f"{self.count} clusters of images that look alike",
            CAPTIONS: f"{self.count} clusters of images whose captions are alike",
            LARGEST: f"the category of what is largest in an image, in the column {self.column}",
            FREQUENT: f"the most frequent label of an image, in the column {self.column}",
            NONE: "nothing: all images are one owner's",
        }.get(self.kind, "the label column")

    def __str__(self) -> str:
        if self.kind in (LARGEST, FREQUENT) and self.column:
            return f"{self.kind}:{self.column}"
        if self.kind not in CLUSTERED:
            return self.kind
        return f"{self.kind}:{','.join(filter(None, (str(self.count), self.model, self.column)))}"


@dataclass(frozen=True)
class Labelled:
    """The classes of a set.

    Attributes:
        columns: of the dataset; without a label column where labels were made.
        classes: what the numbers mean.
        numbers: (N,) of the rows.
        how: they were made, as ``Labels`` words it; empty where the dataset has them.
    """

    columns: Columns
    classes: Classes
    numbers: NDArray[np.int64]
    how: str = ""

    @property
    def made(self) -> str:
        """A digest of labels that were made, which the digests of images do not tell; empty where none were."""
        if self.how in ("", NONE):
            return ""
        return hashlib.blake2b(np.ascontiguousarray(self.numbers).data, digest_size=16).hexdigest()

    def crafts(self, on_unseen: str | None, one_class: bool) -> bool:
        """Whether images that are added later get a pattern; arguments as of ``Method.fit`` and ``Method``.

        Raises:
            RecipeError: nobody could tell their class.
        """
        if on_unseen is None:
            return self.how == NONE and one_class
        if on_unseen == "craft" and self.how not in ("", NONE):
            raise RecipeError(
                f"got {option('on_unseen', 'craft', '--craft-unseen')} with {option('labels', self.how)}; expected "
                f"labels that later images have too: a column, or {option('labels', NONE)}, which gives all images of "
                f"one owner the same pattern"
            )
        return on_unseen == "craft"


def label(
    dataset: Dataset,
    labels: Labels,
    image_column: str | None,
    label_column: str | None,
    *,
    seed: int,
    one_class: bool,
    scratch: Callable[[], AbstractContextManager[Path]],
    accelerator: Accelerator,
    progress: bool = False,
) -> Labelled:
    """Find or make the classes of a dataset; in several processes the same in all.

    Args:
        dataset: N rows.
        labels: where they come from.
        image_column: may be left out when there is exactly one.
        label_column: likewise; only for ``"auto"``.
        seed: of the clusters.
        one_class: whether the method can do without labels.
        scratch: makes a folder for what does not fit in memory.
        accelerator: its main process makes clusters.
        progress: show bars, of the main process.

    Raises:
        DataError: columns, labels or images that cannot be used, or too few images for so many clusters.
        RecipeError: a label column beside labels that are made.
        MissingExtraError: scikit-learn is not installed, and clusters are wanted.
        SourceError: no such model.

    Warns:
        DataWarning: nothing was found to take for labels, so that all images are one class.
    """
    columns = unlabelled(dataset, image_column)
    given, labels = labels, labels.found_in(dataset, label_column)
    if labels.kind == AUTO:
        columns = find_columns(dataset, image_column, label_column, needs_label=not one_class)
        how = NONE if columns.label is None else ""
        if how and accelerator.is_main_process:
            warn(
                f"got no labels among the columns {', '.join(dataset.features)}: all images are taken as one owner's. "
                f"Say so with {option('labels', NONE)}, name a column with {blank('label_column', 'NAME')}, or let "
                f"labels be made: {option('labels', f'{CLUSTERS}:10')}",
                DataWarning,
            )
        return Labelled(columns, Classes.of(dataset, columns), class_numbers(dataset, columns), how)
    if label_column is not None:
        raise RecipeError(
            f"got {option('label_column', label_column)} beside {option('labels', str(labels))}; expected one or the "
            f"other: a column that is there, or labels that are made"
        )
    if labels.kind == NONE:
        return Labelled(columns, Classes.of(dataset, columns), class_numbers(dataset, columns), NONE)
    if labels.kind not in CLUSTERED:
        derived = derive(dataset, labels.kind, labels.column)
        if given.kind == AUTO and accelerator.is_main_process:
            rest = f"; {derived.rest} images without one, or alone with theirs, are one more" if derived.rest else ""
            warn(
                f"got no labels, but the column {labels.column!r}: {len(derived.names)} classes, by {labels.meaning}"
                f"{rest}. Say so with {option('labels', str(labels))}, or take all images as one "
                f"owner's: {option('labels', NONE)}",
                DataWarning,
            )
        return Labelled(columns, Classes(derived.names), derived.numbers, str(labels))
    if len(dataset) < 2 * labels.count:
        raise DataError(
            f"got {len(dataset)} images for {labels.count} clusters; expected at least two images a cluster. Ask for "
            f"fewer, or for one class: {option('labels', NONE)}"
        )

    def sorted_into_clusters() -> NDArray[np.int64]:
        with scratch() as folder:
            device = accelerator.device
            return clusters(dataset, columns, labels, seed=seed, scratch=folder, device=device, progress=progress)

    numbers = from_main(accelerator, sorted_into_clusters)
    names = [f"cluster {index + 1}" for index in range(labels.count)]
    return Labelled(columns, Classes(names), numbers, str(labels))


def is_one_class(
    dataset: Dataset, labels: Labels | str = AUTO, image_column: str | None = None, label_column: str | None = None
) -> bool:
    """Whether all images are of one class, by these labels; rows without one, which are left out or refused, aside.

    Raises:
        DataError: columns or labels that cannot be used.
    """
    labels = Labels.parse(labels).found_in(dataset, label_column)
    if labels.kind in (LARGEST, FREQUENT):
        return len(derive(dataset, labels.kind, labels.column).names) == 1
    if labels.kind != AUTO:
        return labels.kind == NONE
    columns = find_columns(dataset, image_column, label_column, needs_label=False)
    if columns.label is None:
        return True
    rows, _ = labelled(dataset, columns)
    return len(rows) > 0 and len(np.unique(class_numbers(rows, columns))) == 1


def clusters(
    dataset: Dataset,
    columns: Columns,
    labels: Labels,
    *,
    seed: int,
    scratch: Path,
    device: torch.device,
    progress: bool = False,
) -> NDArray[np.int64]:
    """Sort images by what they look like or their captions say: k-means on the leading components of their features.

    Args:
        dataset: N rows.
        columns: of it.
        labels: of ``"clusters"`` or ``"captions"``: K, and what gives the features.
        seed: of k-means, and of a network that learns the features.
        scratch: a folder for the pixels.
        device: to compute features on.
        progress: show bars.

    Returns:
        (N,) from 0 to K - 1, the largest cluster first, each with two images or more.

    Raises:
        DataError: images that cannot be read, or so alike that there are fewer clusters.
        MissingExtraError: scikit-learn is not installed.
        SourceError: no such model.
    """
    require_extra("sklearn", "sorting images into clusters")
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    if labels.kind == CAPTIONS:
        features = embed_captions(dataset, labels.column, labels.model, device, progress=progress)
    else:
        what, size = "looking at images", _side(labels)  # "reading" them is what the fit does afterwards
        images = ImageSet.read(dataset, columns, size=size, scratch=scratch, progress=progress, what=what)
        features = _embedding(labels, seed, device, progress)(images)
    centred = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    components = min(COMPONENTS, *centred.shape)
    reduced = PCA(components, svd_solver="full").fit_transform(centred)
    found = KMeans(labels.count, n_init=4, random_state=seed % 2**32).fit(reduced)
    sizes = np.bincount(found.labels_, minlength=labels.count)
    order = np.argsort(-sizes, kind="stable")
    if sizes.min() < 2:
        raise DataError(
            f"got {labels.count} clusters of which the smallest has {number_of(int(sizes.min()), 'image')}; expected "
            f"two or more in each. Ask for fewer"
        )
    numbers: NDArray[np.int64] = np.argsort(order)[found.labels_]
    return numbers


def _side(labels: Labels) -> int:
    return Surrogate(labels.model).image_size if labels.model not in ("", SIMCLR) else SIDE


def _embedding(
    labels: Labels, seed: int, device: torch.device, progress: bool
) -> Callable[[ImageSet], NDArray[np.float64]]:
    """Images -> features (N, D)."""

    def trained(images: ImageSet) -> NDArray[np.float64]:
        network = Surrogate(labels.model).build(2, images.pixels.shape[1], seed).to(device)
        return embed(network, images, device).cpu().double().numpy()

    def untrained(images: ImageSet) -> NDArray[np.float64]:
        return np.stack([gradients(pixels) for pixels in images.pixels])

    def self_taught(images: ImageSet) -> NDArray[np.float64]:
        seen, _ = load(images, np.arange(len(images)), torch.device("cpu"))
        return contrastive_features(seen, seed=seed, progress=progress)(seen).double().numpy()

    return {"": untrained, SIMCLR: self_taught}.get(labels.model, trained)


def gradients(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Histograms of oriented gradients (Dalal & Triggs 2005) of the brightness of an image (C, H, W): cells of 8x8."""
    from skimage.feature import hog  # here, so that a command that needs none of it starts quickly

    found: NDArray[np.float64] = hog(pixels.mean(axis=0), pixels_per_cell=(8, 8), cells_per_block=(2, 2))
    return found
