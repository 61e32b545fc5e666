"""Call the hooks of one plugin: check its API version, collect what it registers, warn of hooks that go, trace."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pluggy

from zoo import hookspecs
from zoo.errors import ZooError
from zoo.hookspecs import API_VERSION, OLDEST_API_VERSION
from zoo.registration import Collected

if TYPE_CHECKING:
    import typer

GROUP = "zoo"
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("register_"))


def check_api(stated: object) -> int | None:
    """Compare the plugin API that a plugin states with the versions that this zoo offers.

    Args:
        stated: the plugin's ``ZOO_API``; None states nothing and is accepted.

    Raises:
        ZooError: it is not an int, or not a version that this zoo offers.
    """
    if stated is None:
        return None
    if not isinstance(stated, int) or isinstance(stated, bool):
        raise ZooError(f"ZOO_API is {stated!r}; state the plugin API as a whole number, ZOO_API = {API_VERSION}")
    if stated > API_VERSION:
        raise ZooError(f"it needs plugin API {stated}, and this zoo offers {API_VERSION}; upgrade zoo")
    if stated < OLDEST_API_VERSION:
        raise ZooError(f"it needs plugin API {stated}, and this zoo offers {API_VERSION}; upgrade the plugin")
    return stated


def stated_api(plugin: object, module: str | None) -> object:
    """Find ``ZOO_API`` of a loaded plugin: on the object itself, else in the module of its entry point."""
    stated = getattr(plugin, "ZOO_API", None)
    return stated if stated is not None or module is None else getattr(sys.modules.get(module), "ZOO_API", None)


def stated_in_source(module: str) -> object:
    """Read ``ZOO_API`` from the source of a module that failed to import, without running it; None if unknown."""
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        with open(spec.origin, "rb") as file:
            tree = ast.parse(file.read())
    except (Exception, SystemExit):
        return None
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "ZOO_API" for target in targets):
            value = getattr(node, "value", None)
            return value.value if isinstance(value, ast.Constant) else None
    return None


@dataclass(frozen=True)
class Called:
    """What came of calling a plugin's hooks."""

    collected: Collected
    hooks: tuple[str, ...]
    """Those that it implements."""
    deprecated: tuple[str, ...] = ()
    """What it uses that goes, each with the mend."""
    api: int | None = None


def load_plugin(find: Callable[[], object], name: str, module: str | None) -> Called:
    """Import a plugin, check the API that it states, and call its hooks.

    Args:
        module: the module that its entry point names, where there is one.

    Raises:
        ZooError: it is for another API, also where that is why it cannot be imported.
    """
    try:
        plugin = find()
    except (Exception, SystemExit):
        if module is not None:
            check_api(stated_in_source(module))
        raise
    api = check_api(stated_api(plugin, module))
    return replace(call_hooks(plugin, name), api=api)


def call_hooks(plugin: object, name: str) -> Called:
    """Call every hook of one plugin and collect what it registers."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            manager.register(plugin, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        known = ", ".join(f"{hook}({'app' if hook == 'register_commands' else 'register'})" for hook in HOOKS)
        raise ZooError(f"{_one_line(error)}; the hooks are {known}") from None
    deprecated = tuple(dict.fromkeys(_one_line(warning.message) for warning in caught if _is_deprecation(warning)))
    callers = manager.get_hookcallers(plugin) or []
    hooks = tuple(hook for hook in HOOKS if any(caller.name == hook for caller in callers))
    if not hooks:
        raise ZooError("implements no hook; mark its functions with @zoo.hookimpl")
    collected = Collected(name)
    registers: dict[str, Any] = {
        "register_families": collected.add_family,
        "register_datasets": collected.add_dataset,
        "register_sources": collected.source_adder(),
        "register_architectures": collected.part_adder("architecture", collected.architectures),
        "register_quantizers": collected.part_adder("quantizer", collected.quantizers),
        "register_targets": collected.part_adder("target", collected.targets),
        "register_tasks": collected.add_task,
    }
    for hook in hooks:
        with _traced(name, hook):
            if hook == "register_commands":
                import typer

                app = typer.Typer()
                manager.hook.register_commands(app=app)
                collected.commands = dict.fromkeys(_command_names(app), app)
            else:
                getattr(manager.hook, hook)(register=_traced_register(name, registers[hook]))
    return Called(collected, hooks, deprecated)


def tracing() -> bool:
    """Tell whether ``ZOO_TRACE=1`` asks for a line on stderr for each hook and what it registers."""
    return os.environ.get("ZOO_TRACE") == "1"


@contextlib.contextmanager
def _traced(plugin: str, hook: str) -> Iterator[None]:
    if not tracing():
        yield
        return
    begun = time.perf_counter()
    outcome = "raised"
    print(f"zoo: trace: {plugin}: {hook}", file=sys.stderr)
    try:
        yield
        outcome = "returned"
    finally:
        took = (time.perf_counter() - begun) * 1e3
        print(f"zoo: trace: {plugin}: {hook} {outcome} after {took:.1f} ms", file=sys.stderr)


def _traced_register(plugin: str, register: Callable[..., None]) -> Callable[..., None]:
    return _TracedRegister(plugin, register, "register") if tracing() else register


class _TracedRegister:
    """A ``register`` that says what it is called with, and so do its methods (``register.transform``)."""

    def __init__(self, plugin: str, register: Callable[..., None], name: str) -> None:
        self._plugin, self._register, self._name = plugin, register, name

    def __call__(self, *arguments: Any) -> None:
        shown = ", ".join(getattr(argument, "name", None) or repr(argument)[:200] for argument in arguments)
        print(f"zoo: trace: {self._plugin}:   {self._name}({shown})", file=sys.stderr)
        self._register(*arguments)

    def __getattr__(self, name: str) -> _TracedRegister:
        return _TracedRegister(self._plugin, getattr(self._register, name), f"{self._name}.{name}")


def _is_deprecation(warning: warnings.WarningMessage) -> bool:
    return issubclass(warning.category, DeprecationWarning)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def _command_names(app: typer.Typer) -> list[str]:
    """Name the commands of a plugin's app, and prove that the command line can be made of them."""
    from typer.main import get_command

    if app.registered_callback is not None:
        raise ZooError("register_commands: a plugin adds commands, not a callback")
    names = []
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__.lower().replace("_", "-") if command.callback else "")
        names.append(name)
    for group in app.registered_groups:
        group_name = group.name or (group.typer_instance.info.name if group.typer_instance else None)
        if not isinstance(group_name, str):
            raise ZooError("register_commands: a group of commands needs a name")
        names.append(group_name)
    if len(set(names)) < len(names):
        raise ZooError("register_commands: a command is registered twice")
    if names:
        get_command(app)
    return names
