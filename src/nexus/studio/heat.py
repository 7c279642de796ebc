"""The picture of who took part: clients down, rounds across, as SVG that the page's own colours paint. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from nexus.federate.model import Outcome, Round, Turn
from nexus.studio.silos import TRUST

_CELL, _GAP, _LEFT, _TOP = 14, 2, 92, 20
_WORDS = {Outcome.ACCEPTED: "trained", Outcome.REFUSED: "refused", Outcome.DROPPED: "dropped"}
_DOUBT = 0.5  # a defence that lets less than this of an update count has its doubts
_MOST_ROUNDS, _MOST_CLIENTS = 120, 60


def heat_map(rounds: Sequence[Round]) -> Markup:
    """An SVG of the newest rounds; a cell's class is how the client's turn ended, else `rested`."""
    shown = sorted(rounds, key=lambda one: one.number)[-_MOST_ROUNDS:]
    clients = sorted({client for one in shown for client in one.cohort})[:_MOST_CLIENTS]
    step = _CELL + _GAP
    width, height = _LEFT + step * len(shown), _TOP + step * len(clients)
    parts = [
        Markup('<svg class="heat" role="img" width="{0}" height="{1}" viewBox="0 0 {0} {1}" aria-label="{2}">').format(
            width, height, f"{len(clients)} clients over {len(shown)} rounds"
        )
    ]
    every = max(1, len(shown) // 12)
    turns = [{turn.client: turn for turn in one.turns} for one in shown]
    for column, one in enumerate(shown):
        if column % every == 0:
            parts.append(Markup('<text x="{}" y="12">{}</text>').format(_LEFT + step * column, one.number))
    for row, client in enumerate(clients):
        y = _TOP + step * row
        parts.append(Markup('<text x="0" y="{}">{}</text>').format(y + 11, f"client {client}"))
        for column, one in enumerate(shown):
            turn = turns[column].get(client)
            what = _WORDS[turn.outcome] if turn else "rested"
            is_doubted = turn is not None and turn.notes.get(TRUST, 1.0) < _DOUBT
            parts.append(
                Markup(
                    '<rect class="cell {0}" x="{1}" y="{2}" width="{3}" height="{3}" rx="3"><title>{4}</title></rect>'
                ).format(
                    escape(what) + (" doubted" if is_doubted else ""),
                    _LEFT + step * column,
                    y,
                    _CELL,
                    f"client {client}, round {one.number}: {what}" + (_told(turn) if turn else ""),
                )
            )
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _told(turn: Turn) -> str:
    """What more is known of a turn."""
    facts = [turn.reason] if turn.reason else []
    facts += [f"{turn.samples} samples", f"{turn.seconds:.1f} s"] if turn.outcome is Outcome.ACCEPTED else []
    facts += [f"{name} {value:.3g}" for name, value in turn.notes.items()]
    return "".join(f"\n{fact}" for fact in facts)
