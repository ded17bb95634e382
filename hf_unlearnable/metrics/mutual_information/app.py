"""The Space: a table to type inputs into."""

import evaluate
from evaluate.utils import launch_gradio_widget

launch_gradio_widget(evaluate.load("mutual_information.py"))
