"""A table of scores, and its markdown, CSV and LaTeX. The same table gives the same bytes."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MISSING = "—"


@dataclass(frozen=True)
class Score:
    """One number of a table."""

    value: float | None  # None: there is no figure
    spread: float | None = None  # standard deviation over seeds
    difference: float | None = None  # to the reported figure
    best: bool = False  # of its column, by more than noise
    higher_is_better: bool = True
    digits: int = 1  # decimals

    @property
    def text(self) -> str:
        """The value with its decimals, or a dash."""
        return MISSING if self.value is None else _decimal(self.value, digits=self.digits)

    @property
    def remark(self) -> str:
        """Spread and difference behind the value, e.g. `± 0.2 (−0.1)`; empty if there is neither."""
        spread = None if self.spread is None else f"± {_decimal(self.spread, digits=self.digits)}"
        difference = None if self.difference is None else f"({_decimal(self.difference, '+', self.digits)})"
        return " ".join(part for part in (spread, difference) if part)


Cell = str | Score


@dataclass(frozen=True)
class Row:
    """One line of a section; `notes` are said below the table, with a number at the row's end."""

    cells: tuple[Cell, ...]
    notes: tuple[str, ...] = ()
    measured: bool = False  # by this suite; otherwise it is what others reported
    records: tuple[str, ...] = ()  # of a measured row: where they lie below the folder of the results
    arxiv: str = ""  # of a reported row: its paper's number


@dataclass(frozen=True)
class Section:
    """Rows that may be compared with one another, or (`comparable` False) that may not."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    comparable: bool = True
    about: str = ""  # what holds for all its rows, said below the title

    @property
    def measured(self) -> bool:
        """Whether some of its rows were measured by this suite."""
        return any(row.measured for row in self.rows)

    def is_score(self, column: int) -> bool:
        """Whether this column holds numbers."""
        return any(isinstance(row.cells[column], Score) for row in self.rows)

    def scores(self) -> Iterable[Score]:
        """All numbers of the section."""
        return (cell for row in self.rows for cell in row.cells if isinstance(cell, Score))


@dataclass(frozen=True)
class Table:
    """What one file shows."""

    title: str
    sections: tuple[Section, ...]
    footnotes: tuple[str, ...] = ()


def number_notes(sections: Iterable[Section]) -> dict[str, int]:
    """The notes of all rows, numbered from 1 in the order in which they first occur."""
    notes = dict.fromkeys(note for section in sections for row in section.rows for note in row.notes)
    return {note: number for number, note in enumerate(notes, start=1)}


def markers(row: Row, numbers: dict[str, int]) -> str:
    """` [1][2]`: the numbers of the row's notes, empty without notes."""
    return "".join([" "] + [f"[{numbers[note]}]" for note in row.notes]) if row.notes else ""


def to_markdown(table: Table) -> str:
    """The table as GitHub markdown."""
    numbers = number_notes(table.sections)
    parts = [f"# {_escape_markdown(table.title)}"]
    for section in table.sections:
        about = [_escape_markdown(section.about)] if section.about else []
        parts += [f"## {_escape_markdown(section.title)}", *about, _markdown_rows(section, numbers)]
    notes = [*table.footnotes, *(f"[{number}] {note}" for note, number in numbers.items())]
    if notes:
        parts.append("\n".join(f"- {_escape_markdown(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def to_csv(table: Table) -> str:
    """The table as CSV: one line a row, the section's title first, then the columns of all sections.

    A number stands alone in its column; where there is a spread or a difference, it has a column of its own.
    """
    records = [_csv_record(section, row) for section in table.sections for row in section.rows]
    columns = _csv_columns(table.sections, records)
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def to_latex(table: Table) -> str:
    """The table as LaTeX, one `table` float a section; needs the package booktabs."""
    numbers = number_notes(table.sections)
    lines = [f"% {table.title}. Needs \\usepackage{{booktabs}}."]
    for section in table.sections:
        lines += ["", *_latex_float(section, numbers)]
    if table.footnotes:
        lines += ["", r"\par\noindent{\footnotesize"]
        lines += [rf"{_escape_latex(note)}\\" for note in table.footnotes[:-1]]
        lines += [_escape_latex(table.footnotes[-1]) + r"\par}"]
    return "\n".join(lines) + "\n"


FORMATS = {"md": to_markdown, "csv": to_csv, "tex": to_latex}


def _decimal(value: float, sign: str = "", digits: int = 1) -> str:
    text = format(value, f"{sign}.{digits}f")
    return format(0, f".{digits}f") if float(text) == 0 else text.replace("-", "−")


def _markdown_rows(section: Section, numbers: dict[str, int]) -> str:
    aligned = ["--:" if section.is_score(column) else "---" for column in range(len(section.columns))]
    lines = [[_escape_markdown(head) for head in section.columns], aligned]
    for row in section.rows:
        cells = [_markdown_cell(cell) for cell in row.cells]
        lines.append([*cells[:-1], cells[-1] + markers(row, numbers)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _escape_markdown(cell)
    return _joined(f"**{cell.text}**" if cell.best else cell.text, cell.remark)


def _escape_markdown(text: str) -> str:
    text = re.sub(r"([\\`*|<])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\_", text)  # within a word, as in vit_small, it has no meaning


def _csv_record(section: Section, row: Row) -> dict[str, str]:
    record = {"Section": section.title, "Notes": " | ".join(row.notes)}
    if section.about:
        record["About"] = section.about
    for head, cell in zip(section.columns, row.cells, strict=True):
        if isinstance(cell, str):
            record[head] = cell
            continue
        record[head] = cell.text.replace("−", "-")
        for name, part in (("std", cell.spread), ("difference", cell.difference)):
            if part is not None:
                record[f"{head} {name}"] = _decimal(part, digits=cell.digits).replace("−", "-")
    return record


def _csv_columns(sections: Sequence[Section], records: Sequence[dict[str, str]]) -> list[str]:
    """Section, About, the columns of all sections in their order with what stands behind a number, Notes."""
    present = {name for record in records for name in record}
    heads = list(dict.fromkeys(head for section in sections for head in section.columns))
    columns = ["About", *(name for head in heads for name in (head, f"{head} std", f"{head} difference"))]
    return ["Section", *(name for name in columns if name in present), "Notes"]


def _latex_float(section: Section, numbers: dict[str, int]) -> list[str]:
    own = dict.fromkeys(note for row in section.rows for note in row.notes)
    notes = [rf"\par\smallskip{{\footnotesize {_escape_latex(f'[{numbers[note]}] {note}')}}}" for note in own]
    return [
        r"\begin{table}[tp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{_escape_latex(_joined(section.title, section.about and f'({section.about})'))}}}",
        rf"\begin{{tabular}}{{{_latex_alignment(section)}}}",
        r"\toprule",
        _latex_line(_escape_latex(head) for head in section.columns),
        r"\midrule",
        *(_latex_row(row, numbers) for row in section.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{table}",
    ]


def _latex_alignment(section: Section) -> str:
    """`r` for numbers, `l` for short text, a paragraph for text that would not fit beside the rest."""
    letters = []
    for column in range(len(section.columns)):
        if section.is_score(column):
            letters.append("r")
        else:
            longest = max((len(row.cells[column]) for row in section.rows), default=0)
            letters.append("l" if longest <= 24 else r"p{0.18\linewidth}")
    return "".join(letters)


def _latex_row(row: Row, numbers: dict[str, int]) -> str:
    cells = [_latex_cell(cell) for cell in row.cells]
    return _latex_line([*cells[:-1], cells[-1] + _escape_latex(markers(row, numbers))])


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _escape_latex(cell)
    value = _escape_latex(cell.text)
    return _joined(rf"\textbf{{{value}}}" if cell.best else value, _escape_latex(cell.remark))


_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # after the \\ of the line before, a bare one would begin an argument
    "—": "---",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
    "…": r"\ldots{}",
}


def _escape_latex(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    return "".join(_LATEX.get(character, character) for character in text)


def _joined(value: str, remark: str) -> str:
    return f"{value} {remark}" if remark else value
