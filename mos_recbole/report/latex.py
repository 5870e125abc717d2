"""Text as LaTeX: what is special to it is escaped, and signs of mathematics are mathematics."""

import re
from collections.abc import Sequence
from typing import Literal

Kind = Literal["words", "number", "heading"]

_SIGNS = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "<": "$<$",
        ">": "$>$",
        "–": "--",
        "−": "$-$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "·": r"$\cdot$",
        "≥": r"$\ge$",
        "≤": r"$\le$",
        "∞": r"$\infty$",
        "√": r"$\surd$",
        "σ": r"$\sigma$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "†": r"$\dagger$",
        "★": r"$\star$",
    }
)
# Symbols in headings: p, d_z, d+1, K; and powers of ten in numbers.
_SYMBOL = {
    "heading": re.compile(r"(?<![\w@.-])(?:d_z|d\+1|[pdKNV])(?![\w-])"),
    "number": re.compile(r"(?<![\w.])\d+(?:\.\d+)?e[+-]\d+(?!\w)"),
}
_MINUS = re.compile(r"(?<![\w.)\]-])-(?=[\d.∞])|(?<= )-(?= )")


def latex_text(text: str, kind: Kind = "words") -> str:
    """Returns text for LaTeX, with the signs that its standard fonts have.

    A hyphen before a number and one between spaces is a minus; in a number, one between digits is a range.

    Args:
        text: as readers see it.
        kind: of a table's cell; in headings, letters such as p stand for quantities.
    """
    if text == "-":
        return "--"
    parts, end = [], 0
    for found in _SYMBOL[kind].finditer(text) if kind in _SYMBOL else ():
        parts += [_escape(text[end : found.start()], kind), _mathematics(found[0])]
        end = found.end()
    return "".join([*parts, _escape(text[end:], kind)])


def latex_tabular(header: Sequence[str], rows: Sequence[Sequence[str]], is_text: Sequence[bool]) -> str:
    """Returns a tabular of the package booktabs.

    Args:
        header, rows: the cells as readers see them.
        is_text: which columns hold words, and are set to the left.
    """
    kinds: list[Kind] = ["words" if one else "number" for one in is_text]
    body = [[latex_text(text, kind) for text, kind in zip(row, kinds, strict=True)] for row in rows]
    lines = [[latex_text(text, "heading") for text in header], *body]
    # A bracket or star at the start would be taken for an argument of what ends the line before.
    head, *others = ["{}" * line[0].startswith(("[", "*")) + " & ".join(line) + r" \\" for line in lines]
    columns = "".join("l" if one else "r" for one in is_text)
    rules = [r"\toprule", head, r"\midrule", *others, r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *rules, r"\end{tabular}"])


def _escape(text: str, kind: Kind) -> str:
    text = _MINUS.sub("−", text)
    return (re.sub(r"(?<=\d)-(?=\d)", "–", text) if kind == "number" else text).translate(_SIGNS)


def _mathematics(symbol: str) -> str:
    factor, e, power = symbol.partition("e")
    return rf"${factor}\times10^{{{int(power)}}}$" if e else f"${symbol}$"
