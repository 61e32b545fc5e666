"""The hub: a package's files, its card and its signature in a repository of their own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property

from zoo import __version__
from zoo.declarations.manifest import Manifest
from zoo.sources.hub import check_id, check_revision, storage_folder
from zoo.sources.hub_errors import Place, attempt
from zoo.sources.parallel import each
from zoo.sources.repository import Repository, inspect
from zoo.sources.transfer import Wanted
from zoo_share.remote import Step, Upload


class HubRemote:
    """A package in a repository on the hub."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._id, _, revision = location.removeprefix("hf:").partition("@")
        self._revision = revision or "main"
        check_id(self._id)
        check_revision(self._revision)
        endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        self.place = Place(self._id, self._revision, endpoint)

    @cached_property
    def _repository(self) -> Repository:
        return inspect(self._id, self._revision, storage_folder(self._id))

    def files(self) -> Mapping[str, Wanted]:
        """List the repository's files."""
        names = list(self._repository.files)
        described = each(self._repository.describe, names)
        return dict(zip(names, (file.wanted for file in described), strict=True))

    def push(self, uploads: Sequence[Upload], manifest: Manifest, step: Step | None = None) -> str:
        """Make one commit of all files; large ones that the hub has are not sent again."""
        from huggingface_hub import CommitOperationAdd, HfApi

        if step is not None:
            step(self._id, 0, len(uploads))
        api = HfApi(endpoint=self.place.endpoint, library_name="zoo", library_version=__version__)
        recipe = manifest.recipe
        adds = [CommitOperationAdd(path_in_repo=upload.name, path_or_fileobj=upload.path) for upload in uploads]
        title = f"Add {recipe.model} {recipe.precision}, recipe {recipe.hash[:12]}"
        attempt(lambda: api.create_repo(self._id, exist_ok=True), self.place)
        commit = attempt(
            lambda: api.create_commit(self._id, adds, commit_message=title, revision=self._revision), self.place
        )
        return f"hf:{self._id}@{commit.oid}"
