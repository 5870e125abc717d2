"""Text and tables as Markdown and LaTeX show them."""

import re

# tabulate escapes what LaTeX takes for commands; these signs are not in the fonts of pdfLaTeX.
_LATEX_SIGNS = {
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "−": "$-$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
    "×": r"$\times$",
    "∞": r"$\infty$",
}


def markdown(text: str) -> str:
    """Returns text that Markdown shows as it is, in one line; an underscore within a word needs no escape."""
    one_line = " ".join(text.split())
    return re.sub(r"[\\`*|<>\[\]$~]|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", one_line)


def latex_table(table: str, caption: str) -> str:
    """Returns one of tabulate's LaTeX tables in signs that pdfLaTeX has, its caption before it as comments."""
    for sign, command in _LATEX_SIGNS.items():
        table = table.replace(sign, command)
    comments = [f"% {line}" for line in [*caption.splitlines(), "Needs \\usepackage{booktabs}."]]
    return "\n".join([*comments, table]) + "\n"
