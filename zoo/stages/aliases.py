"""Names of a user's own for models: ``aliases.toml`` under ``$ZOO_HOME``."""

from __future__ import annotations

from pydantic import Field, ValidationError

from zoo.declarations.base import Name, Value
from zoo.errors import UsageError, unknown
from zoo.home import zoo_home
from zoo.package.files import guarded, write_whole
from zoo.registry import Registry
from zoo.tomlfile import read_toml, toml_text


class Aliases(Value):
    """The file."""

    alias: dict[Name, str] = Field(default_factory=dict, max_length=10_000)


def aliases() -> dict[str, str]:
    """Read the aliases: name → model.

    Raises:
        ZooError: the file is wrong.
    """
    path = zoo_home() / "aliases.toml"
    return dict(read_toml(path, Aliases).alias) if path.is_file() else {}


def set_alias(registry: Registry, name: str, model: str) -> None:
    """Give a model a name of the user's own.

    Raises:
        UsageError: the name is a declared model's or is not valid, or there is no such model.
    """
    from zoo.stages.subject import identify

    known = aliases()
    if registry.find(name) is not None:
        raise UsageError(f"{name!r} is a declared model; choose another name for the alias")
    if model in known:
        raise UsageError(f"{model!r} is an alias itself; name its model:{known[model]}")
    identify(registry, model)
    _write(known | {name: model})


def remove_alias(name: str) -> None:
    """Forget an alias.

    Raises:
        UsageError: there is none of this name.
    """
    known = aliases()
    if name not in known:
        raise unknown("alias", name, known)
    _write({other: model for other, model in known.items() if other != name})


def _write(known: dict[str, str]) -> None:
    try:
        checked = Aliases(alias=known)
    except ValidationError:
        raise UsageError("an alias may contain lower case letters, digits, dots, dashes and underscores") from None
    path = zoo_home() / "aliases.toml"
    with guarded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, toml_text(checked.model_dump(mode="json")).encode(), replace=True)
