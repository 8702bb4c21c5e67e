"""Draw the faces of the cards: faces/RANK/SUIT.svg for 9, 10, J, Q, K, A in four suits. Run: python make_faces.py

Everything is drawn here, by rule: indices as strokes, pips as curves, courts as a patterned figure whose head says
which court it is (a jack's flat cap, a queen's long hair, a king's crown and beard). Nothing is traced. A card is
63 x 88 mm; one unit is one millimetre.
"""

from __future__ import annotations

import math
from pathlib import Path

WIDTH, HEIGHT, CORNER = 63.0, 88.0, 3.2
RED, BLACK, GOLD, BLUE, SKIN = "#d8202c", "#16161a", "#e6b422", "#1f4fa8", "#f6efe2"
SUITS = {"hearts": RED, "diamonds": RED, "spades": BLACK, "clubs": BLACK}
RANKS = {"nine": "9", "ten": "10", "jack": "J", "queen": "Q", "king": "K", "ace": "A"}

# Paths in a box of -1 … 1, y down; spades and clubs have a foot.
PIPS = {
    "hearts": "M0 1 C-.35 .5 -.95 .15 -.95 -.42 C-.95 -.82 -.66 -1 -.45 -1 C-.22 -1 -.06 -.84 0 -.6 "
    "C.06 -.84 .22 -1 .45 -1 C.66 -1 .95 -.82 .95 -.42 C.95 .15 .35 .5 0 1 Z",
    "diamonds": "M0 -1 C.2 -.6 .48 -.25 .78 0 C.48 .25 .2 .6 0 1 C-.2 .6 -.48 .25 -.78 0 C-.48 -.25 -.2 -.6 0 -1 Z",
    "spades": "M0 -1 C.3 -.5 .92 -.2 .92 .32 C.92 .62 .7 .78 .48 .78 C.3 .78 .14 .7 .07 .56 C.09 .78 .16 .92 .3 1 "
    "L-.3 1 C-.16 .92 -.09 .78 -.07 .56 C-.14 .7 -.3 .78 -.48 .78 C-.7 .78 -.92 .62 -.92 .32 "
    "C-.92 -.2 -.3 -.5 0 -1 Z",
    "clubs": "M.07 .42 C.09 .72 .16 .9 .3 1 L-.3 1 C-.16 .9 -.09 .72 -.07 .42 C-.16 .62 -.3 .7 -.48 .7 "
    "C-.76 .7 -.95 .5 -.95 .25 C-.95 0 -.76 -.2 -.48 -.2 C-.42 -.2 -.36 -.19 -.3 -.17 "
    "C-.4 -.28 -.45 -.4 -.45 -.55 C-.45 -.82 -.25 -1 0 -1 C.25 -1 .45 -.82 .45 -.55 C.45 -.4 .4 -.28 .3 -.17 "
    "C.36 -.19 .42 -.2 .48 -.2 C.76 -.2 .95 0 .95 .25 C.95 .5 .76 .7 .48 .7 C.3 .7 .16 .62 .07 .42 Z",
}

# Strokes of the index characters in a box 0 … 1 wide, 0 … 1.6 high.
GLYPHS = {
    "9": "M.95 .5 A.45 .48 0 1 1 .05 .5 A.45 .48 0 1 1 .95 .5 C.95 1.1 .75 1.55 .2 1.58",
    "1": "M.1 .3 L.45 .05 L.45 1.6",
    "0": "M.5 .03 C.95 .03 .95 .4 .95 .8 C.95 1.2 .95 1.57 .5 1.57 C.05 1.57 .05 1.2 .05 .8 C.05 .4 .05 .03 .5 .03 Z",
    "J": "M.25 .05 L.95 .05 M.7 .05 L.7 1.2 C.7 1.7 .05 1.7 .05 1.15",
    "Q": "M.5 .03 C.95 .03 .95 .4 .95 .75 C.95 1.15 .95 1.45 .5 1.45 C.05 1.45 .05 1.15 .05 .75 "
    "C.05 .4 .05 .03 .5 .03 Z M.45 1.1 L1 1.6",
    "K": "M.1 0 L.1 1.6 M.95 0 L.12 .95 M.4 .7 L1 1.6 M-.05 .03 L.28 .03 M-.05 1.57 L.28 1.57 "
    "M.78 .03 L1.1 .03 M.82 1.57 L1.12 1.57",
    "A": "M.02 1.57 L.5 .03 L.98 1.57 M.2 1.05 L.8 1.05 M-.12 1.57 L.2 1.57 M.8 1.57 L1.12 1.57",
}

COLUMNS = (WIDTH * 0.31, WIDTH * 0.69)
MIDDLE = (WIDTH / 2, HEIGHT / 2)


def pip(suit: str, x: float, y: float, size: float, turned: bool = False) -> str:
    """One suit mark about (x, y), `size` mm from middle to edge."""
    turn = " rotate(180)" if turned else ""
    return f'<path d="{PIPS[suit]}" fill="{SUITS[suit]}" transform="translate({x:.3f} {y:.3f}){turn} scale({size})"/>'


def index(rank: str, suit: str) -> str:
    """The corner index, upper left: characters as strokes and a small mark below them."""
    text, parts = RANKS[rank], []
    size = 4.6 if len(text) == 1 else 3.6
    for k, character in enumerate(text):
        x = 6.2 - size / 2 + (k - (len(text) - 1) / 2) * size * (0.86 if text == "10" else 1.0)
        parts.append(
            f'<path d="{GLYPHS[character]}" transform="translate({x:.3f} 4) scale({size:.3f} 5)" fill="none" '
            f'stroke="{SUITS[suit]}" stroke-width=".2" stroke-linejoin="round"/>'
        )
    return "".join(parts) + pip(suit, 6.2, 16.5, 2.3)


def both_ways(drawing: str) -> str:
    """A drawing and itself turned by half a turn about the card's middle."""
    return f'{drawing}<g transform="rotate(180 {MIDDLE[0]} {MIDDLE[1]})">{drawing}</g>'


def numbered(rank: str, suit: str) -> str:
    """The pips of a nine, a ten or an ace."""
    if rank == "ace":
        return pip(suit, *MIDDLE, 11.0 if suit == "spades" else 6.5)
    rows = [HEIGHT * (0.16 + 0.68 * k / 3) for k in range(4)]
    marks = [pip(suit, x, y, 5.4, turned=y > HEIGHT / 2) for y in rows for x in COLUMNS]
    if rank == "nine":
        marks.append(pip(suit, *MIDDLE, 5.4))
    else:
        offset = HEIGHT * 0.68 / 6
        marks += [
            pip(suit, MIDDLE[0], rows[0] + offset, 5.4),
            pip(suit, MIDDLE[0], rows[3] - offset, 5.4, True),
        ]
    return "".join(marks)


def court(rank: str, suit: str) -> str:
    """A court's frame, the upper half of its figure, and the same turned."""
    left, top, right = 11.5, 8.0, WIDTH - 11.5
    frame = (
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{HEIGHT - 2 * top}" fill="none" '
        f'stroke="{BLUE}" stroke-width=".6"/>'
    )
    return frame + both_ways(robe(suit) + head(rank, suit) + pip(suit, 17.2, 14.6, 4.3))


def robe(suit: str) -> str:
    """The upper half of a figure's clothes: bands that cross the card's middle, with rows of marks on them."""
    main, other = (RED, BLUE) if SUITS[suit] == RED else (BLUE, RED)
    x, y = MIDDLE
    body = f"M12 {y} L12 36 C17 30 24 28.5 {x} 28.5 C39 28.5 46 30 51 36 L51 {y} Z"
    parts = [f'<path d="{body}" fill="{GOLD}" stroke="{BLACK}" stroke-width=".5"/>']
    for k, color in enumerate((main, BLACK, other, SKIN, main)):
        a, b = 13 + 7.6 * k, 18 + 7.6 * k
        parts.append(
            f'<path d="M{a:.1f} {y} L{min(a + 9, 50):.1f} {31 + abs(k - 2) * 1.5:.1f} '
            f'L{min(b + 8, 51):.1f} {32.5 + abs(k - 2) * 1.5:.1f} L{b:.1f} {y} Z" fill="{color}" stroke="{BLACK}" '
            'stroke-width=".4"/>'
        )
    for k in range(9):
        angle = math.pi * (0.08 + 0.84 * k / 8)
        cx, cy = x - 15.5 * math.cos(angle), y - 1 - 11 * math.sin(angle)
        parts.append(
            f'<circle cx="{cx:.2f}" cy="{cy:.2f}" r="1.15" fill="{GOLD}" stroke="{BLACK}" stroke-width=".4"/>'
        )
    return "".join(parts)


def head(rank: str, suit: str) -> str:
    """Face, hair and what is worn on it, and what the hand holds."""
    x = MIDDLE[0] + 1.5
    ink = f'stroke="{BLACK}" stroke-width=".5"'
    face = f'<ellipse cx="{x}" cy="21.6" rx="4.6" ry="6.2" fill="{SKIN}" {ink}/>'
    eyes = "".join(f'<circle cx="{x + dx}" cy="20.6" r=".6" fill="{BLACK}"/>' for dx in (-1.8, 1.8))
    mouth = f'<path d="M{x - 1.4} 24.6 L{x + 1.4} 24.6" stroke="{RED}" stroke-width=".6"/>'
    if rank == "king":
        worn = (
            f'<path d="M{x - 8} 16.5 L{x - 9} 9 L{x - 4.5} 12.8 L{x} 8.6 L{x + 4.5} 12.8 L{x + 9} 9 L{x + 8} 16.5 Z" '
            f'fill="{GOLD}" {ink}/>'
        )
        hair = f'<path d="M{x - 4.5} 22 Q{x - 5} 31 {x} 31.5 Q{x + 5} 31 {x + 4.5} 22 Q{x} 26 {x - 4.5} 22 Z" fill="#d9dde2" {ink}/>'
        held = f'<path d="M47 11 L48.6 9 L50.2 11 L50.2 38 L47 38 Z" fill="#cfd6de" {ink}/>'
        return held + face + hair + eyes + worn
    if rank == "queen":
        hair = (
            f'<path d="M{x - 6.8} 34 C{x - 10.5} 20 {x - 6} 13.5 {x} 13.5 C{x + 6} 13.5 {x + 10.5} 20 {x + 6.8} 34 Z" '
            f'fill="{BLACK if SUITS[suit] == RED else GOLD}" {ink}/>'
        )
        worn = f'<path d="M{x - 6} 15.6 Q{x} 12.4 {x + 6} 15.6 L{x + 5} 11.4 Q{x} 8 {x - 5} 11.4 Z" fill="{GOLD}" {ink}/>'
        held = "".join(
            f'<circle cx="{46 + 2 * math.cos(a):.2f}" cy="{27 + 2 * math.sin(a):.2f}" r="1.3" fill="{RED}" {ink}/>'
            for a in (0, 1.257, 2.513, 3.77, 5.027)
        )
        return hair + face + eyes + mouth + worn + held
    hair = f'<path d="M{x - 6.2} 27 C{x - 8} 19 {x - 5} 15 {x} 15 C{x + 5} 15 {x + 8} 19 {x + 6.2} 27 Z" fill="{GOLD}" {ink}/>'
    worn = f'<path d="M{x - 8} 16.4 L{x - 7} 10.4 Q{x} 8 {x + 7} 10.4 L{x + 8} 16.4 Z" fill="{RED}" {ink}/>'
    band = f'<path d="M{x - 8} 16.4 L{x + 8} 16.4 L{x + 8} 14.6 L{x - 8} 14.6 Z" fill="{SKIN}" {ink}/>'
    held = f'<path d="M46 10 L47.4 10 L47.4 40 L46 40 Z" fill="{BLUE}" {ink}/>'
    return held + hair + face + eyes + mouth + worn + band


def face(rank: str, suit: str) -> str:
    """One card as SVG text; outside its rounded corners it is transparent."""
    inside = court(rank, suit) if rank in ("jack", "queen", "king") else numbered(rank, suit)
    card = f'<rect width="{WIDTH:g}" height="{HEIGHT:g}" rx="{CORNER}" fill="#fdfdfb"/>'
    drawing = card + inside + both_ways(index(rank, suit))
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}">{drawing}</svg>\n'


def main() -> None:
    """Write all faces beside this file."""
    for rank in RANKS:
        folder = Path(__file__).parent / "faces" / rank
        folder.mkdir(parents=True, exist_ok=True)
        for suit in SUITS:
            (folder / f"{suit}.svg").write_text(face(rank, suit), encoding="utf-8")


if __name__ == "__main__":
    main()
