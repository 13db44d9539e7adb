"""A page of `kvtier report` as a test reads it: its tables, images and texts, and what a table has to say."""

import html.parser
import json
import re

UNITS = {"h": 3600, "min": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "bytes": 1, "%": 0.01, "": 1,
         **{f"{letter}iB{rate}": 1024 ** power for power, letter in enumerate("KMGTP", 1) for rate in ("", "/s")},
         **{f"{letter}FLOP{rate}": 1000 ** power for power, letter in enumerate(("", *"kMGTPE")) for rate in ("", "/s")}}


class Page(html.parser.HTMLParser):
    """`tables`: {id: rows of cells}; a cell is (number, text), or (None, text)."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.marked, self.images, self.tags, self.texts = {}, {}, [], set(), []
        self._table, self._cell, self._number = None, None, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        if tag == "table":
            self._table = self.tables.setdefault(attributes["id"], [])
            self.marked[attributes["id"]] = []
        elif tag == "tr":
            if attributes.get("class") == "marked":
                self.marked[list(self.tables)[-1]].append(len(self._table) - 1)
            self._table.append([])
        elif tag in ("td", "th"):
            self._cell, self._number = "", None
        elif tag == "data":
            self._number = json.loads(attributes["value"])
        elif tag == "img":
            self.images.append(attributes)
        for name, value in attributes.items():
            assert not name.startswith("on"), f"<{tag} {name}={value}>"
            assert name not in ("href", "src", "action") or value.startswith("data:image/svg+xml;base64,"), value

    def handle_data(self, data):
        self.texts.append(data)
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._table[-1].append((self._number, self._cell))
            self._cell = None


def check_texts(page):
    """What people read is the number, to four digits."""
    for name, rows in page.tables.items():
        for row in rows:
            for number, text in row:
                if number is None:
                    continue
                digits, unit = re.fullmatch(r"(-?[\d.,]+(?:e[+-]?\d+)?) ?(\D*)", text).groups()
                shown = float(digits.replace(",", "")) * UNITS[unit]
                assert abs(shown - number) <= 6e-4 * abs(number), f"{name}: {text} for {number}"


def check_table(page, name, wanted):
    """`wanted`: rows of numbers and texts; None is a dash."""
    found = [[number if number is not None else text for number, text in row] for row in page.tables[name][1:]]
    wanted = [["–" if cell is None else cell for cell in row] for row in wanted]
    assert found == wanted, f"table {name}:\n{found}\nnot\n{wanted}"
