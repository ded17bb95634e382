"""The Space: features and labels, as lists to type in."""

from __future__ import annotations

import json

import evaluate
import gradio
from evaluate.utils.gradio import parse_readme

metric = evaluate.load("bayes_error.py")


def compute(features: str, labels: str, kernel: str, sigma: float | None) -> dict[str, float]:
    """The figures of the metric, or its error as a message on the page."""
    try:
        return metric.compute(features=json.loads(features), labels=json.loads(labels), kernel=kernel, sigma=sigma)
    except ValueError as error:
        raise gradio.Error(str(error)) from error


gradio.Interface(
    fn=compute,
    inputs=[
        gradio.Textbox(value="[[0.0], [0.3], [0.7], [1.0], [0.9]]", label="features"),
        gradio.Textbox(value="[0, 0, 0, 1, 1]", label="labels"),
        gradio.Dropdown(choices=["rbf", "cosine", "logistic"], value="rbf", label="kernel"),
        gradio.Number(value=0.3, label="sigma (chosen when left empty)"),
    ],
    outputs=gradio.JSON(),
    title="Metric: bayes_error",
    description=metric.info.description,
    article=parse_readme("README.md"),
).launch()
