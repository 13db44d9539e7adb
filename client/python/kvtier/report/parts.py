"""What a section of the page is made of. Every text is escaped here, so that whatever a result says is only shown."""

import base64
import html

from . import figures
from .quantities import Quantity, name_text


class Section:
    """`name` is the section's id on the page."""

    def __init__(self, name, title, parts):
        self.name, self.title, self.parts = name, title, parts


class Table:
    """`titles` are texts, `rows` lists of as many texts and Quantities. `name` is the table's id on the page."""

    def __init__(self, name, titles, rows, marked=(), folded=None):
        self.name, self.titles, self.rows, self.marked, self.folded = name, titles, rows, set(marked), folded

    def html(self):
        # A column is one of numbers if anything in it is.
        numbers = [any(isinstance(row[column], Quantity) for row in self.rows) for column in range(len(self.titles))]
        parts = [f'<div class="table"><table id="{html.escape(self.name)}">', _row("th", self.titles, numbers, "")]
        parts += [_row("td", row, numbers, ' class="marked"' if index in self.marked else "")
                  for index, row in enumerate(self.rows)]
        table = "\n".join(parts) + "\n</table></div>"
        if self.folded:
            table = f"<details><summary>{html.escape(self.folded)}</summary>{table}</details>"
        return table


def _row(tag, cells, numbers, attributes):
    return f"<tr{attributes}>" + "".join(
        f'<{tag}{" class=" + chr(34) + "number" + chr(34) if number else ""}>'
        f"{cell.html() if isinstance(cell, Quantity) else html.escape(name_text(cell))}</{tag}>"
        for cell, number in zip(cells, numbers)) + "</tr>"


class Text:
    def __init__(self, text, missing=False):
        self.text, self.missing = text, missing

    def html(self):
        return f"<p{' class=' + chr(34) + 'missing' + chr(34) if self.missing else ''}>{html.escape(self.text)}</p>"


class Title:
    def __init__(self, text):
        self.text = text

    def html(self):
        return f"<h3>{html.escape(self.text)}</h3>"


class Plot:
    """`figure` is matplotlib's; `caption` is for those who cannot see it. As an image it can run no script."""

    def __init__(self, figure, caption):
        self.figure, self.caption = figure, caption

    def html(self):
        data = base64.b64encode(figures.svg(self.figure)).decode("ascii")
        return (f'<figure><img alt="{html.escape(self.caption)}" '
                f'src="data:image/svg+xml;base64,{data}"></figure>')
