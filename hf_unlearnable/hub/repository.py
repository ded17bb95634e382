"""One repository on the Hub while something is pushed to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, HfFileSystem, RepoCard, get_token, hf_hub_download
from huggingface_hub.errors import (
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from hf_unlearnable.data.patience import NoAnswer
from hf_unlearnable.errors import AccessError, HubError, PrivacyError, RecipeError, UnlearnableError, first_line, worded
from hf_unlearnable.hub.retry import CAUGHT, Retry, explain, require_network, status_of
from hf_unlearnable.progress import kept_back

README = "README.md"


def check_name(repo_id: str) -> None:
    """Refuse what the Hub takes for no name.

    Raises:
        RecipeError: not USER/NAME, of the characters that the Hub takes.
    """
    try:
        validate_repo_id(repo_id)
        why = "" if repo_id.count("/") == 1 else "no or several '/'"
    except HFValidationError as error:
        why = first_line(error)
    if why:
        raise RecipeError(f"got the name {repo_id!r}; expected USER/NAME ({why})")


@dataclass(frozen=True)
class Pushed:
    """What a push left on the Hub.

    Attributes:
        repo_id: USER/NAME.
        url: of its page.
        commit: the newest one; the same as before where nothing had changed.
        private: whether only its owner and their organisation can see it.
        warning: which images of the dataset this push replaced by others, and where they are still; empty where none.
    """

    repo_id: str
    url: str
    commit: str
    private: bool
    warning: str = ""


class Repository:
    """A repository that is being pushed to: knows how far the push came, so that an error can say it.

    Args:
        kind: ``"dataset"`` or ``"model"``.
        repo_id: USER/NAME.
        private: whether others must not see it.
        revision: branch to push to; main when None.
        token: of the Hub; the one of ``hf auth login`` when None.
        again: the command that repeats the push, for errors.

    Raises:
        RecipeError: not USER/NAME.
        AccessError: there is no token.
        HubError: the network is forbidden.
    """

    def __init__(
        self, kind: str, repo_id: str, private: bool, revision: str | None, token: str | None, again: str
    ) -> None:
        check_name(repo_id)
        require_network(f"push to {repo_id}")
        if (token or get_token()) is None:
            raise AccessError(
                f"cannot push to {repo_id}: there is no token. Log in with one that may write: hf auth login"
            )
        self.api = HfApi(token=token)
        self.kind, self.repo_id, self.private, self.revision, self.again = kind, repo_id, private, revision, again
        self.before: str | None = None
        self._branch_was_there = False
        self.data_is_there = False

    def run(self, retry: Retry, work: Callable[[], Any]) -> Pushed:
        """Do the whole work again after transient faults: repeating what did go through changes nothing.

        Raises:
            UnlearnableError: for good; says what is there, what is not, and the command to go on.
        """
        try:
            with (
                kept_back("datasets.arrow_dataset", "back to 1 for the"),  # processes, of which one was asked for
                kept_back("huggingface_hub.hf_api", "No files have been modified"),  # where nothing changed
            ):
                retry.run(work, f"push to {self.repo_id}")
            info = retry.run(lambda: self.api.repo_info(self.repo_id, repo_type=self.kind, revision=self.revision), "")
        except CAUGHT as error:
            if isinstance(error, UnlearnableError) and not isinstance(error, NoAnswer):
                raise
            if self.before is not None and isinstance(error, RepositoryNotFoundError):
                raise self._gone() from error
            raise explain(error, f"push to {self.repo_id}", self._standing()) from error
        page = "" if self.kind == "model" else f"{self.kind}s/"
        return Pushed(self.repo_id, f"{self.api.endpoint}/{page}{self.repo_id}", str(info.sha), bool(info.private))

    def open(self) -> None:
        """Find the repository or create it; never go on in one that shows more, or less, than was asked.

        Raises:
            PrivacyError: it is public, and private was asked; or the other way round.
        """
        HfFileSystem.clear_instance_cache()  # remembers which repositories do not exist
        try:
            info = self.api.repo_info(self.repo_id, repo_type=self.kind)
        except RepositoryNotFoundError as missing:
            if self.before is not None:
                raise self._gone() from missing
            info = self._create()
        if info.id != self.repo_id:
            raise HubError(
                f"cannot push to {self.repo_id}: it is called {info.id} now. Nothing more was sent. Push there: "
                f"{self.again.replace(self.repo_id, info.id)}"
            )
        public = worded(python="private=False", shell="--public", browser="'Everybody may see them'")
        settings = f"hf repos settings {self.repo_id} --repo-type {self.kind}"
        if self.private and not info.private:
            # The clients ignore private=True here. Hiding it for its owner could break what others built on it, and
            # would not take back what was downloaded, so that is left to them.
            raise PrivacyError(
                f"got the repository {self.repo_id}, which is public; expected a private one, or a name that is free. "
                f"Nothing was sent. Make it private ({self._on_the_hub(f'{settings} --private')}), name another one, "
                f"or publish there: {public}"
            )
        if not self.private and info.private:
            raise PrivacyError(
                f"got {public} for the repository {self.repo_id}, which is private; expected a public one, or a name "
                f"that is free. Nothing was sent. To show it with all of its earlier commits: "
                f"{self._on_the_hub(f'{settings} --public')}; to push to it as it is, leave {public} out"
            )
        if self.before is None:
            found = self._branch_head()
            self._branch_was_there, self.before = found is not None, found or self.head()

    @staticmethod
    def _on_the_hub(command: str) -> str:
        """Where settings of a repository are changed."""
        return worded(python=command, shell=command, browser="in its settings on the Hub")

    def _create(self) -> Any:
        try:
            self.api.create_repo(self.repo_id, repo_type=self.kind, private=self.private, exist_ok=True)
        except CAUGHT as error:
            # Somebody else was faster (the client looks for an address in that answer, which may have none), or this
            # token may write to the repository, but not make it.
            if not (isinstance(error, KeyError) or status_of(error) == 409):
                raise
            try:
                return self.api.repo_info(self.repo_id, repo_type=self.kind)
            except RepositoryNotFoundError:
                raise HubError(
                    f"cannot push to {self.repo_id}: the Hub says that there is something of this name, but not to "
                    f"this token (it may be of another kind, of somebody else, or just being renamed). Nothing was "
                    f"sent. Choose another name, or repeat later: {self.again}"
                ) from error
        return self.api.repo_info(self.repo_id, repo_type=self.kind)

    def _gone(self) -> HubError:
        return HubError(
            f"cannot push to {self.repo_id}: it was there when the push began and is not any more, so it was renamed "
            f"or removed meanwhile. See in your account what it is called now, and push there: {self.again}"
        )

    def validate(self, text: str) -> None:
        """Let the Hub check the header of a card.

        Raises:
            RecipeError: a licence or another key that it does not take.
        """
        try:
            RepoCard(text).validate(self.kind)
        except ValueError as error:
            raise RecipeError(
                f"cannot push to {self.repo_id}: the Hub does not take the header of the card "
                f"({' '.join(str(error).split())}). Nothing was sent"
            ) from error

    def head(self) -> str:
        """The newest commit of the branch to push to; that of main where the branch does not exist yet."""
        return self._branch_head() or str(self.api.repo_info(self.repo_id, repo_type=self.kind).sha)

    def _branch_head(self) -> str | None:
        try:
            return str(self.api.repo_info(self.repo_id, repo_type=self.kind, revision=self.revision).sha)
        except RevisionNotFoundError:
            return None

    def replaced(self, now: str) -> bool:
        """Whether data that the branch had when the push began are not in a commit any more."""
        if self.before in (None, now) or not self._branch_was_there:
            return False
        return not self._data(str(self.before)) <= self._data(now)

    def _data(self, commit: str) -> set[str]:
        """The digests of all files of tables in a commit."""
        tree = self.api.list_repo_tree(self.repo_id, repo_type=self.kind, revision=commit, recursive=True)
        files = [file for file in tree if isinstance(file, RepoFile) and file.path.endswith(".parquet")]
        return {file.lfs.sha256 if file.lfs else file.blob_id for file in files}

    def card(self, commit: str) -> str | None:
        """The card as it is in a commit, None if there is none."""
        try:
            file = hf_hub_download(self.repo_id, README, repo_type=self.kind, revision=commit, token=self.api.token)
        except RemoteEntryNotFoundError:
            return None
        return Path(file).read_text(encoding="utf-8-sig")

    def _standing(self) -> str:
        try:
            info = self.api.repo_info(self.repo_id, repo_type=self.kind)
            now = self.head()
        except RepositoryNotFoundError:
            there = f"Nothing is there: the repository {self.repo_id} does not exist"
        except CAUGHT:
            arrived = "The data arrived" if self.data_is_there else "Nothing is known to have arrived"
            there = f"{arrived}; the Hub cannot be asked what is there now"
        else:
            seen = "private" if info.private else "public"
            if self.data_is_there:
                there = f"The {seen} repository {self.repo_id} has the data; the card is missing or old"
            elif self.before in (None, now):
                there = f"The {seen} repository {self.repo_id} is there; nothing of this push is visible in it"
            else:
                there = f"The {seen} repository {self.repo_id} has a newer commit than before, perhaps of this push"
        return f"{there}. To go on, repeat it; what has arrived is not sent twice: {self.again}"
