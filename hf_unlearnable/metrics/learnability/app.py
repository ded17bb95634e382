"""The Space: what a model said and what was true, as lists to type in."""

from __future__ import annotations

import json

import evaluate
import gradio
from evaluate.utils.gradio import parse_readme

metric = evaluate.load("learnability.py")


def compute(predictions: str, references: str, baseline: float | None) -> dict[str, float]:
    """The figures of the metric, or its error as a message on the page."""
    try:
        return metric.compute(predictions=json.loads(predictions), references=json.loads(references), baseline=baseline)
    except ValueError as error:
        raise gradio.Error(str(error)) from error


gradio.Interface(
    fn=compute,
    inputs=[
        gradio.Textbox(value="[0, 1, 1, 1]", label="predictions"),
        gradio.Textbox(value="[0, 0, 1, 2]", label="references"),
        gradio.Number(value=0.9, label="baseline (may be left empty)"),
    ],
    outputs=gradio.JSON(),
    title="Metric: learnability",
    description=metric.info.description,
    article=parse_readme("README.md"),
).launch()
