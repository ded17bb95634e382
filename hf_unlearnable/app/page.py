"""The page, and what happens when something is pressed on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from hf_unlearnable.app import words, work
from hf_unlearnable.app.jobs import Stopped
from hf_unlearnable.app.visits import Visit, Visits
from hf_unlearnable.budget import Budget
from hf_unlearnable.errors import UnlearnableError
from hf_unlearnable.hub.repository import Pushed
from hf_unlearnable.methods.mi_ue import MIUE
from hf_unlearnable.methods.texture import Texture
from hf_unlearnable.progress import duration

BY_FOLDER, ALL_ONE = "by folder", "all one"
ENDED = words.told("This visit has ended and its pictures were deleted. Load the page again.", "error")
STOPPED = words.told("Stopped. Your pictures are still here; press Protect to begin again.")


def budget_of(strength: float, adaptive: bool) -> Budget:
    """What the two controls say."""
    return Budget(round(strength), visibility="adaptive" if adaptive else "uniform")


class Desk:
    """Answers what is pressed: every method is given what the controls say, and gives what they shall say."""

    def __init__(self, visits: Visits) -> None:
        self._visits = visits

    def begin(self, request: gr.Request) -> str:
        """A page was opened: the field to drop pictures on."""
        return words.DROP.format(key=self._visits.begin(str(request.session_hash)).key)

    def end(self, request: gr.Request) -> None:
        """It was closed."""
        self._visits.end(str(request.session_hash))

    def clear(self, request: gr.Request) -> tuple[Any, ...]:
        """Start over: nothing is there any more."""
        if visit := self._of(request):
            visit.clear()
        return gr.update(value=""), gr.update(value=""), *(gr.update(visible=False) for _ in range(3)), *self._blank()

    @staticmethod
    def _blank() -> tuple[Any, ...]:
        return gr.update(value=""), gr.update(value=""), gr.update(visible=False), gr.update(visible=False)

    def arrived(self, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Pictures were sent: what they are.

        Yields:
            Status, findings, the button to start over, the choices, the results; the preview, the estimate, the choice
            of kinds, the consent.
        """
        same = (gr.skip(),) * 9
        visit = self._of(request)
        if visit is None:
            yield ENDED, *same[1:]
            return
        visit.stop()
        visit.looked = visit.made = None
        hidden, shown = gr.update(visible=False), gr.update(visible=True)
        try:
            job = visit.job(work.look, visit.home, visit.room, visit.refused)
            for step in job.steps():
                yield words.progress(step), "", shown, hidden, hidden, *self._blank()
            looked: work.Looked = job.result
        except Stopped:
            yield "", *same[1:]
            return
        except UnlearnableError as error:
            yield words.failed(error, visit.home), "", shown, hidden, hidden, *self._blank()
            return
        finally:
            visit.recount()
        visit.looked = looked
        lost = f"Go on without the {looked.lost} file{'' if looked.lost == 1 else 's'} that are broken or left out"
        kinds = gr.update(visible=looked.kinds > 1, value=BY_FOLDER if looked.kinds > 1 else ALL_ONE)
        consent = gr.update(visible=looked.lost > 0, value=False, label=lost)
        yield "", words.found(looked), shown, shown, hidden, gr.skip(), gr.skip(), kinds, consent

    def preview(self, strength: float, adaptive: bool, request: gr.Request) -> Any:
        """The largest picture before and after."""
        visit = self._of(request)
        if visit is None or visit.looked is None:
            return gr.skip()
        try:
            return words.preview(visit.job(work.preview, visit.home, budget_of(strength, adaptive)).wait())
        except Stopped:
            return gr.skip()
        except UnlearnableError as error:
            return words.failed(error, visit.home)

    def kinds(self, kinds: str, method: str) -> Any:
        """Which methods there are for pictures of one kind, or several."""
        several = kinds == BY_FOLDER
        choices = [("Texture: quick", Texture.name)]
        if several:
            choices.append(("MI-UE: optimised, slow", MIUE.name))
        return gr.update(choices=choices, value=method if several else Texture.name)

    def estimate(self, method: str, request: gr.Request) -> Iterator[str]:
        """How long it will take."""
        visit = self._of(request)
        if visit is None or visit.looked is None:
            yield ""
            return
        try:
            job = visit.job(work.estimate, visit.looked, method)
            for _ in job.steps():
                yield words.told("Trying how long this takes here …")
            yield words.told(f"This will take about {duration(job.result)} on this machine.")
        except Stopped:
            yield ""
        except UnlearnableError as error:
            yield words.failed(error, visit.home)

    def protect(
        self, strength: float, adaptive: bool, kinds: str, method: str, consent: bool, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Protect.

        Yields:
            Progress, the two buttons to protect and to stop, the results and what is said in them, and what is said of
            a push.
        """
        go, rest = (gr.update(visible=True), gr.update(visible=False)), (gr.update(visible=False), "", "")
        visit = self._of(request)
        if visit is None or visit.looked is None:
            yield ENDED, *go, *rest
            return
        if visit.looked.lost and not consent:
            text = "Some files are broken or left out. Say that you go on without them, or send them again mended."
            yield words.told(text, "error"), *go, *rest
            return
        visit.made = None
        busy = (gr.update(visible=False), gr.update(visible=True))
        budget = budget_of(strength, adaptive)
        try:
            job = visit.job(work.protect, visit.home, visit.looked, method, budget, by_folder=kinds == BY_FOLDER)
            for step in job.steps():
                yield words.progress(step), *busy, *rest
        except Stopped:
            yield STOPPED, *go, *rest
        except UnlearnableError as error:
            yield words.failed(error, visit.home), *go, *rest
        else:
            visit.made = job.result
            yield "", *go, gr.update(visible=True), words.made(job.result, visit.key), ""

    def stop(self, request: gr.Request) -> None:
        """End what goes on; the generator that waits for it says so."""
        if visit := self._of(request):
            visit.stop()

    def push(self, repo_id: str, token: str, public: bool, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Push; the token is forgotten in either case.

        Yields:
            What is said, and the field of the token.
        """
        visit = self._of(request)
        if visit is None or visit.made is None:
            yield ENDED, ""
            return
        if not token.strip() or not repo_id.strip():
            yield words.told("Give a name such as you/pictures, and a token that may write.", "error"), gr.skip()
            return
        try:
            job = visit.job(work.push, visit.home, repo_id.strip(), token.strip(), private=not public)
            for step in job.steps():
                yield words.progress(step), ""
            pushed: Pushed = job.result
            warning = words.told(pushed.warning, "warning") if pushed.warning else ""
            yield words.told(f"Pushed: {pushed.url}") + warning, ""
        except Stopped:
            yield words.told("Stopped. What was sent so far is on the Hub; push again to go on."), ""
        except UnlearnableError as error:
            yield words.failed(error, visit.home), ""

    def _of(self, request: gr.Request) -> Visit | None:
        return self._visits.of(str(request.session_hash))


def page(visits: Visits, together: int) -> gr.Blocks:
    """The page for these visits; so many of them may work at once, others wait in a line."""
    desk = Desk(visits)
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    with gr.Blocks(title="Protect pictures", analytics_enabled=False, delete_cache=(600, 600)) as blocks:
        gr.Markdown(words.INTRODUCTION)
        drop = gr.HTML(padding=False)
        arrived = gr.Button("Look", elem_id="hu-arrived", elem_classes="hu-hidden")
        status, found = gr.HTML(padding=False), gr.HTML(padding=False)
        again = gr.Button("Delete all and start over", visible=False, size="sm", elem_id="hu-again")
        with gr.Column(visible=False) as choices:
            gr.Markdown("## How strong")
            with gr.Row():
                strength = gr.Slider(
                    1, 16, 8, step=1, label="Largest change of a pixel, in levels of 255",
                    info="More protects better and is seen more. 8 is what was measured.",
                )  # fmt: skip
                adaptive = gr.Checkbox(
                    label="Less where it would be seen", info="Down to a third in smooth parts; protects less."
                )
            preview = gr.HTML(padding=False)
            gr.Markdown("## How")
            kinds = gr.Radio(
                [("Several kinds, one a folder", BY_FOLDER), ("All one kind, all mine", ALL_ONE)],
                value=ALL_ONE, label="The pictures are", visible=False,
            )  # fmt: skip
            method = gr.Radio([("Texture: quick", Texture.name)], value=Texture.name, label="Method")
            estimate = gr.HTML(padding=False)
            consent = gr.Checkbox(visible=False)
            go = gr.Button("Protect", variant="primary", elem_id="hu-go")
            stop = gr.Button("Stop", variant="stop", visible=False, elem_id="hu-stop")
        working = gr.HTML(padding=False)
        with gr.Column(visible=False) as results:
            made = gr.HTML(padding=False)
            with gr.Accordion("Or push them to the Hugging Face Hub", open=False):
                repo_id = gr.Textbox(label="Dataset", placeholder="you/pictures", max_lines=1)
                token = gr.Textbox(
                    label="Token that may write", type="password", max_lines=1,
                    info="It is used for this push, and neither kept nor written anywhere.",
                )  # fmt: skip
                public = gr.Checkbox(label="Everybody may see them")
                send, pushed = gr.Button("Push"), gr.HTML(padding=False)

        blocks.load(desk.begin, None, drop, **quiet)
        blocks.unload(desk.end)
        looked = [status, found, again, choices, results, preview, estimate, kinds, consent]
        once = arrived.click(desk.arrived, None, looked, concurrency_limit=together, **quiet)
        once = once.then(desk.kinds, [kinds, method], method, **quiet)
        once.then(desk.preview, [strength, adaptive], preview, concurrency_limit=4, **quiet)
        once.then(desk.estimate, method, estimate, concurrency_limit=together, **quiet)
        for control in (strength, adaptive):
            control.change(
                desk.preview, [strength, adaptive], preview,
                trigger_mode="always_last", concurrency_limit=4, **quiet,
            )  # fmt: skip
        kinds.input(desk.kinds, [kinds, method], method, **quiet)
        method.change(desk.estimate, method, estimate, concurrency_limit=together, trigger_mode="always_last", **quiet)
        protecting = {**quiet, "show_progress": "minimal"}
        given = [strength, adaptive, kinds, method, consent]
        go.click(
            desk.protect, given, [working, go, stop, results, made, pushed], concurrency_limit=together, **protecting
        )
        stop.click(desk.stop, None, None, concurrency_limit=None, **quiet)
        send.click(desk.push, [repo_id, token, public], [pushed, token], concurrency_limit=together, **quiet)
        again.click(desk.clear, None, looked, concurrency_limit=None, **quiet)
    return blocks
