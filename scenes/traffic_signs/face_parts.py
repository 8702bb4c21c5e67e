"""What make_faces.py draws signs of: outlines, letters, vehicles, arrow heads, each as SVG text.

One unit is 1/256 of the sign's width, y goes down, and outside the sign's outline nothing is drawn.
"""

from __future__ import annotations

import math

WHITE, BLACK, RED = "#f1f0ea", "#1c1c1e", "#b9141c"
BLUE, YELLOW, GREEN, GREY, DARK = "#154a98", "#f2a900", "#007a50", "#85888a", "#4a4b4d"

# Triangles: 256 wide over rounded corners, so 225 high, in the middle of the square.
CORNER = 11.5
SIDE = 256 + 2 * (math.sqrt(3) - 1) * CORNER  # between the sharp corners
TALL = SIDE * math.sqrt(3) / 2 - CORNER
TOP, BASE = 128 - TALL / 2, 128 + TALL / 2

# The strokes of DIN 1451's medium letters on a height of 7, line width 1: width of the glyph, middle lines.
GLYPHS = {
    "0": (4.0, "M.5 2.1A1.5 1.6 0 0 1 3.5 2.1V4.9A1.5 1.6 0 0 1 .5 4.9Z"),
    "1": (2.3, "M1.8 7V.7L.3 2.0"),
    "2": (4.0, "M.55 2.1A1.47 1.6 0 0 1 3.45 2.1C3.45 3.1 2.9 3.6 2.2 4.4L.75 6.1V6.5H3.9"),
    "3": (
        4.0,
        "M.55 1.75C.75 .9 1.3 .5 2 .5A1.4 1.4 0 0 1 2 3.3H1.5M2 3.3A1.5 1.6 0 0 1 2 6.5C1.2 6.5 .6 6 .45 5.2",
    ),
    "5": (4.0, "M3.6 .5H.9L.75 3.3C1.1 2.9 1.5 2.7 2 2.7A1.5 1.9 0 0 1 2 6.5C1.2 6.5 .7 6.1 .45 5.4"),
    "6": (4.0, "M2.75 0L.9 3.5A1.5 1.72 0 1 0 2 3.05C1.5 3.05 1.1 3.3 .8 3.7"),
    "7": (3.8, "M.1 .5H3.3L1.2 7"),
    "8": (
        4.0,
        "M2 .5A1.35 1.38 0 0 1 2 3.26A1.35 1.38 0 0 1 2 .5ZM2 3.26A1.5 1.62 0 0 1 2 6.5A1.5 1.62 0 0 1 2 3.26Z",
    ),
    "S": (
        4.0,
        "M3.35 1.7C3.2 .9 2.7 .5 2 .5C1.2 .5 .65 1 .65 1.9C.65 2.8 1.2 3.1 2 3.4C2.9 3.75 3.5 4.1 3.5 5.1C3.5 6 2.9 6.5 2 6.5C1.2 6.5 .6 6 .45 5.2",
    ),
    "T": (3.8, "M.1 .5H3.7M1.9 .5V7"),
    "O": (4.1, "M.5 2.1A1.55 1.6 0 0 1 3.6 2.1V4.9A1.55 1.6 0 0 1 .5 4.9Z"),
    "P": (3.9, "M.5 7V.5H1.9A1.45 1.6 0 0 1 1.9 3.9H.5"),
}


def num(value: float) -> str:
    """A number as SVG has it, to a hundredth."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def points(*xy: tuple[float, float]) -> str:
    """A closed polygon as path data."""
    return "M" + "L".join(f"{num(x)} {num(y)}" for x, y in xy) + "Z"


def fill(d: str, colour: str, extra: str = "") -> str:
    """A filled path, holes by the even-odd rule."""
    return f'<path d="{d}" fill="{colour}" fill-rule="evenodd"{extra}/>'


def line(d: str, colour: str, width: float, extra: str = "") -> str:
    """A stroked path."""
    return f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{num(width)}"{extra}/>'


def disc(x: float, y: float, r: float, colour: str) -> str:
    """A full circle."""
    return f'<circle cx="{num(x)}" cy="{num(y)}" r="{num(r)}" fill="{colour}"/>'


def moved(body: str, x: float, y: float, scale: float = 1.0, turn: float = 0.0) -> str:
    """`body` scaled, turned (degrees, clockwise) and moved to (x, y)."""
    parts = [f"translate({num(x)} {num(y)})"]
    parts += [f"rotate({num(turn)})"] if turn else []
    parts += [f"scale({scale:.4f})"] if scale != 1 else []
    return f'<g transform="{" ".join(parts)}">{body}</g>'


def mirrored(body: str) -> str:
    """`body` with left and right exchanged."""
    return f'<g transform="matrix(-1 0 0 1 256 0)">{body}</g>'


ROUND = ' stroke-linejoin="round"'
CAPS = ' stroke-linejoin="round" stroke-linecap="round"'


# Outlines -------------------------------------------------------------------------------------------------


def triangle(inset: float, corner: float, colour: str) -> str:
    """The upright triangle, `inset` inside the outline, its corners rounded by `corner`."""
    centre = BASE - SIDE / (2 * math.sqrt(3))
    outer = SIDE / math.sqrt(3) - 2 * inset - 2 * corner  # from the middle to the centres of the corners
    tips = [(128 + outer * math.sin(a), centre - outer * math.cos(a)) for a in (0, 2.0943951, 4.1887902)]
    return f'<path d="{points(*tips)}" fill="{colour}" stroke="{colour}" stroke-width="{num(2 * corner)}"{ROUND}/>'


def polygon(n: int, inradius: float, corner: float, colour: str, turn: float = 0.0) -> str:
    """A regular polygon with a flat top (turned by `turn` degrees), corners rounded."""
    reach = (inradius - corner) / math.cos(math.pi / n)
    angles = [math.radians(turn) + math.pi / n + 2 * math.pi * k / n for k in range(n)]
    tips = [(128 + reach * math.sin(a), 128 - reach * math.cos(a)) for a in angles]
    return f'<path d="{points(*tips)}" fill="{colour}" stroke="{colour}" stroke-width="{num(2 * corner)}"{ROUND}/>'


def prohibition(body: str = "", ring: float = 33.0, rim: float = 4.0) -> str:
    """Round, white, with a red ring inside a thin white rim."""
    return (
        disc(128, 128, 128, WHITE) + disc(128, 128, 128 - rim, RED) + disc(128, 128, 124 - ring, WHITE) + body
    )


def mandatory(body: str, rim: float = 4.0) -> str:
    """Round, blue, with a thin white rim."""
    return disc(128, 128, 128, WHITE) + disc(128, 128, 128 - rim, BLUE) + body


def warning(body: str, rim: float = 4.0, band: float = 23.5) -> str:
    """The red triangle on its base."""
    return (
        triangle(0, CORNER, WHITE) + triangle(rim, CORNER - rim, RED) + triangle(rim + band, 2, WHITE) + body
    )


def ending(body: str, lines: str) -> str:
    """Round, white, thin black line along the rim, five black lines from lower left to upper right."""
    return (
        disc(128, 128, 128, WHITE)
        + body
        + lines
        + f'<circle cx="128" cy="128" r="122" fill="none" stroke="{BLACK}" stroke-width="3.5"/>'
    )


def slashes(width: float = 5.6, gap: float = 4.4) -> str:
    """The five lines of the signs that end something."""
    return "".join(
        line(
            f"M{num(-reach)} {num(y)}H{num(reach)}",
            BLACK,
            width,
            ' transform="translate(128 128) rotate(-45)"',
        )
        for y, reach in (
            (k * (width + gap), math.sqrt(121**2 - (k * (width + gap)) ** 2)) for k in range(-2, 3)
        )
    )


# Letters --------------------------------------------------------------------------------------------------


def text(
    word: str,
    height: float,
    colour: str,
    x: float = 128,
    y: float = 128,
    narrow: float = 1.0,
    weight: float = 1.0,
    gap: float = 1.1,
) -> str:
    """`word` in strokes, its middle at (x, y); `narrow` < 1 condenses the letters but not their strokes."""
    unit = height / 7
    total = sum(GLYPHS[c][0] * narrow for c in word) + gap * (len(word) - 1)
    at, parts = -total / 2, []
    for c in word:
        advance, d = GLYPHS[c]
        parts.append(line(squeezed(d, narrow, at), colour, weight, ' stroke-linejoin="miter"'))
        at += advance * narrow + gap
    return moved(moved("".join(parts), 0, -height / 2, unit), x, y)


def squeezed(d: str, narrow: float, at: float) -> str:
    """Path data of a glyph with its middle lines moved so that the glyph is `narrow` times as wide, at `at`.

    The half stroke at either side stays, so that lines keep their width.
    """
    out, kind, slot = [], "", 0
    for token in _tokens(d):
        if token.isalpha():
            out.append(token)
            kind, slot = token, 0
            continue
        value = float(token)
        shape = {"M": "xy", "L": "xy", "C": "xyxyxy", "H": "x", "V": "y", "A": "w.fffxy"}[kind]
        role = shape[slot % len(shape)]
        slot += 1
        # 0.5 is the middle of the left stroke and stays 0.5; so radii shrink by what is between strokes.
        value = {"x": at + 0.5 * narrow + (value - 0.5) * narrow, "w": value * narrow}.get(role, value)
        out.append(num(value))
    return " ".join(out)


def _tokens(d: str) -> list[str]:
    for letter in "MLCHVAZ":
        d = d.replace(letter, f" {letter} ")
    return d.split()


# Vehicles, people, animals --------------------------------------------------------------------------------


def car(colour: str) -> str:
    """A car from behind, 72 wide and 54 high, from (0, 0)."""
    roof = "M16 0H56Q59 0 60 3L65 18H7L12 3Q13 0 16 0ZM17 4L13 18H59L55 4Z"
    body = "M5 17H67Q72 18 72 23V41H0V23Q0 18 5 17ZM5 24V30H13V24ZM59 24V30H67V24Z"
    return (
        fill(roof, colour)
        + fill(body, colour)
        + fill("M6 41H17V54H6ZM55 41H66V54H55ZM17 43H55V46H17Z", colour)
    )


def lorry(colour: str) -> str:
    """A lorry from behind, 68 wide and 84 high, from (0, 0)."""
    return fill("M0 0H68V66H0ZM3 68H65V72H3ZM6 72H18V84H6ZM50 72H62V84H50ZM18 76H50V79H18Z", colour)


def lorry_side(colour: str) -> str:
    """A lorry from the side, driving to the left, 160 wide and 80 high, from (0, 0)."""
    box = "M56 0H160V54H56Z"
    cab = "M52 63V17H32Q28 17 26 21L20 37L5 40Q0 41 0 46V63ZM46 23H34L28 38H46Z"
    wheels = "".join(
        disc(x, 67, 15, WHITE) + disc(x, 67, 12.5, colour) + disc(x, 67, 4, WHITE) for x in (25, 126)
    )
    return fill(box, colour) + fill(cab, colour) + fill("M0 58H160V67H0Z", colour) + wheels


def limbs(colour: str, *strokes: tuple[str, float]) -> str:
    """Round-ended strokes: (polyline, width)."""
    return "".join(line(d, colour, w, CAPS) for d, w in strokes)


def chevron(x: float, y: float, turn: float, reach: float, width: float, spread: float = 45) -> str:
    """The open arrow head of the blue signs, its ends cut along the shaft: tip at (x, y), up before it is turned.

    `reach` is half its breadth, `spread` the angle in degrees between an arm and the shaft.
    """
    a = math.radians(spread)
    back, v = reach / math.tan(a), width / math.sin(a)
    half = ((0, 0), (reach, back), (reach, back + v), (0, v))
    return moved(fill(points(*half, (-reach, back + v), (-reach, back)), WHITE), x, y, 1, turn)


def child(colour: str, girl: bool) -> str:
    """A child running to the left, 100 high, feet at y = 0."""
    body = limbs(
        colour,
        ("M2 -72L4 -44", 19),
        ("M0 -40L-14 -24L-22 -2", 10),
        ("M6 -40L18 -22L34 -10", 10),
        ("M-4 -74L-22 -62L-30 -48", 7.5),
        ("M8 -74L24 -60L34 -62", 7.5),
    )
    return (
        disc(-2, -92, 11, colour)
        + body
        + (fill(points((-8, -62), (12, -62), (22, -30), (-16, -30)), colour) if girl else "")
    )
