"""The few marks that drawings are made of; every text is escaped."""

from __future__ import annotations

from html import escape

from markupsafe import Markup


def number(value: float) -> str:
    """Write a coordinate: at most two decimals, none where none are needed."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> str:
    """A line of text."""
    where = "" if anchor == "start" else f' text-anchor="{anchor}"'
    kind = f' class="{css}"' if css else ""
    return f'<text x="{number(x)}" y="{number(y)}"{where}{kind}>{escape(content)}</text>'


def rect(x: float, y: float, width: float, height: float, css: str, *, radius: float = 0, title: str = "") -> str:
    """A rectangle; ``title`` is what pointing at it says."""
    corner = f' rx="{number(radius)}"' if radius else ""
    shape = (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"{corner} class="{css}"'
    )
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<path d="M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}" class="{css}"/>'


def path(d: str, css: str, style: str = "") -> str:
    """A path by its own commands."""
    kind = f' class="{css}"' if css else ""
    how = f' style="{escape(style)}"' if style else ""
    return f'<path d="{d}"{kind}{how}/>'


def drawing(width: float, height: float, label: str, css: str, marks: list[str]) -> Markup:
    """Put marks into a drawing that scales with the page and names itself to a screen reader."""
    return Markup(
        f'<svg viewBox="0 0 {number(width)} {number(height)}" class="{css}" role="img" '
        f'aria-label="{escape(label)}">{"".join(marks)}</svg>'
    )


def document(width: float, height: float, label: str, style: str, marks: list[str]) -> str:
    """Put marks into a drawing that stands alone: a file of its own, with its own style sheet."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}" '
        f'width="{number(width)}" height="{number(height)}" role="img" aria-label="{escape(label)}">\n'
        f"<style>{style}</style>\n" + "\n".join([rect(0, 0, width, height, "paper"), *marks]) + "\n</svg>\n"
    )
