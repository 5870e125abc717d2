"""Numbers out of text columns, block by block, and which text is none."""

import math
import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Where the file has fractions, times are counted in millionths of its unit.
_FRACTION_SCALE = 1_000_000
_INT64_LIMIT = 2.0**63
_LARGEST_WITH_FRACTIONS = _INT64_LIMIT / _FRACTION_SCALE

_WHOLE = r"^[-+]?[0-9]+(?:\.0*)?$"
_NUMBER = r"(?i)^[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[-+]?[0-9]+)?|inf|infinity)$"


BEYOND = "a time that 64 bits can hold"
NOT_FINITE = "a time, a finite number"
TOO_LARGE = f"less than {_LARGEST_WITH_FRACTIONS:.0f}, as other times have fractions"


def is_number(text: str) -> bool:
    """Returns whether text is a number, or nothing, or written as nan."""
    text = text.strip()
    return text.lower() in ("", "nan") or re.match(_NUMBER, text) is not None


def is_time(text: str) -> bool:
    """Returns whether text is a finite number that 64 bits can hold."""
    text = text.strip()
    return re.match(_NUMBER, text) is not None and math.isfinite(float(text)) and abs(float(text)) < _INT64_LIMIT


@dataclass
class FloatColumn:
    """A column of numbers, float64; missing ones, and what is written as nan, are NaN.

    Attributes:
        parts: values, block by block.
        found: what is expected -> the first value that is something else: its row in the file, from 0, and its text.
    """

    parts: list[np.ndarray] = field(default_factory=list)
    found: dict[str, tuple[int, str | None]] = field(default_factory=dict)

    def add(self, text: pa.Array, rows: np.ndarray) -> None:
        """Takes in a block: its text, and the numbers of its rows in the file."""
        values = _floats(text)
        self._check(no_numbers(text, values), text, rows, "a number")
        self.parts.append(values)

    def _check(self, wrong: np.ndarray, text: pa.Array, rows: np.ndarray, expected: str) -> None:
        if expected not in self.found and wrong.any():
            place = int(wrong.argmax())
            self.found[expected] = int(rows[place]), text[place].as_py()

    @property
    def expected(self) -> str | None:
        """Which of the keys of `found` is a fault, given all blocks; None where all is well."""
        return next(iter(self.found), None)

    def finish(self) -> np.ndarray:
        """Returns the whole column and lets go of its parts."""
        return join(self.parts, np.dtype(np.float64))


class TimeColumn(FloatColumn):
    """A column of times: int64, or where the file has fractions float64 with a scale of 1,000,000.

    Whole numbers never pass through floating point, so that 19-digit nanoseconds keep their last digit. What counts as
    a fault depends on the whole column: a number beyond int64 is one only among whole numbers.
    """

    all_whole = True
    has_fractions = False

    def add(self, text: pa.Array, rows: np.ndarray) -> None:
        """Takes in a block: its text, and the numbers of its rows in the file."""
        values = None if text.null_count else _plain_integers(text)
        if values is None:
            values = self._parse(text, rows)
        elif len(values) and max(int(values.max()), -int(values.min())) >= _LARGEST_WITH_FRACTIONS:
            self._check_size(values.astype(np.float64), text, rows)
        self.parts.append(values)

    def _parse(self, text: pa.Array, rows: np.ndarray) -> np.ndarray:
        trimmed = pc.utf8_trim_whitespace(text)
        whole = pc.fill_null(pc.match_substring_regex(trimmed, _WHOLE), False)
        if pc.all(whole).as_py():
            digits = pc.replace_substring_regex(pc.utf8_ltrim(trimmed, "+"), r"\.0*$", "")
            try:
                values = pc.cast(digits, pa.int64()).to_numpy()
            except pa.ArrowInvalid:
                values = np.array([float(value) for value in digits.to_pylist()])
                outside = np.array([not -(2**63) <= int(value) < 2**63 for value in digits.to_pylist()])
                self._check(outside, text, rows, BEYOND)
        else:
            values = _floats(text)
            self.all_whole = False
            self.has_fractions |= bool((values != np.floor(values)).any())
        self._check_size(values.astype(np.float64), text, rows)
        return values

    def _check_size(self, values: np.ndarray, text: pa.Array, rows: np.ndarray) -> None:
        size = np.abs(values)
        self._check(np.isnan(values) | (size >= _INT64_LIMIT), text, rows, NOT_FINITE)
        self._check(size >= _LARGEST_WITH_FRACTIONS, text, rows, TOO_LARGE)

    @property
    def expected(self) -> str | None:
        """As of `FloatColumn`."""
        kinds = [BEYOND] if self.all_whole else [NOT_FINITE, TOO_LARGE] if self.has_fractions else [NOT_FINITE]
        return next((kind for kind in kinds if kind in self.found), None)

    @property
    def scale(self) -> int:
        """1, or 1,000,000 where there are fractions."""
        return _FRACTION_SCALE if self.has_fractions else 1

    def finish(self) -> np.ndarray:
        """Returns the whole column in the file's unit, int64 or with fractions float64, and lets go of its parts."""
        return join(self.parts, np.dtype(np.float64 if self.has_fractions else np.int64))


def no_numbers(text: pa.Array, values: np.ndarray | None = None) -> np.ndarray:
    """Returns a mask of the text that is no number; `values` are its numbers, where they are known."""
    wrong = np.isnan(_floats(text) if values is None else values)
    if wrong.any():
        named = pc.equal(pc.utf8_lower(pc.utf8_trim_whitespace(text)), "nan")
        wrong &= ~pc.fill_null(named, True).to_numpy(zero_copy_only=False)
    return wrong


def _floats(text: pa.Array) -> np.ndarray:
    """Returns text as float64, the nearest to it; NaN where it is missing or no number."""
    try:
        values = pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(text)
        is_number = pc.match_substring_regex(trimmed, _NUMBER)
        values = pc.cast(pc.if_else(is_number, trimmed, pa.scalar(None, trimmed.type)), pa.float64())
    return values.to_numpy(zero_copy_only=False)


def _plain_integers(text: pa.Array) -> np.ndarray | None:
    """Returns a column of plain integers as int64, or None if it may hold anything else."""
    # Arrow takes "0x1F" for an integer.
    characters = np.frombuffer(text.buffers()[2] or b"", dtype=np.uint8)
    if (characters == ord("x")).any() or (characters == ord("X")).any():
        return None
    try:
        return pc.cast(text, pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        return None


def join(parts: list[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """Returns the parts as one array; empties the list on the way, so that both are never in memory whole."""
    joined = np.empty(sum(map(len, parts)), dtype)
    filled = 0
    parts.reverse()
    while parts:
        part = parts.pop()
        joined[filled : filled + len(part)] = part
        filled += len(part)
    return joined
