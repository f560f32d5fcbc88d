"""Computes a colour space's columns in XYZ from the chromaticities of its primaries and its white."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Vector = tuple[float, float, float]
Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue, in the order of PNG's `cHRM`."""

D50: Final[Vector] = (0.96420, 1.0, 0.82491)
_BRADFORD: Final = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_MAX_COMPONENT = 100.0
"""Larger values come from primaries that lie nearly on a line, and an ICC profile does not hold them."""
_MIN_DETERMINANT = 1e-9
_MIN_RESPONSE = 1e-6
"""The eye's response to the white, below which no adaptation exists."""


def colorants(chromaticities: Sequence[float]) -> tuple[Vector, ...]:
    """Return red, green and blue in XYZ, adapted to D50 by Bradford (ICC.1:2022 annex E).

    Raises `ValueError` for chromaticities outside 0 to 1, or of no colour space.
    """
    if not all(0 <= value <= 1 for value in chromaticities) or not chromaticities[1]:
        raise ValueError("chromaticities are fractions, and white is not dark")
    white, *primaries = (
        (x, y, 1 - x - y) for x, y in zip(chromaticities[::2], chromaticities[1::2], strict=True)
    )
    white_xyz = tuple(value / white[1] for value in white)
    strengths = _product(_inverse(_transposed(primaries)), white_xyz)
    adapt = _adaptation(white_xyz)
    columns = tuple(
        _product(adapt, [strength * value for value in primary])
        for strength, primary in zip(strengths, primaries, strict=True)
    )
    if any(abs(value) > _MAX_COMPONENT for column in columns for value in column):
        raise ValueError("the primaries lie nearly on a line")
    return columns


def is_color_space(chromaticities: Sequence[float]) -> bool:
    """Return whether the chromaticities describe a colour space."""
    try:
        return bool(colorants(chromaticities))
    except ValueError:
        return False


def _adaptation(white: Sequence[float]) -> tuple[Vector, ...]:
    """Return the matrix that adapts XYZ from this white to D50."""
    responses = _product(_BRADFORD, white)
    if min(responses) < _MIN_RESPONSE:
        raise ValueError("no eye sees this white")
    ratios = (to / origin for to, origin in zip(_product(_BRADFORD, D50), responses, strict=True))
    scaled = [[ratio * value for value in row] for ratio, row in zip(ratios, _BRADFORD, strict=True)]
    inverse = _inverse(_BRADFORD)
    return _transposed([_product(inverse, column) for column in _transposed(scaled)])


def _product(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> Vector:
    x, y, z = (sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)
    return x, y, z


def _transposed(matrix: Sequence[Sequence[float]]) -> tuple[Vector, ...]:
    return tuple((a, b, c) for a, b, c in zip(*matrix, strict=True))


def _cross(one: Sequence[float], other: Sequence[float]) -> Vector:
    return (
        one[1] * other[2] - one[2] * other[1],
        one[2] * other[0] - one[0] * other[2],
        one[0] * other[1] - one[1] * other[0],
    )


def _inverse(matrix: Sequence[Sequence[float]]) -> tuple[Vector, ...]:
    """Return the inverse. Raises `ValueError` if there is none."""
    a, b, c = matrix
    cofactors = (_cross(b, c), _cross(c, a), _cross(a, b))
    determinant = sum(x * y for x, y in zip(a, cofactors[0], strict=True))
    if abs(determinant) < _MIN_DETERMINANT:
        raise ValueError("the primaries lie on a line")
    return _transposed([[value / determinant for value in row] for row in cofactors])
