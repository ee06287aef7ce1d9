"""The sheet a report is written on: one self-contained HTML page, for screen (light or dark) and for paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

CSS = """
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#16202c;--soft:#566373;--line:#dde2e8;--mark:#eaf2ff;
--c0:#2563eb;--c1:#e07b1a;--c2:#169a6b;--c3:#b4439b;--c4:#7a6ff0;--c5:#a3861b;--c6:#cf4141;--c7:#3f96a8;--good:#0f7b50;--bad:#b42318}
@media (prefers-color-scheme:dark){:root{--bg:#0f141b;--card:#182029;--ink:#e8edf3;--soft:#9fadbd;--line:#2b3642;--mark:#1b2d4a;
--c0:#6ea2ff;--c1:#f0a050;--c2:#4cc796;--c3:#e07fca;--c4:#a49cff;--c5:#d2b548;--c6:#f07f7f;--c7:#6cc3d5;--good:#4cc796;--bad:#ff8a80}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Noto Sans CJK SC",sans-serif}
main,header>div,footer{max-width:1120px;margin:0 auto;padding:0 24px}
header{background:var(--card);border-bottom:1px solid var(--line);padding:26px 0 18px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;letter-spacing:-.01em}h2{font-size:19px;margin:38px 0 12px;letter-spacing:-.005em}
h3{font-size:15px;margin:0 0 8px}p{margin:0 0 10px;max-width:78ch}.soft{color:var(--soft)}small{color:var(--soft)}
nav{margin-top:12px;display:flex;flex-wrap:wrap;gap:6px 18px;font-size:14px}a{color:var(--c0)}
.skip{position:absolute;left:-999px}.skip:focus{left:8px;top:8px;background:var(--card);padding:8px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(168px,1fr));gap:12px;margin:22px 0 0}
.card,figure,.person,.box{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.card b{display:block;font-size:25px;line-height:1.25;font-variant-numeric:tabular-nums;letter-spacing:-.01em}
.card span{color:var(--soft);font-size:13px}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(460px,100%),1fr));gap:16px}
figure{margin:0 0 14px}.two figure,.two .wide{margin:0}.two{align-items:start;margin-bottom:14px}figcaption{font-weight:600;margin-bottom:8px}figcaption small{display:block;font-weight:400}
.plot{overflow-x:auto}svg{display:block;width:100%;height:auto;max-width:560px;min-width:420px}svg text{font:12.5px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
svg .a{fill:var(--soft);font-size:11.5px}svg .v{font-variant-numeric:tabular-nums;font-size:12px}
svg .grid{stroke:var(--line);stroke-width:1}svg .w{stroke:var(--ink);stroke-width:1.3;fill:none;opacity:.75}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;margin:8px 0 0;padding:0;font-size:13px}
.dot{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px}
.roll{overflow-x:auto}.wide{background:var(--card);border:1px solid var(--line);border-radius:10px;margin-bottom:14px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
.over{margin:0;padding:12px 16px 6px;font-weight:600;max-width:none}
th,td{padding:8px 14px;text-align:right;border-top:1px solid var(--line);white-space:nowrap;vertical-align:top}
th:first-child,td:first-child{text-align:left}thead th{color:var(--soft);font-weight:600;font-size:13px;border-top:0}
td small,th small{display:block;font-size:12px;font-weight:400}tr.chosen{background:var(--mark)}.words th{text-align:left}.words td{text-align:left;white-space:normal;overflow-wrap:anywhere}
.good{color:var(--good)}.bad{color:var(--bad)}
.person{margin-bottom:16px;display:grid;grid-template-columns:minmax(0,5fr) minmax(0,7fr);gap:10px 28px;break-inside:avoid}
.person h3{grid-column:1/-1;margin:0}.strip{list-style:none;margin:0;padding:0;display:grid;gap:10px}
.strip.past{grid-template-columns:repeat(auto-fill,minmax(84px,1fr))}.strip.next{grid-template-columns:1fr}
.strip.past li{min-width:0;font-size:12px;line-height:1.3;overflow-wrap:anywhere}
.strip.next li{display:grid;grid-template-columns:60px 1fr auto;gap:12px;align-items:start;min-width:0}
.thumb{display:flex;align-items:center;justify-content:center;border-radius:6px;overflow:hidden;background:var(--bg);border:1px solid var(--line)}
.past .thumb{height:92px;margin-bottom:4px}.next .thumb{height:64px;width:60px}.thumb img{width:100%;height:100%;object-fit:contain}
.thumb i{font-style:normal;color:var(--soft);font-size:22px;font-weight:600}
.why{color:var(--soft);font-size:12.5px;line-height:1.4}.hit{border:1px solid var(--good);color:var(--good);border-radius:99px;padding:0 9px;font-size:12px;white-space:nowrap}
.label{font-size:12px;letter-spacing:.05em;text-transform:uppercase;color:var(--soft);margin:0 0 6px}
.grid-pictures{list-style:none;margin:0;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(112px,1fr));gap:12px}
.grid-pictures li{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:8px;font-size:12px;line-height:1.35;overflow-wrap:anywhere}
.grid-pictures .thumb{height:110px;margin-bottom:6px}.tag{display:inline-block;border:1px solid var(--line);border-radius:99px;padding:0 7px;margin:2px 3px 0 0;font-size:11px;color:var(--soft)}
footer{padding-top:18px;padding-bottom:44px;color:var(--soft);font-size:13px}
@media (max-width:720px){.person{grid-template-columns:1fr}main,header>div,footer{padding:0 14px}}
@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--mark:#eef}body{font-size:11px}nav,.skip{display:none}
h2{break-after:avoid}figure,.wide,.person,.card{break-inside:avoid}.two{grid-template-columns:1fr 1fr}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""


def page(title: str, subtitle: str, sections: Sequence[tuple[str, str, str]], *, head: str = "", foot: str = "") -> str:
    """A whole document. `sections` are (anchor, heading, HTML); empty ones are left out, titles are escaped here."""
    sections = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in sections)
    body = "".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-h"><h2 id="{anchor}-h">{escape(heading)}</h2>{html}</section>'
        for anchor, heading, html in sections
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body>"
        f'<a class="skip" href="#main">Skip to the results</a><header><div><h1>{escape(title)}</h1>'
        f'<p class="soft">{escape(subtitle)}</p><nav aria-label="Sections">{links}</nav>{head}</div></header>'
        f'<main id="main">{body}</main><footer>{foot}</footer></body></html>\n'
    )


def cards(entries: Sequence[tuple[str, str]]) -> str:
    """Big numbers with what they are: (number, words)."""
    inside = "".join(
        f'<div class="card"><b>{escape(big)}</b><span>{escape(words)}</span></div>' for big, words in entries
    )
    return f'<div class="cards">{inside}</div>'


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, chosen: int = -1, words: bool = False
) -> str:
    """A table of ready HTML cells; row `chosen` is marked. `head` and `caption` are escaped here."""
    if not rows:
        return ""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f"<tr{' class=chosen' if place == chosen else ''}>"
        + f'<th scope="row">{row[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in row[1:])
        + "</tr>"
        for place, row in enumerate(rows)
    )
    kind = ' class="words"' if words else ""
    return (
        f'<div class="wide"><p class="over">{escape(caption)}</p><div class="roll" role="region" tabindex="0" '
        f'aria-label="{escape(caption, quote=True)}"><table{kind} aria-label="{escape(caption, quote=True)}">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div></div>"
    )


def figure(caption: str, drawing: str, note: str = "") -> str:
    """A plot with its words; nothing where there is no plot."""
    if not drawing:
        return ""
    small = f"<small>{escape(note)}</small>" if note else ""
    drawn = f'<div class="plot">{drawing}</div>'
    return f"<figure><figcaption>{escape(caption)}{small}</figcaption>{drawn}</figure>"
