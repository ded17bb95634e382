"""The Space: two images to compare."""

import evaluate
import gradio

metric = evaluate.load("imperceptibility.py")

gradio.Interface(
    fn=lambda released, original: metric.compute(predictions=[released], references=[original]),
    inputs=[gradio.Image(type="pil", label="released"), gradio.Image(type="pil", label="original")],
    outputs=gradio.JSON(),
    title="Metric: imperceptibility",
    description=metric.info.description,
).launch()
