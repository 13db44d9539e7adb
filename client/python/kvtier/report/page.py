"""The page: sections of text, tables and plots as one HTML file that needs nothing else."""

import html

from .sections import all_sections

# A page from somewhere else must not be able to do more than show itself.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 74rem; padding: 1.5rem 2rem 4rem; background: #fff; color: #1c2430;
       font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid #d8dde5; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
p { max-width: 48rem; margin: .5rem 0; }
.missing { color: #6a7482; font-style: italic; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
.table { overflow-x: auto; margin: .75rem 0 1.25rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #e9edf2; }
td { white-space: nowrap; }
td.number, th.number { text-align: right; padding-left: .75rem; }
tr.marked td { background: #eef5fc; font-weight: 600; }
details { margin: .5rem 0 1rem; }
summary { cursor: pointer; color: #2a5d9f; }
"""


def render(results):
    """The page of these Results, as text. ImportError: there is no matplotlib."""
    parts = ["<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
             f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
             '<meta name="viewport" content="width=device-width, initial-scale=1">',
             "<title>kvtier report</title>", f"<style>{_STYLE}</style>", "</head>", "<body>",
             "<h1>What any placement could do, and what policies do</h1>"]
    for section in all_sections(results):
        parts.append(f'<section id="{section.name}">\n<h2>{html.escape(section.title)}</h2>')
        parts += [part.html() for part in section.parts]
        parts.append("</section>")
    return "\n".join(parts) + "\n</body>\n</html>\n"
