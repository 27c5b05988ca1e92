"""One self-contained page: it opens offline, its images are inside it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stormcast_train.base.files import write_bytes

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Noto Sans", "Noto Sans CJK TC", sans-serif; color: #1f2933; background: #f6f7f9; margin: 0; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 18px; margin: 34px 0 8px; }
p { margin: 6px 0; max-width: 80ch; white-space: pre-line; }
.lead { color: #52606d; }
section { background: white; border: 1px solid #e4e7eb; border-radius: 8px; padding: 14px 18px; margin: 14px 0; }
section h2 { margin-top: 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 8px 0; }
th, td { padding: 5px 12px; text-align: right; border-bottom: 1px solid #e4e7eb; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { font-weight: 600; color: #52606d; font-size: 13px; white-space: normal; max-width: 150px; vertical-align: bottom; line-height: 1.3; }
th.words, td.words { text-align: left; }
td.words { white-space: normal; min-width: 12ch; max-width: 70ch; overflow-wrap: anywhere; }
td.good { color: #00664b; font-weight: 600; }
td.poor { color: #a33c00; font-weight: 600; }
img { max-width: 100%; height: auto; display: block; margin: 6px 0; }
figcaption { color: #52606d; font-size: 13px; }
figure { margin: 10px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; font-size: 13px; }
dt { color: #52606d; }
dd { margin: 0; word-break: break-all; font-family: ui-monospace, monospace; }
h1, p, figcaption { overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding: 14px 8px 40px; }
  section { padding: 10px; border-radius: 4px; }
  th, td { padding: 4px 7px; font-size: 13px; }
  td.words { min-width: 22ch; }
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: 6px; }
}
"""


@dataclass(frozen=True)
class Cell:
    """A table cell; `good` colours it (None: neither), `words` sets it as text: to the left, over several
    lines.
    """

    text: str
    good: bool | None = None
    words: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, sentences, an optional table (header,
    rows) and images (path, caption).
    """

    heading: str
    sentences: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    images: tuple[tuple[Path, str], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


def write_report(path: Path, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """Write the page atomically."""
    body = "".join(_section(section) for section in sections)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{html.escape(title)}</h1>"
        f'<p class="lead">{html.escape(lead)}</p>{body}</main></body></html>\n'
    )
    write_bytes(path, page.encode())
    return path


def _section(section: Section) -> str:
    parts = [f"<section><h2>{html.escape(section.heading)}</h2>"]
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in section.sentences]
    if section.rows:
        parts.append(_table(section.header, section.rows))
    parts += [_image(path, caption) for path, caption in section.images]
    if section.facts:
        pairs = "".join(
            f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>" for k, v in section.facts.items()
        )
        parts.append(f"<dl>{pairs}</dl>")
    return "".join([*parts, "</section>"])


def _table(header: tuple[str, ...], rows: tuple[tuple[Cell, ...], ...]) -> str:
    wordy = [any(cell.words for cell in column) for column in zip(*rows, strict=True)]
    head = "".join(
        f"<th{_class('words' if w else '')}>{html.escape(name)}</th>"
        for name, w in zip(header, wordy, strict=True)
    )
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    colour = {True: "good", False: "poor", None: ""}[cell.good]
    return f"<td{_class('words' if cell.words else '', colour)}>{html.escape(cell.text)}</td>"


def _class(*names: str) -> str:
    chosen = " ".join(filter(None, names))
    return f' class="{chosen}"' if chosen else ""


def _image(path: Path, caption: str) -> str:
    kind = "gif" if path.suffix == ".gif" else "png"
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    image = f'<img alt="{text}" src="data:image/{kind};base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"
