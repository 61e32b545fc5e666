"""The table of what ``--mixed auto`` chose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.cli.output import echo, print_table
from zoo.units import bytes_text

if TYPE_CHECKING:
    from zoo.stages.mixed import MixedChoice, WeightChoice

MISSED = 3
"""How many weights that just missed more bits are shown."""


def print_choice(choice: MixedChoice) -> None:
    """Print the weights that got more bits, the next ones in line, and the resulting size and error."""
    raised = [weight for weight in choice.weights if weight.precision == choice.high]
    others = [weight for weight in choice.weights if weight.precision != choice.high]

    def row(one: WeightChoice) -> tuple[str, ...]:
        return (
            one.name, one.precision, bytes_text(one.nbytes), f"{one.low_kl:.1e}", f"{one.high_kl:.1e}",
            f"{one.gain:.1e}",
        )  # fmt: skip

    rows = [row(weight) for weight in (*raised, *others[:MISSED])]
    titles = ("WEIGHT", "PRECISION", "SIZE", f"KL {choice.low}", f"KL {choice.high}", "GAIN, NATS/GB")
    print_table(titles, rows, right=(2, 3, 4, 5))
    if len(others) > MISSED:
        echo(f"… and {len(others) - MISSED} more at {choice.low}")
    echo(
        f"{len(raised)} of {len(choice.weights)} weights at {choice.high}: "
        f"{choice.bits_per_weight:.2f} bits per weight of {choice.budget:.2f} allowed, "
        f"predicted KL {choice.predicted_kl:.1e}"
    )
    echo(f"without --mixed: {choice.plain_bits_per_weight:.2f} bits per weight, {choice.plain_kl:.1e}")
