"""The figures as a picture: one group of bars a case, written as SVG text."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from cases import CASES
from compared_servers import PEERS
from figures import Cell, Figures

_WIDTH, _LEFT, _RIGHT, _BAR, _GAP, _TOP = 760, 190, 90, 16, 5, 64
_COLOURS = {"berth": "#0b6e99", "floor": "#c9c3b8"}
_OTHER = "#8d99a6"


def _text(x: float, y: float, words: str, **attributes: object) -> str:
    given = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
    return f'<text x="{x:g}" y="{y:g}"{given}>{escape(words)}</text>'


def _group(title: str, row: Mapping[str, Cell], top: float) -> tuple[list[str], float]:
    """The bars of one case, the highest first, and where the next group begins."""
    titles = {peer.name: peer.title for peer in PEERS}
    measured = sorted(((cell.rate, name) for name, cell in row.items() if cell.rate == cell.rate), reverse=True)
    lines = [_text(0, top + 12, title, font_weight=600)]
    longest = measured[0][0] if measured else 1
    for place, (rate, name) in enumerate(measured):
        y = top + 22 + place * (_BAR + _GAP)
        width = max(1.0, (_WIDTH - _LEFT - _RIGHT) * rate / longest)
        colour = _COLOURS.get(name, _OTHER)
        weight = 600 if name == "berth" else 400
        lines.append(_text(_LEFT - 8, y + 12, titles[name], text_anchor="end", font_weight=weight))
        lines.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>')
        lines.append(_text(_LEFT + width + 6, y + 12, f"{rate:,.0f}", font_weight=weight))
    return lines, top + 22 + len(measured) * (_BAR + _GAP) + 18


def draw(figures: Figures) -> str:
    """The whole picture; cases that nobody was measured in are left out."""
    lines: list[str] = []
    top = float(_TOP)
    for case in CASES:
        row = figures.cells.get(case.name, {})
        if any(cell.rate == cell.rate for cell in row.values()):
            group, top = _group(case.title, row, top)
            lines += group
    subtitle = f"{figures.plan.connections} connections, {figures.facts['machine']}, {figures.facts['date'][:10]}"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-16 0 {_WIDTH + 32} {top:g}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#222">',
        "<title>Requests per second of Berth and its peers</title>",
        f'<rect x="-16" width="{_WIDTH + 32}" height="{top:g}" fill="#fff"/>',
        _text(0, 24, "Requests per second, more is better", font_size=16, font_weight=600),
        _text(0, 44, subtitle, fill="#666"),
    ]
    return "\n".join([*head, *lines, "</svg>"]) + "\n"
