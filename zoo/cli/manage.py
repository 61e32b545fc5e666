"""``zoo install``, ``zoo uninstall``, ``zoo upgrade``, ``zoo search``, ``zoo alias`` and ``zoo gc``."""

from __future__ import annotations

from typing import Annotated

import typer

from zoo.cli.options import Json
from zoo.cli.output import echo, print_json, print_notice, print_table
from zoo.errors import UsageError

INDEX = Annotated[str | None, typer.Option("--index-url", metavar="URL", help="A package index instead of pip's own.")]
LINKS = Annotated[str | None, typer.Option("--find-links", metavar="DIR|URL", help="A folder or page of wheels.")]


def install(
    name: Annotated[str, typer.Argument(help="A plugin of the directory, a distribution, a folder or a wheel.")],
    index_url: INDEX = None,
    find_links: LINKS = None,
) -> None:
    """Install a plugin into this environment with its pip; a plugin's code is trusted fully."""
    from zoo.stages.environment import Index, install

    for plugin in install(name, Index(index_url, find_links), say=print_notice):
        brought = ", ".join(f"{len(names)} {kind}" for kind, names in plugin["registered"].items() if names)
        echo(f"installed {plugin['name']} ({plugin['distribution']} {plugin['version']}): {brought or 'nothing'}")


def uninstall(name: Annotated[str, typer.Argument(help="A plugin, or its distribution.")]) -> None:
    """Remove a plugin's distribution from this environment; built packages stay."""
    from zoo.plugins import host
    from zoo.stages.environment import uninstall

    echo(f"removed {uninstall(host().records, name)}")


def upgrade(
    name: Annotated[str | None, typer.Argument(help="A plugin; by default all of them, except zoo itself.")] = None,
    index_url: INDEX = None,
    find_links: LINKS = None,
) -> None:
    """Upgrade plugins."""
    from zoo.plugins import host
    from zoo.stages.environment import Index, install, upgrade_all

    index = Index(index_url, find_links)
    if name is None:
        names = upgrade_all(host().records, index, say=print_notice)
    else:
        distribution = next((record.distribution for record in host().records if record.name == name), None)
        names = [distribution or name]
        install(names[0], index, upgrade=True, say=print_notice)
    echo(f"upgraded {', '.join(names)}" if names else "no plugins are installed besides zoo's own")


def search(
    word: Annotated[str, typer.Argument(help="Part of a name, a title, a hub id, a family, a licence.")],
    as_json: Json = False,
) -> None:
    """Search the declared models and the directory of plugins."""
    from zoo.plugins import host
    from zoo.stages.listing import search

    hits = search(host().registry, word)
    if as_json:
        print_json(hits)
    elif hits:
        print_table(["KIND", "NAME", "WHAT"], [(hit.kind, hit.name, hit.what) for hit in hits])
    else:
        print_notice(f"nothing matches {word!r}")
    if not hits:
        raise typer.Exit(1)


def alias(
    name: Annotated[str | None, typer.Argument(help="The new name; without one, aliases are listed.")] = None,
    model: Annotated[str | None, typer.Argument(help="The model it stands for.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the alias.")] = False,
) -> None:
    """Give a model a name of your own."""
    from zoo.plugins import host
    from zoo.stages import aliases

    if name is None:
        print_table(["ALIAS", "MODEL"], sorted(aliases.aliases().items()))
    elif remove:
        aliases.remove_alias(name)
    elif model is None:
        raise UsageError("an alias is NAME MODEL; --remove NAME removes one")
    else:
        aliases.set_alias(host().registry, name, model)


def gc(
    days: Annotated[float, typer.Option(min=0, help="Only what has not been used for this long.")] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list it.")] = False,
) -> None:
    """Remove unneeded caches, prepared weights and unfinished builds; packages and weights stay."""
    from zoo.stages.tidy import leftovers, remove
    from zoo.units import bytes_text

    counts: dict[str, tuple[int, int]] = {}
    for leftover in list(leftovers(days)):
        if dry_run or remove(leftover):
            count, size = counts.get(leftover.kind, (0, 0))
            counts[leftover.kind] = count + 1, size + leftover.size
    print_table(
        ["WHAT", "COUNT", "WOULD FREE" if dry_run else "FREED"],
        [(kind, str(count), bytes_text(size)) for kind, (count, size) in counts.items()],
        right=(1, 2),
    )
