"""Files of a repository of the Hub. Where one cannot be had, the error says what was asked, what was answered, and what to do."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

HUB = "hf-hub:"
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TOKEN = "`hf auth login`, or the variable HF_TOKEN, says who asks"
PLACE = "Check the connection, the proxy (HTTPS_PROXY) and the address of the Hub (HF_ENDPOINT)"


class MissingWeights(RuntimeError):
    """A file that cannot be had; the message says why, and what to do."""


class NotInRepository(MissingWeights):
    """The repository is there at this revision, and the file is not in it."""


def fetch(repository: str, files: Sequence[str], revision: str | None, otherwise: str = "") -> Path:
    """The first of the files that the repository has, from the cache or the Hub. Raises MissingWeights.

    otherwise: what a user without a way to the Hub can do as well.
    """
    failed: dict[str, Exception] = {}
    for file in files:
        try:  # a second file is asked for where the first does not exist; else it may only be in the cache
            known = not all(map(_absent, failed.values()))
            return Path(hf_hub_download(repository, file, revision=revision, local_files_only=known))
        except Exception as error:  # not only OSError: the library's own, and those of its client for HTTP
            failed[file] = error
    file, last = next(((file, error) for file, error in failed.items() if not _absent(error)), (files[0], failed[files[0]]))
    kind = NotInRepository if _absent(last) else MissingWeights
    name = " or ".join(files) if _absent(last) else file
    raise kind(f"{name} of {repository} at revision {revision or 'main'}: {_why(last, repository, file, revision, otherwise)}") from last


def _absent(error: BaseException) -> bool:
    return isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)


def _why(error: Exception, repository: str, file: str, revision: str | None, otherwise: str) -> str:
    """What was answered, and the mend that is true of it."""
    if isinstance(error, HFValidationError):
        return f"no name of a repository. {first_line(error)} A repository of the Hub is hf-hub:OWNER/REPOSITORY"
    carry = f"`hf download {repository} {file}{f' --revision {revision}' if revision else ''}`"
    carry = f"where there is a connection, {carry}, and carry the cache here{otherwise}"
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in _causes(error)):
        return f"not in the cache ({constants.HF_HUB_CACHE}), and offline mode is on. Unset HF_HUB_OFFLINE; or, {carry}"
    url = hf_hub_url(repository, file, revision=revision)
    response = next((found for cause in _causes(error) if (found := getattr(cause, "response", None)) is not None), None)
    if response is not None:
        return f"{url} answered {_answer(response)}. {_mend(error, response, repository, revision)}"
    if isinstance(error, OSError) and error.errno is not None:
        needed = "has room" if error.errno == 28 else "can be written"
        return f"the cache of the Hub cannot be used: {error}. Set HF_HUB_CACHE to a folder that {needed}, now {constants.HF_HUB_CACHE}"
    last = list(_causes(error))[-1]
    if "onsistency check failed" in str(last):
        return f"{url} was cut off. {first_line(last)} The same command fetches it again"
    return f"not in the cache ({constants.HF_HUB_CACHE}), and {url} failed: {first_line(last)} {PLACE}; or, {carry}"


def _answer(response: Any) -> str:
    """Status, code and words of an answer."""
    code, words = (response.headers.get(name, "") for name in ("X-Error-Code", "X-Error-Message"))
    reason = code or getattr(response, "reason_phrase", "") or getattr(response, "reason", "")
    return f"{response.status_code} {reason}".strip() + (f": {words.rstrip('.')}" if words else "")


def _mend(error: Exception, response: Any, repository: str, revision: str | None) -> str:
    page, status, words = f"{constants.ENDPOINT}/{repository}", response.status_code, response.headers.get("X-Error-Message", "")
    if _absent(error):
        return f"The repository has no such file; it lists its files at {page}/tree/{revision or 'main'}"
    if isinstance(error, RevisionNotFoundError):
        return f"`revision` is a branch, a tag or a commit; {page}/commits/main lists them, and without it `main` is read"
    if isinstance(error, GatedRepoError):
        return f"Its owner gives access to accounts: ask for it at {page}; then {TOKEN}"
    if status == 401 and "credential" in words.lower():
        return "The token that was sent is not valid: log in again with `hf auth login`, or set or unset HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError) or status in (401, 404):
        return f"Check OWNER/REPOSITORY letter by letter; if it is private, {TOKEN}"
    if status == 403:
        return f"The token that was sent may not read it: give it that permission, or ask for access at {page}"
    if status == 429 or status >= 500:
        return "The Hub is busy or out of order: the same command works later"
    return f"No Hub answers so. {PLACE}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def first_line(error: BaseException) -> str:
    """The first line of an error, as a sentence; its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{(lines[0] if lines else type(error).__name__).rstrip('.')}."
