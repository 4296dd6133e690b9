"""Pieces of the report's page: sections, tables, verdict cards. One file, without a script or a request to anywhere.

The look is util/html.py's; what the report has besides stands in CSS below.
"""
import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from dominate import tags
from dominate.util import raw

from duiit.util import html
from duiit_cli.experiments.reporting.figures import Picture

Element: TypeAlias = tags.html_tag      # of the page; `heading` and `exhibit` are hung on some
CSS = """
:root{--good:#1a7f4b;--bad:#b3362f;--open:#8a6a10}
@media(prefers-color-scheme:dark){:root{--good:#52c48a;--bad:#f0837b;--open:#d9b24c}}
main{max-width:1400px}section{content-visibility:visible;margin:44px 0 0}
h2{font-size:20px;margin:0 0 12px}h3{font-size:15.5px;margin:24px 0 8px}
.state,.note{color:var(--muted)}.note{font-size:13.5px}
nav{margin:14px 0 0;font-size:14px;display:flex;flex-wrap:wrap;gap:4px 18px}
.card{background:var(--card);border:1px solid var(--line);border-left:5px solid var(--muted);border-radius:8px;
padding:14px 18px;margin:0 0 14px;max-width:100ch}
.card.supported{border-left-color:var(--good)}.card.against{border-left-color:var(--bad)}
.card.not_supported,.card.warning{border-left-color:var(--open)}
.card p{font-size:16.5px;margin:0}.card.warning p{font-size:15px}
.card .mark{display:block;font-size:13px;font-weight:700;margin:0 0 3px}
.supported .mark{color:var(--good)}.against .mark{color:var(--bad)}
.not_supported .mark,.warning .mark{color:var(--open)}
.card ul{margin:10px 0 0;padding-left:20px;font-size:14.5px;color:var(--text)}.card li{margin:0 0 4px}
table{font-size:14px}th,td{padding:6px 11px}td{white-space:nowrap}
th{vertical-align:bottom;white-space:normal;min-width:64px}
th:first-child{min-width:200px}th.number{max-width:132px}
tr.aside td{color:var(--muted);font-style:italic}td.strong{font-weight:700}
td.bad{color:var(--bad)}td.good{color:var(--good)}td.open{color:var(--open)}
.plot{background:var(--card);padding:14px 16px 6px;margin:0 0 14px;overflow-x:auto}
.plot svg{display:block;height:auto;min-width:440px}.plot figcaption{padding:6px 0 8px;max-width:110ch}
.examples td,.examples th{text-align:center;padding:5px;min-width:0;vertical-align:middle}
.examples th:first-child{min-width:104px}.examples th{max-width:178px}
.examples td:first-child{text-align:left;white-space:normal;overflow-wrap:anywhere;max-width:170px;font-size:13px;
padding:5px 12px}
.examples img{display:block;width:168px;height:auto;background:#000;border-radius:4px;margin:0 auto}
.examples .note{display:block;font-size:12px}
details{margin:0 0 10px}summary{cursor:pointer;color:var(--accent)}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px;overflow-x:auto;
font-size:12.5px;line-height:1.5}
.options h4{font-size:14px;margin:12px 0 4px}.options p{font-size:13px;margin:0 0 5px;max-width:none;
color:var(--muted);overflow-wrap:anywhere}.options p.marked{color:var(--text);font-weight:600}
details details{margin-left:14px}
ul.plain,.card{overflow-wrap:anywhere}
ul.plain{margin:0 0 12px;padding-left:20px;max-width:110ch}.wrap td{white-space:normal;overflow-wrap:anywhere}
@media(max-width:680px){.examples img{width:110px}h2{font-size:18px}}
"""
# On paper nothing scrolls or unfolds: tables take the width of the page, small, with words that wrap; what is folded
# away is open; and a heading stays with what it heads.
PRINT = """
@page{size:A4;margin:13mm 12mm}
@media print{
:root{color-scheme:light;--page:#fff;--card:#fff;--text:#1c2430;--muted:#566070;--line:#d5dae1;--accent:#1c2430;
--good:#1a7f4b;--bad:#b3362f;--open:#8a6a10}
body{font-size:10.5px}main{max-width:none;padding:0}nav{display:none}section{margin:22px 0 0}
h1{font-size:19px}h2{font-size:15px}h3{font-size:12px;margin:14px 0 5px}
h2,h3,h4,summary{break-after:avoid}
p,.card,ul.plain{max-width:none}.note,.options p,.card .mark{font-size:9.5px}
.options h4{font-size:10.5px;margin:7px 0 2px}
.card{padding:8px 12px;margin:0 0 9px}.card p,.card.warning p{font-size:11.5px}.card ul{font-size:10px;margin:5px 0 0}
tr,li,figure,.card p{break-inside:avoid}
.scroll,.plot{overflow:visible}table{width:100%;font-size:9px}th{font-size:8.5px}
th,td{padding:2.5px 5px;white-space:normal;min-width:0!important;max-width:none!important;overflow-wrap:break-word}
table:not(.dense) td.number:not(.long){white-space:nowrap}td.number.long{min-width:25mm!important}
table:not(.dense,.wrap) th:first-child{width:22%}
table.dense{font-size:7.5px}table.dense th,table.dense td{padding:2px 2px;font-size:7.5px}
th:first-child,td:first-child{padding-left:7px}
.plot{padding:8px 10px 2px}.plot svg{min-width:0;max-width:150mm!important;max-height:225mm}
.plot figcaption{font-size:9.5px}
.examples img{width:29mm}.examples td:first-child{font-size:9px}.examples .note{font-size:8px}
details>*{display:block}details::details-content{content-visibility:visible;block-size:auto;display:block}
summary{list-style:none;font-weight:600;margin:6px 0 3px}details{margin:0 0 6px}
pre{white-space:pre-wrap;overflow-wrap:anywhere;overflow:visible;font-size:8.5px;padding:6px 9px}}
"""
DENSE = 12              # so many columns need smaller type on paper
LONG, MOST_WIDE = "long", 18        # a cell of more letters may wrap there
MARKED = "other than the default"
_MIME = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".gif": "gif"}


def page(title: str, state: str, sections: Sequence[Element]) -> str:
    """The whole document. sections: elements made by `part`, in order; they are listed under the title."""
    heads = [(s["id"], s.heading) for s in sections]
    links = tags.nav([tags.a(text, href=f"#{name}") for name, text in heads], aria_label="contents")
    body = tags.p(state, cls="state").render(pretty=False) + links.render(pretty=False)
    body += "\n".join(s.render(pretty=False) for s in sections)
    # The empty icon keeps browsers from asking a server for one.
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
            f"<style>{html.CSS}{CSS}{PRINT}</style></head>\n<body><main><h1>{escape(title)}</h1>\n{body}\n"
            "</main></body></html>\n")


def part(name: str, heading: str, *pieces: Element | None) -> Element:
    """A section with an anchor; pieces that are None are left out."""
    made = tags.section(tags.h2(heading), *[piece for piece in pieces if piece is not None], id=name)
    made.heading = heading
    return made


def heading(text: str) -> Element:
    return tags.h3(text)


def text(words: str) -> Element:
    return tags.p(words)


def note(words: str) -> Element:
    return tags.p(words, cls="note")


def bullets(lines: Iterable[str]) -> Element:
    return tags.ul([tags.li(line) for line in lines], cls="plain")


def card(tone: str, mark: str, line: str, lines: Iterable[str] = ()) -> Element:
    """A framed statement: `mark` names its kind, `line` is the statement, `lines` what qualifies it."""
    qualified = tags.ul([tags.li(x) for x in lines]) if lines else ""
    return tags.div(tags.span(mark, cls="mark"), tags.p(line), qualified, cls=f"card {tone.replace(' ', '_')}")


@dataclass(frozen=True)
class Table:
    """A table as it is shown. name: of its files. A cell is a text or (text, class)."""
    name: str
    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


def grid(header: Sequence[str], rows: Sequence[Sequence[object]], kinds: Sequence[str] | None = None, left: int = 1,
         cls: str = "", name: str = "", caption: str = "") -> Element:
    """A table of texts. A cell is a text or (text, class). kinds: a class a row; the first `left` columns are words.
    name, caption: of the table's files, for one that is worth them."""
    aligned = ["" if i < left else "number" for i in range(len(header))]
    head = tags.thead(tags.tr([tags.th(name, cls=side) for name, side in zip(header, aligned, strict=True)]))
    body = tags.tbody()
    for row, kind in zip(rows, kinds or [""] * len(rows), strict=True):
        pairs = [cell if isinstance(cell, tuple) else (cell, "") for cell in row]
        cells = [tags.td(str(value), cls=" ".join(filter(None, (side, extra, LONG * (len(str(value)) > MOST_WIDE)))))
                 for (value, extra), side in zip(pairs, aligned, strict=True)]
        body.add(tags.tr(cells, cls=kind))
    cls = f"{cls} dense".strip() if len(header) > DENSE else cls
    made = tags.div(tags.table(head, body, cls=cls), cls="scroll")
    made.exhibit = Table(name, caption, header, rows) if name else None
    return made


def plot(picture: Picture, caption: str) -> Element:
    """picture: figures.Picture."""
    made = tags.figure(raw(picture.svg), tags.figcaption(caption), cls="plot")
    made.exhibit = picture
    return made


def exhibits(element: Element) -> Iterator[Table | Picture]:
    """The Tables and Pictures in an element that have files of their own, in the page's order."""
    if getattr(element, "exhibit", None) is not None:
        yield element.exhibit
    for child in getattr(element, "children", ()):
        yield from exhibits(child)


def folded(title: str, *pieces: Element) -> Element:
    return tags.details(tags.summary(title), *pieces)


def options(title: str, groups: Mapping[str, Sequence[str]]) -> Element:
    """groups: {heading: [text]}, a paragraph each; what stands under MARKED stands out."""
    found = [tags.p(tags.span(f"{name}: ", cls="note"), ", ".join(texts), cls="marked" if name == MARKED else "")
             for name, texts in groups.items() if texts]
    return tags.div(tags.h4(title), *found, cls="options")


def listing(lines: Iterable[str]) -> Element:
    return tags.pre("\n".join(lines))


def examples(header: Sequence[str], rows: Iterable[tuple[str, str, Sequence[Path | None]]],
             picture: Picture | None = None) -> Element:
    """rows: [(title, subtitle, [path or None, …])]: images side by side under the header's names. picture: the same as
    a figures.Picture, for files."""
    head = tags.thead(tags.tr([tags.th(name) for name in header]))
    body = tags.tbody()
    for title, subtitle, paths in rows:
        shown = [tags.td(_image(path, f"{name}: {title}")) for path, name in zip(paths, header[1:], strict=True)]
        body.add(tags.tr(tags.td(title, tags.span(subtitle, cls="note")), shown))
    made = tags.div(tags.table(head, body, cls="examples"), cls="scroll")
    made.exhibit = picture
    return made


def _image(path: Path | None, description: str) -> Element:
    data = None if path is None else embedded(path)
    return tags.span("–", cls="note") if data is None else tags.img(src=data, alt=description)


def embedded(path: str | PathLike[str]) -> str | None:
    """An image file as a data URI; None for one that is missing or not an image that browsers show."""
    path = Path(path)
    kind = _MIME.get(path.suffix.lower())
    try:
        return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}" if kind else None
    except OSError:
        return None
