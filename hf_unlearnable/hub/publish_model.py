"""Publishing a surrogate or a victim, for those who choose to."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd
from transformers import PreTrainedModel

from hf_unlearnable.errors import PrivacyError
from hf_unlearnable.hub.cards import ModelFacts, model_card
from hf_unlearnable.hub.repository import README, Pushed, Repository
from hf_unlearnable.hub.retry import Retry, patiently
from hf_unlearnable.runs.publication import HOME, private_words
from hf_unlearnable.settings import check_arguments

# A text that is an absolute path of POSIX or Windows, one below a home, or the address of a file.
PATH = re.compile(r"/[^/\s]|~([a-z_][\w.-]*)?[/\\]|[A-Za-z]:[/\\]|\\\\[^\\\s]|file:", re.IGNORECASE)
FREEBASE = re.compile(r"/[mgt]/\w+")  # what Open Images and others call classes


@patiently
@check_arguments
def push_model(
    model: PreTrainedModel,
    repo_id: str,
    *,
    role: Literal["surrogate", "victim"],
    private: bool = True,
    method: str | None = None,
    case: str | None = None,
    accuracy: float | None = None,
    licence: str | None = None,
    title: str | None = None,
    description: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    retry: Retry = Retry(),
) -> Pushed:
    """Push a surrogate or a victim with its card, as one commit. A surrogate helps a thief: its card says so.

    Args:
        model: weights go up as safetensors, never as pickle.
        repo_id: USER/NAME, created if it does not exist.
        role: ``"surrogate"`` (perturbations were optimised against it) or ``"victim"`` (it measured them).
        private: whether others must not see it. A public repository is then refused, not pushed to.
        method: name of the method of the protection.
        case: what a victim was trained on, as ``Report.cases`` names it.
        accuracy: on clean test images, in [0, 1].
        licence: an identifier of the Hub, or the name of another licence.
        title: of the card; takes the place of an earlier one.
        description: of a new card, in Markdown.
        revision: branch to push to, created if it does not exist.
        token: of the Hub; the one of ``hf auth login`` when left out.
        retry: how often and how patiently to try.

    Raises:
        PrivacyError: a local path in the configuration, or a private model in a public repository.
        AccessError: no token, a wrong one, or one that may not write there.
        RecipeError: a name, role or licence that does not exist.
        HubError: the Hub could not be reached or failed for good; says what is there.
    """
    repository = Repository(
        "model", repo_id, private, revision, token, f"push_model(model, {repo_id!r}, role={role!r})"
    )
    facts = ModelFacts(
        repo_id=repo_id,
        role=role,
        architecture=type(model).__name__,
        parameters=model.num_parameters(),
        classes=len(model.config.id2label or ()),
        built_in=type(model).__module__.startswith("hf_unlearnable."),
        method=method,
        case=case,
        accuracy=accuracy,
        licence=licence,
        title=title,
        description=description,
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        files = {path.name: path for path in sorted(Path(folder).iterdir())}
        _check_config(json.loads(files["config.json"].read_text(encoding="utf-8")))

        def work() -> None:
            repository.validate(model_card(facts))
            repository.open()
            if revision is not None:
                repository.api.create_branch(repo_id, branch=revision, exist_ok=True)
            head = repository.head()
            # transformers would write an empty card where it cannot read the old one: here the card is our own text.
            text = model_card(facts, repository.card(head))
            repository.api.create_commit(
                repo_id,
                [
                    *(CommitOperationAdd(name, str(path)) for name, path in files.items()),
                    CommitOperationAdd(README, text.encode()),
                ],
                commit_message=f"Upload {role}",
                revision=revision,
                parent_commit=head,
            )

        return repository.run(retry, work)


def _check_config(config: Any) -> None:
    words = private_words(None)
    for key, text in _texts(config, "config"):
        if _is_path(text) or re.search(HOME, text) or any(word in text for word in words):
            raise PrivacyError(
                f"got a model whose configuration holds the local path {text!r} in {key}; expected none in what is "
                f"published. Take it out of model.config, or let it be relative"
            )


def _is_path(text: str) -> bool:
    return bool(PATH.match(text)) and not FREEBASE.fullmatch(text)


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """All that is text in nested lists and dictionaries, names of entries too, with where it stands."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield key, str(name)
            yield from _texts(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{place}]")
