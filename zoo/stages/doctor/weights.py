"""The model's weights: here, on the hub, or out of reach."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zoo.errors import ZooError
from zoo.sources import hub
from zoo.sources.repository import inspect
from zoo.stages.doctor.findings import Finding, Status
from zoo.stages.resolve import Resolved
from zoo.terminal import command_line


def token() -> Iterator[Finding]:
    """Say whether a token is set; never which."""
    from huggingface_hub import get_token

    if get_token():
        yield Finding("hub", "token", "ok", "set")
    else:
        described = "none; gated and private repositories stay closed"
        yield Finding("hub", "token", "note", described, "hf auth login")


def weights(resolved: Resolved, model: str, *, needed: bool) -> Iterator[Finding]:
    """Find the weights, and where they are not here, ask the hub whether it would hand them out.

    Args:
        needed: the target reads weights; otherwise their absence is only noted.
    """
    bad: Status = "missing" if needed else "note"
    if resolved.checkpoint is not None and resolved.source.folder is not None:
        described = "on this machine" if resolved.checkpoint.tensors else "config.json only"
        yield Finding("weights", resolved.source.name, "ok", described)
        return
    repository, revision = resolved.source.hub, resolved.source.revision
    if repository is None:
        described, mend = (
            "not on this machine, and no hub id is known",
            f"{command_line('zoo', 'build', model)} --weights DIR",
        )
        yield Finding("weights", resolved.source.name, bad, described, mend)
        return
    fetch = command_line("zoo", "fetch", model)
    if hub.is_offline():
        described, mend = "not on this machine, and the network is off", f"with the network on: {fetch}"
        yield Finding("weights", repository, bad, described, mend)
        return
    subject = resolved.subject.declared
    gated = subject is not None and subject.licence.gated
    try:
        remote = inspect(repository, revision, hub.storage_folder(repository))
        # The listing of a gated repository is open; a file of it is not.
        remote.describe("config.json")
    except ZooError as error:
        mend = f"hf auth login, and accept the terms at https://huggingface.co/{repository}" if gated else fetch
        yield Finding("hub", repository, bad, str(error), mend)
        return
    yield Finding("hub", repository, "ok", f"reachable, commit {remote.commit[:12]}")
    described = "not on this machine; a build fetches them"
    yield Finding("weights", repository, "note", described, fetch)


def cache_folder() -> Path:
    """Find where downloads go."""
    return hub.cache_folder()
