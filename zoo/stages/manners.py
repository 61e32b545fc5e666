"""How a package writes calls of tools and thoughts: as its family declares it, where its chat template agrees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zoo.declarations.conversation import Manners, Thinking, ToolFormat
from zoo.declarations.recipe import Recipe
from zoo.registry import Registry


def find_manners(registry: Registry, recipe: Recipe, templates: Mapping[str, str]) -> Manners:
    """Find out how a package's model writes what is not plain text.

    What its own declaration says comes first, then what any family declares whose markers the template writes. A
    template that takes no tools has no calls, and one that writes no marker of thoughts has none.

    Args:
        templates: the package's chat templates by name.
    """
    text = "\n".join(templates.values())
    declared = list(_declared(registry, recipe))
    others = [family.family for family in registry.families.values()]
    formats = [manners.tools for manners in declared if manners.tools is not None]
    marked = [family.tools for family in others if family.tools is not None and _is_written(family.tools, text)]
    thoughts = [manners.thinking for manners in declared] + [family.thinking for family in others]
    return Manners(
        tools=next(iter([*formats, *marked]), None) if "tools" in text else None,
        thinking=next((way for way in thoughts if way is not None and _is_thought(way, text)), None),
    )


def _declared(registry: Registry, recipe: Recipe) -> Iterable[Manners]:
    """Read the declarations of the package's model, and of its family."""
    family = registry.families.get(recipe.family) if recipe.family is not None else None
    if family is None:
        return
    model = family.model(recipe.model)
    if model is not None:
        yield Manners(tools=model.last("tools")[0], thinking=model.last("thinking")[0])
    yield Manners(tools=family.family.tools, thinking=family.family.thinking)


def _is_written(form: ToolFormat, text: str) -> bool:
    return bool(form.marker) and form.marker in text


def _is_thought(thinking: Thinking, text: str) -> bool:
    return thinking.start in text or thinking.end in text
