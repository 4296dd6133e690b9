"""A web page of images, tables and text, with upstream's interface; for training (`web/index.html`) and test results.

The page needs nothing but its `images/` folder: no font, no request to anywhere, so it opens from a disk, a web server
or a zip file, in a hospital too (a training's page also loads `status.js` from beside it, util/run_status.py).
Every piece is turned into text when it is added, so saving a page again and again costs no more than joining strings.
"""
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from os import PathLike
from pathlib import Path, PurePath
from typing import Any, SupportsFloat, TypeGuard
from urllib.parse import quote

from dominate.tags import a, div, figcaption, figure, h2, img, p, table, tbody, td, th, thead, tr

from duiit.util import chart
from duiit.util.files import write_text

CSS = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--text:#1c2430;--muted:#667080;--line:#e1e5ea;--accent:#1f6fd1}
@media(prefers-color-scheme:dark){
:root{--page:#14171c;--card:#1c2027;--text:#e6e9ee;--muted:#98a2b0;--line:#2d333d;--accent:#6cb0ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1640px;margin:0 auto;padding:28px 24px 60px}
h1{font-size:25px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:17px;margin:0 0 10px;overflow-wrap:anywhere}
section{margin:30px 0 0;content-visibility:auto;contain-intrinsic-size:auto 320px}
p{margin:0 0 10px;max-width:90ch}a{color:var(--accent)}
.figures{display:grid;gap:12px;margin:0 0 12px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;overflow:hidden}
figure img{display:block;width:100%;height:auto;background:#000}
figcaption{padding:5px 9px;font-size:13px;color:var(--muted);overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:0 0 12px}
table{border-collapse:collapse;background:var(--card);border:1px solid var(--line);font-variant-numeric:tabular-nums}
th,td{padding:6px 14px;text-align:left;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-size:13px;color:var(--muted);font-weight:600}tr:last-child td{border-bottom:0}.number{text-align:right}
@media(max-width:680px){main{padding:18px 12px 40px}
.figures{grid-template-columns:repeat(auto-fill,minmax(min(100%,130px),1fr))!important}}
@media print{body{background:#fff}section{content-visibility:visible}}
"""


class HTML:
    """Collect headers, rows of images, tables and text, then `save()` them as `<web_dir>/index.html`.

    Image names are relative to `get_image_dir()`; sub-folders, blanks and letters of any alphabet may stand in them.
    `refresh` makes a browser load the page again after so many seconds.
    """

    def __init__(self, web_dir: str | PathLike[str], title: str, refresh: int = 0,
                 filename: str = "index.html") -> None:
        self.title = title
        self.web_dir = str(web_dir)
        self.img_dir = str(Path(web_dir) / "images")
        self.refresh = refresh
        self.filename = filename
        self._sections: list[list[str]] = [[]]
        self._stems: dict[str, int] = {}        # {stem: the last number it was given}
        Path(self.img_dir).mkdir(parents=True, exist_ok=True)

    def get_image_dir(self) -> str:
        """The folder to write images to before they are added."""
        return self.img_dir

    def add_header(self, text: str) -> None:
        """Begin a new part of the page under a heading."""
        self._sections.append([h2(text).render(pretty=False)])

    def add_text(self, text: str) -> None:
        """Add a paragraph."""
        self._sections[-1].append(p(text).render(pretty=False))

    def add_html(self, text: str) -> None:
        """Add a piece of HTML as it stands: a chart, or figures rendered earlier."""
        self._sections[-1].append(text)

    def add_images(self, ims: Sequence[str], txts: Sequence[str], links: Sequence[str], width: int = 400) -> None:
        """Add a row of images, `width` pixels wide at most, with captions, each linked to a file beside them."""
        self._sections[-1].append(figures(ims, txts, links, width))

    def add_table(self, rows: Iterable[Mapping[str, Any] | Sequence[Any]], header: Sequence[str] | None = None) -> None:
        """Add a table; rows are sequences, or mappings whose keys are the header. Numbers stand to the right."""
        rows = list(rows)
        if rows and isinstance(rows[0], Mapping):
            header = list(header or rows[0])
        lines = [[row.get(key, "") for key in header or ()] if isinstance(row, Mapping) else row for row in rows]
        grid = table()
        if header:
            numeric = [bool(lines) and all(_is_number(line[i]) for line in lines) for i in range(len(header))]
            grid.add(thead(tr([th(name, cls=_align(number)) for name, number in zip(header, numeric, strict=True)])))
        grid.add(tbody([tr([td(_cell(value), cls=_align(_is_number(value))) for value in line]) for line in lines]))
        self._sections[-1].append(div(grid, cls="scroll").render(pretty=False))

    def append(self, other: "HTML") -> None:
        """Put all that `other`, a page of the same folder, holds so far below what is here."""
        self._sections += other._sections

    def free_stem(self, stem: str) -> str:
        """`stem`, or `stem_2` and so on if images were already named so: none may replace another's."""
        free, number = stem, self._stems.get(stem, 0)
        while free in self._stems:
            number += 1
            free = f"{stem}_{number}"
        self._stems[stem] = max(number, 1)
        self._stems.setdefault(free, 1)
        return free

    def save(self) -> None:
        """Write the page, whole or not at all."""
        write_text(Path(self.web_dir) / self.filename, self.render(), durable=False)

    def render(self) -> str:
        """The page's text."""
        title = escape(self.title)
        refresh = f'<meta http-equiv="refresh" content="{self.refresh}">' if self.refresh > 0 else ""
        intro, *sections = ["".join(parts) for parts in self._sections]
        body = "\n".join([intro, *(f"<section>{section}</section>" for section in sections)])
        # The empty icon keeps browsers from asking a server for one.
        return (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>{refresh}'
            '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
            f"<style>{CSS}{chart.CSS}</style></head>\n<body><main><h1>{title}</h1>\n{body}\n</main></body></html>\n"
        )


def figures(ims: Sequence[str], txts: Sequence[str], links: Sequence[str], width: int = 400) -> str:
    """The images as a grid of captioned figures that shrink with the window."""
    cells = [
        figure(
            a(img(src=_url(image), alt=text, title=PurePath(image).name, loading="lazy"), href=_url(link)),
            figcaption(text),
        )
        for image, text, link in zip(ims, txts, links, strict=True)
    ]
    # Up to six stand in one row; up to twelve in two, which puts the A and the B cycle of a model under each other.
    count = len(cells)
    columns = count if count <= 6 else math.ceil(count / 2) if count <= 12 else "auto-fill"
    track = f"min(100%,{width}px)" if columns == "auto-fill" else f"minmax(0,{width}px)"
    return div(cells, cls="figures", style=f"grid-template-columns:repeat({columns},{track})").render(pretty=False)


def _url(name: str) -> str:
    return "images/" + quote(str(name).replace("\\", "/"))


def _is_number(value: object) -> TypeGuard[SupportsFloat]:
    return not isinstance(value, (str, bool)) and hasattr(value, "__float__")


def _align(number: bool) -> str:
    return "number" if number else ""


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{float(value):.4g}" if _is_number(value) and not hasattr(value, "__index__") else str(value)
