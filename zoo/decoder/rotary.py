"""Rotary frequencies: how fast each pair of a head's values turns with the position, and how scaling slows it.

Base: RoFormer, arXiv 2104.09864. ``linear``: position interpolation, arXiv 2306.15595. ``dynamic``: the NTK-aware base
that grows with the sequence (arXiv 2309.00071, section 3.3), as transformers computes it. ``yarn``: arXiv 2309.00071.
``llama3``: the frequency bands of Llama 3.1 (arXiv 2407.21783). ``longrope``: each frequency divided by its own
factor (arXiv 2402.13753). Parity with transformers is tested.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zoo.declarations.architecture import Architecture, RopeScaling
from zoo.errors import ZooError
from zoo.operations.rotary import Angles

Frequencies = NDArray[np.float32]


def angles(arch: Architecture, padded: int) -> Angles:
    """Make the rotary frequencies of heads that are ``padded`` wide; the padding does not turn.

    Returns:
        Inverse frequencies, float32 (padded / 2,), radians a position, with what else the tables depend on.
    """
    scaling, size = arch.rope_scaling, arch.head_dim
    base = _frequencies(arch.rope_theta, size)
    magnitude, growth = 1.0, None
    if scaling is None:
        frequencies = base
    elif scaling.rope_type == "linear":
        frequencies = base / np.float32(scaling.factor)
    elif scaling.rope_type == "dynamic":
        frequencies = base
        growth = (arch.rope_theta, scaling.factor, arch.max_position_embeddings, size / (size - 2) if size > 2 else 1.0)
    elif scaling.rope_type == "longrope":
        frequencies, magnitude = _divided(arch, scaling, base)
    elif scaling.rope_type == "yarn":
        try:
            frequencies, magnitude = _yarn(arch, scaling, base)
        except (ZeroDivisionError, ValueError, OverflowError):
            raise ZooError(f"config.json: rope_theta {arch.rope_theta:g} and its rope_scaling give no angles") from None
    else:
        frequencies = _bands(arch, scaling, base)
    if not (np.isfinite(frequencies).all() and math.isfinite(magnitude)):
        raise ZooError(f"config.json: rope_theta {arch.rope_theta:g} and its rope_scaling make infinite angles")
    padding = np.zeros(padded // 2 - size // 2, np.float32)
    return Angles(
        frequencies=np.concatenate([frequencies.astype(np.float32), padding]),
        exponents=np.concatenate([np.arange(0, size, 2, dtype=np.float32) / np.float32(size), padding]),
        turning=size // 2,
        magnitude=magnitude,
        growth=growth,
    )


def _frequencies(theta: float, size: int) -> Frequencies:
    """θ^(-2i / size) for each pair i."""
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    with np.errstate(divide="ignore", over="ignore"):  # ``angles`` refuses what is not finite
        frequencies: Frequencies = np.float32(1) / np.power(np.float32(theta), exponents)
    return frequencies


def _divided(arch: Architecture, scaling: RopeScaling, base: Frequencies) -> tuple[Frequencies, float]:
    """Divide each frequency by its own factor, and scale q and k (arXiv 2402.13753; transformers' attention factor)."""
    divisors = np.array(scaling.divisors(arch.context_length), np.float32)
    frequencies: Frequencies = np.divide(base, divisors)
    return frequencies, scaling.magnitude


def _bands(arch: Architecture, scaling: RopeScaling, base: Frequencies) -> Frequencies:
    """Keep short wavelengths, divide long ones by the factor, blend between."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    if low is None or high is None or scaling.original_max_position_embeddings is None or low >= high:
        raise ZooError(
            "rope_scaling: rope_type 'llama3' needs original_max_position_embeddings and "
            "low_freq_factor below high_freq_factor"
        )
    original = scaling.original_max_position_embeddings
    wavelengths = 2 * math.pi / base
    scaled = np.where(wavelengths > original / low, base / np.float32(scaling.factor), base)
    smooth = (original / wavelengths - low) / (high - low)
    blended = (1 - smooth) * scaled / np.float32(scaling.factor) + smooth * scaled
    between = (wavelengths >= original / high) & (wavelengths <= original / low)
    return np.where(between, blended, scaled).astype(np.float32)


def _yarn(arch: Architecture, scaling: RopeScaling, base: Frequencies) -> tuple[Frequencies, float]:
    """Interpolate slow pairs, keep fast ones, ramp between (section 3.2), and scale attention (section 3.4)."""
    size, theta, factor = arch.head_dim, arch.rope_theta, scaling.factor
    original = scaling.original_max_position_embeddings or arch.max_position_embeddings

    def pair_that_turns(times: float) -> float:
        return size * math.log(original / (times * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_that_turns(scaling.beta_fast or 32), pair_that_turns(scaling.beta_slow or 1)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(size // 2, dtype=np.float32) - np.float32(low)) / np.float32(high - low), 0, 1)
    frequencies = base / np.float32(factor) * ramp + base * (1 - ramp)
    if scaling.attention_factor is not None:
        return frequencies.astype(np.float32), scaling.attention_factor

    def magnitude(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if scaling.mscale and scaling.mscale_all_dim:
        return frequencies.astype(np.float32), magnitude(scaling.mscale) / magnitude(scaling.mscale_all_dim)
    return frequencies.astype(np.float32), magnitude(1.0)
