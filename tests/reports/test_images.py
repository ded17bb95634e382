"""Pictures of protected images, as people are to see them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from hf_unlearnable.data.columns import Columns
from hf_unlearnable.reports.images import contact_sheet


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (255, 0, 0, 0)), ("LA", (0, 0))])
def test_what_can_be_seen_through_is_white_on_a_contact_sheet(mode, colour):
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["a"])})
    clear = Dataset.from_dict({"image": [Image.new(mode, (64, 64), colour)], "label": [0]}, features=features)
    file = io.BytesIO()
    contact_sheet(clear, file, Columns("image", "label"))
    assert (np.asarray(Image.open(file)) == 255).all()
