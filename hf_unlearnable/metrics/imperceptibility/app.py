"""The Space: two images to compare."""

from __future__ import annotations

from typing import Any

import evaluate
import gradio
from evaluate.utils.gradio import parse_readme

metric = evaluate.load("imperceptibility.py")


def compute(released: Any, original: Any) -> dict[str, float]:
    """The figures of the metric, or its error as a message on the page."""
    if released is None or original is None:
        raise gradio.Error("expected two images")
    try:
        return metric.compute(predictions=[released], references=[original])
    except ValueError as error:
        raise gradio.Error(str(error)) from error


gradio.Interface(
    fn=compute,
    inputs=[gradio.Image(type="pil", label="released"), gradio.Image(type="pil", label="original")],
    outputs=gradio.JSON(),
    title="Metric: imperceptibility",
    description=metric.info.description,
    article=parse_readme("README.md"),
).launch()
