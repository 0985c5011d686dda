"""Submitting to a dataset on a hub: one pull request, one file for each record, through ``huggingface_hub``.

``HF_ENDPOINT`` names another hub. The hub makes a pull request with its commit in one step; when the answer is lost,
the next attempt finds it and sends nothing again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fitcheck.errors import MissingExtraError, NetworkError, OptionError, RecordError, extra
from fitcheck.records.targets import Payload, Receipt, batch_title

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FOLDER = "results"
_ATTEMPTS = 3
_NO_HUB = "answers with something that is not a hub's, perhaps a login page; check HF_ENDPOINT and the network"
_MOST_PULL_REQUESTS = 200


def connect(dataset: str) -> tuple[HfApi, str]:
    """(client, account name), the login and the dataset checked. Raises InputError when either is missing."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
    except ImportError as error:
        raise MissingExtraError(f"--to hub needs huggingface_hub; {extra('results')}.") from error
    api = HfApi()
    try:
        account = str(api.whoami()["name"])
        api.repo_info(dataset, repo_type="dataset")
    except LocalTokenNotFoundError as error:
        raise NetworkError("--to hub: you are not logged in; run `hf auth login` first.") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, HFValidationError):
            raise OptionError(f"--to hub: the dataset {dataset!r} is refused ({_first_line(error)}).") from error
        raise NetworkError(f"--to hub: {api.endpoint} {_NO_HUB}") from error
    except HfHubHTTPError as error:
        raise NetworkError(
            f"--to hub: the login or the dataset {dataset!r} is refused ({_first_line(error)})."
        ) from error
    except Exception as error:
        if not _unreachable(error):
            raise
        raise NetworkError(
            f"--to hub: {api.endpoint} cannot be reached ({_first_line(error)}); try again later."
        ) from error
    return api, account


def submit(payloads: Sequence[Payload], dataset: str, api: HfApi, account: str) -> Receipt:
    """Open one pull request with what the dataset and the account's open pull requests lack.

    Raises InputError when the dataset has other content at a path, or the hub refuses or stays away.
    """
    import tenacity
    from huggingface_hub.errors import HfHubHTTPError

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=0.2, max=5),
        retry=tenacity.retry_if_exception(_passing),
        reraise=True,
    )
    try:
        return retrying(_submit_once, payloads, dataset, api, account)
    except Exception as error:
        if isinstance(error, ValueError | KeyError | TypeError) and not isinstance(error, HfHubHTTPError):
            raise NetworkError(f"--to hub: {api.endpoint} {_NO_HUB}; the record is saved.") from error
        if not (isinstance(error, HfHubHTTPError) or _unreachable(error)):
            raise
        message = f"--to hub: {dataset} was not reached or refused ({_first_line(error)})"
        raise NetworkError(f"{message}; the record is saved, submit again to retry.") from error


def _passing(error: BaseException) -> bool:
    """Whether another attempt may succeed: the hub is overloaded, or the connection was lost."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response is not None and error.response.status_code >= 500
    return _unreachable(error)


def _unreachable(error: BaseException) -> bool:
    """Whether the connection failed. By name, because releases of huggingface_hub use different HTTP libraries."""
    names = {base.__name__ for base in type(error).__mro__}
    return bool(names & {"TransportError", "RequestException"}) or isinstance(error, OSError)


def _submit_once(payloads: Sequence[Payload], dataset: str, api: HfApi, account: str) -> Receipt:
    from huggingface_hub import CommitOperationAdd

    address = f"{api.endpoint}/datasets/{dataset}"
    missing = _missing(payloads, dataset, api, "main")
    kept = {payload.path for payload in payloads} - {payload.path for payload in missing}
    waiting = ""
    for number in _open_pull_requests(dataset, api, account) if missing else ():
        lacking = _missing(missing, dataset, api, f"refs/pr/{number}")
        if len(lacking) < len(missing):
            waiting = f"{address}/discussions/{number}"
            kept |= {payload.path for payload in missing if payload not in lacking}
            missing = lacking
    if not missing:
        return Receipt(waiting or address, (), tuple(sorted(kept)), "nothing to do: all of it is there already")
    operations = [CommitOperationAdd(f"{FOLDER}/{payload.path}", payload.content) for payload in missing]
    commit = api.create_commit(
        dataset, operations, repo_type="dataset", commit_message=batch_title(missing), create_pr=True
    )
    return Receipt(str(commit.pr_url or address), tuple(payload.path for payload in missing), tuple(sorted(kept)))


def _missing(payloads: Sequence[Payload], dataset: str, api: HfApi, revision: str) -> list[Payload]:
    paths = [f"{FOLDER}/{payload.path}" for payload in payloads]
    there = {
        entry.path: str(getattr(entry, "blob_id", ""))
        for entry in api.get_paths_info(dataset, paths, revision=revision, repo_type="dataset")
    }
    for payload, path in zip(payloads, paths, strict=True):
        if there.get(path, payload.git_blob) != payload.git_blob:
            raise RecordError(f"{path}: the dataset has this file with other content.")
    return [payload for payload, path in zip(payloads, paths, strict=True) if path not in there]


def _open_pull_requests(dataset: str, api: HfApi, account: str) -> list[int]:
    """Numbers of the account's own open pull requests, newest first."""
    found = []
    discussions = api.get_repo_discussions(
        dataset, author=account, discussion_type="pull_request", discussion_status="open", repo_type="dataset"
    )
    for discussion in discussions:
        found.append(discussion.num)
        if len(found) == _MOST_PULL_REQUESTS:
            break
    return found


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
