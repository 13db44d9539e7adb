"""Pages of what `kvtier bound`, `kvtier sim` and `kvtier plan` print with --json.

    kvtier report bound.json plan.json -o report.html
    python3 -m kvtier.report bound.json -o report.html

A page is one HTML file that asks no network for anything: its plots are SVG images inside it. All that is plotted stands
in its tables as well, each number as <data value="...">, the digits of the JSON.

matplotlib is needed (Debian: python3-matplotlib) and loaded with kvtier.report.page, which draws. These modules need nothing
else of the package; importing them as kvtier.report loads its extension, as any import of kvtier does, and the command
`kvtier report` brings a copy of its own.
"""

from .command import main
from .results import InvalidResult, Result, read_result

__all__ = ["InvalidResult", "Result", "main", "read_result"]
