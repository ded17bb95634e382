"""The Space: features of poisoned and of clean images, as lists to type in."""

from __future__ import annotations

import json

import evaluate
import gradio
from evaluate.utils.gradio import parse_readme

metric = evaluate.load("mutual_information.py")


def compute(predictions: str, references: str, labels: str, estimators: list[str]) -> dict[str, float]:
    """The figures of the metric, or its error as a message on the page."""
    try:
        return metric.compute(
            predictions=json.loads(predictions),
            references=json.loads(references),
            labels=json.loads(labels) if labels.strip() else None,
            estimators=estimators,
        )
    except ValueError as error:
        raise gradio.Error(str(error)) from error


gradio.Interface(
    fn=compute,
    inputs=[
        gradio.Textbox(value="[[1.0], [1.1], [2.0], [2.1], [3.0]]", label="predictions: features of poisoned images"),
        gradio.Textbox(value="[[0.0], [0.4], [0.9], [1.5], [2.0]]", label="references: features of clean images"),
        gradio.Textbox(value="[0, 0, 1, 1, 1]", label="labels (may be left empty)"),
        gradio.CheckboxGroup(choices=["histogram", "ksg", "variational"], value=["histogram"], label="estimators"),
    ],
    outputs=gradio.JSON(),
    title="Metric: mutual_information",
    description=metric.info.description,
    article=parse_readme("README.md"),
).launch()
