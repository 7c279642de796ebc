"""The picture of who took part: clients down, rounds across, as SVG that the page's own colours paint. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from nexus.studio.ports import Round

_CELL, _GAP, _LEFT, _TOP = 14, 2, 92, 20
_MOST_ROUNDS, _MOST_CLIENTS = 120, 60


def heat_map(rounds: Sequence[Round]) -> Markup:
    """An SVG of the newest rounds; a cell's class is what the client did (trained, failed, late), else it rested."""
    shown = sorted(rounds, key=lambda one: one.number)[-_MOST_ROUNDS:]
    clients = sorted({client for one in shown for client in one.clients}, key=_natural)[:_MOST_CLIENTS]
    step = _CELL + _GAP
    width, height = _LEFT + step * len(shown), _TOP + step * len(clients)
    parts = [
        Markup('<svg class="heat" role="img" width="{0}" height="{1}" viewBox="0 0 {0} {1}" aria-label="{2}">').format(
            width, height, f"{len(clients)} clients over {len(shown)} rounds"
        )
    ]
    every = max(1, len(shown) // 12)
    for column, one in enumerate(shown):
        if column % every == 0:
            parts.append(Markup('<text x="{}" y="12">{}</text>').format(_LEFT + step * column, one.number))
    for row, client in enumerate(clients):
        y = _TOP + step * row
        parts.append(Markup('<text x="0" y="{}">{}</text>').format(y + 11, client[:14]))
        for column, one in enumerate(shown):
            what = one.clients.get(client, "rested")
            parts.append(
                Markup(
                    '<rect class="cell {0}" x="{1}" y="{2}" width="{3}" height="{3}" rx="3"><title>{4}</title></rect>'
                ).format(escape(what), _LEFT + step * column, y, _CELL, f"{client}, round {one.number}: {what}")
            )
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _natural(name: str) -> tuple[str, int, str]:
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or -1), name
