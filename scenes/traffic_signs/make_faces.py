"""Draws faces/*.svg: the faces of the 43 GTSRB classes, from the rules of the German signs.

    python make_faces.py [FOLDER]

Everything is set down here in numbers: no fonts, no traced art, and the same bytes on every run. One unit is
1/256 of the sign's width, y goes down, and outside the sign's outline nothing is drawn.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

WHITE, BLACK, RED = "#f1f0ea", "#1c1c1e", "#b9141c"
BLUE, YELLOW, GREEN, GREY, DARK = "#154a98", "#f2a900", "#007a50", "#85888a", "#4a4b4d"

SPEEDS = {0: "20", 1: "30", 2: "50", 3: "60", 4: "70", 5: "80", 7: "100", 8: "120"}

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


def chevron(x: float, y: float, turn: float, reach: float, width: float) -> str:
    """The open arrow head of the blue signs, its ends cut along the shaft: tip at (x, y), up before it is turned."""
    v = width * math.sqrt(2)
    half = ((0, 0), (reach, reach), (reach, reach + v), (0, v))
    return moved(fill(points(*half, (-reach, reach + v), (-reach, reach)), WHITE), x, y, 1, turn)


# The signs ------------------------------------------------------------------------------------------------


def speed(word: str) -> str:
    """A speed limit."""
    return prohibition(digits(word, BLACK))


def digits(word: str, colour: str) -> str:
    """The number of a speed limit: two digits in medium, three in condensed letters."""
    if len(word) == 2:
        return text(word, 101, colour, narrow=1.08, gap=0.9)
    return text(word, 101, colour, narrow=0.83, gap=0.9)


def no_passing(left: str, right: str) -> str:
    """Two cars side by side."""
    return moved(car(left), 47, 100) + moved(car(right), 137, 100)


def no_passing_lorries(left: str, right: str, scale: float = 1.0) -> str:
    """A lorry beside a car."""
    return moved(lorry(left), 49, 81, scale) + moved(car(right), 60 + 68 * scale, 112, scale)


def priority_next() -> str:
    """The thick arrow across a thin bar."""
    half = ((128, 98), (151, 122), (146, 122), (146, 206), (128, 189))
    shaft = points(*half, *((256 - x, y) for x, y in half[3:0:-1]))
    return warning(fill(shaft, BLACK) + fill("M86 148H170V161H86Z", BLACK))


def priority_road() -> str:
    """The yellow square on its tip."""
    half = 128 / math.sqrt(2)
    half = (128 + (math.sqrt(2) - 1) * 8) / math.sqrt(2)
    return (
        polygon(4, half, 8, WHITE, 45)
        + polygon(4, half - 3, 6, BLACK, 45)
        + polygon(4, half - 6, 4, WHITE, 45)
        + polygon(4, half * 0.58 + 2, 1, BLACK, 45)
        + polygon(4, half * 0.58, 1, YELLOW, 45)
    )


def give_way() -> str:
    """The triangle on its tip."""
    return f'<g transform="rotate(180 128 128)">{warning("", band=22)}</g>'


def stop() -> str:
    """The octagon."""
    word = text("STOP", 88, WHITE, narrow=0.86, gap=0.72, weight=1.12)
    return polygon(8, 128, 6, WHITE) + polygon(8, 119, 3, RED) + word


def no_entry() -> str:
    """The white bar on red."""
    return disc(128, 128, 128, WHITE) + disc(128, 128, 124, RED) + fill("M18 108.5H238V147.5H18Z", WHITE)


def caution() -> str:
    """The exclamation mark."""
    return warning(
        fill("M116.5 93Q116.5 83 128 83Q139.5 83 139.5 93L133.5 171H122.5Z", BLACK)
        + disc(128, 191.5, 12, BLACK)
    )


def curve_left() -> str:
    """A bend to the left."""
    d = "M170 205L158.5 196L147 205V168Q147 155 132 155H115V158L94 143.5L115 129V132H136Q170 132 170 166Z"
    return warning(fill(d, BLACK))


def curve_right() -> str:
    """A bend to the right."""
    return mirrored_warning(curve_left())


def mirrored_warning(body: str) -> str:
    """A triangle is its own mirror image, so the whole face may be mirrored."""
    return mirrored(body)


def double_curve() -> str:
    """Two bends, the first to the left."""
    tail = fill(points((148, 207), (160, 197), (172, 207)), WHITE)
    body = line("M160 206V145L118 165V120", BLACK, 22, ROUND) + fill(
        points((107, 121), (123, 101), (129, 121)), BLACK
    )
    return warning(body + tail)


def bumpy() -> str:
    """Two humps."""
    d = "M66 201V195Q84 193 89 180Q93 169 103 169Q113 169 117 180Q121 190 128 190Q135 190 139 180Q143 169 153 169Q163 169 167 180Q172 193 190 195V201Z"
    return warning(fill(d, BLACK))


def slippery() -> str:
    """A car from behind, askew, over the marks of its wheels."""
    left = "M70 205C78 192 92 206 101 199S112 188 104 184"
    right = "M100 210C112 200 122 208 130 202S118 190 134 188S152 206 180 204"
    marks = line(left + right, BLACK, 5, ' stroke-linecap="round"')
    return warning(moved(car(BLACK), 94, 118, 0.98, 9) + marks)


def narrows_right() -> str:
    """The right edge comes in."""
    left, right = "M106 115H118.5V206H106Z", "M132 115H144.5V139L160.5 161V206H148V165L132 143Z"
    return warning(fill(left, BLACK) + fill(right, BLACK))


def road_work() -> str:
    """A worker with a shovel at a heap."""
    man = limbs(
        BLACK,
        ("M111 128Q100 134 97 162", 20),
        ("M94 164L89 186L77 206", 9.5),
        ("M99 164L112 184L117 206", 9.5),
        ("M114 128L127 150L114 160", 7.5),
        ("M101 126L82 144L90 162", 6.5),
        ("M92 153L148 192", 4.5),
    )
    heap = points((128, 209), (155, 173), (174, 173), (207, 209))
    return warning(disc(128, 112, 10, BLACK) + man + fill(heap, BLACK))


def signals() -> str:
    """Three lights."""
    return warning(disc(128, 110, 16.5, RED) + disc(128, 148.5, 16.5, YELLOW) + disc(128, 187, 16.5, GREEN))


def pedestrian() -> str:
    """A walker, to the left."""
    body = limbs(
        BLACK,
        ("M125 126L129 158", 20),
        ("M126 160L118 184L103 206", 11),
        ("M131 160L142 184L155 205", 11),
        ("M118 124L107 140L103 157", 7.5),
        ("M134 124L147 140L147 158", 7.5),
    )
    return warning(disc(122, 104, 10.5, BLACK) + body)


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


def children() -> str:
    """Two children."""
    return warning(moved(child(BLACK, False), 142, 207, 0.88) + moved(child(BLACK, True), 92, 207, 0.64))


def bicycle() -> str:
    """A bicycle, to the left."""
    wheels = "".join(
        f'<circle cx="{x}" cy="185" r="20" fill="none" stroke="{BLACK}" stroke-width="4.5"/>'
        for x in (91, 165)
    )
    frame = "M91 185L104 146L144 148L124 185L104 154M124 185H165L144 148M144 148L148 139M104 146L101 136M92 134L104 135M140 138H157"
    return warning(wheels + line(frame, BLACK, 4.5, CAPS))


def snow() -> str:
    """A snowflake."""
    arm = line("M0 0V-44M-12 -42L0 -31L12 -42M-13 -27L0 -15L13 -27", BLACK, 7.5)
    return warning("".join(moved(arm, 128, 161, 1, 60 * k) for k in range(6)))


def deer() -> str:
    """A deer leaping to the left."""
    d = (
        "M97 128L108 119Q118 116 122 122Q124 140 134 147Q158 153 172 162Q180 168 182 178L198 206L192 209L172 186"
        "L184 210L178 212L160 182Q142 180 128 174L110 176L98 168L101 163L112 169L121 164L104 158L95 150L99 146L108 153L118 155Q110 145 109 134L99 134Z"
    )
    antlers = line("M112 120L106 104M108 111L101 106M118 119L129 103M124 111L133 110", BLACK, 3.5, CAPS)
    return warning(moved(fill(d, BLACK) + antlers, 14, 24, 0.88))


def turn_right() -> str:
    """A bent arrow to the right."""
    return mandatory(line("M98 222V142Q98 83 150 83H200", WHITE, 26) + chevron(218, 83, 90, 46, 23))


def turn_left() -> str:
    """A bent arrow to the left."""
    return mirrored(turn_right())


def ahead() -> str:
    """An arrow up."""
    return mandatory(line("M128 224V40", WHITE, 27) + chevron(128, 22, 0, 58, 23))


def ahead_or_right() -> str:
    """An arrow up with a branch to the right."""
    shafts = line("M111 234V40M111 210Q111 147 152 147H226", WHITE, 23)
    return mandatory(shafts + chevron(111, 24, 0, 33, 19) + chevron(240, 147, 90, 33, 19))


def ahead_or_left() -> str:
    """An arrow up with a branch to the left."""
    return mirrored(ahead_or_right())


def keep_right(solid: bool = False) -> str:
    """An arrow down to the right."""
    head = fill("M0 -106L50 -30H-50Z", WHITE) if solid else chevron(0, -106, 0, 56, 25)
    return mandatory(
        moved(line("M0 104V-84" if not solid else "M0 104V-32", WHITE, 29) + head, 128, 128, 1, 135)
    )


def keep_left(solid: bool = False) -> str:
    """An arrow down to the left."""
    return mirrored(keep_right(solid))


def roundabout() -> str:
    """Three arrows in a ring, against the clock."""
    r = 78.0
    (x0, y0), (x1, y1) = ((-r * math.sin(a), -r * math.cos(a)) for a in (math.radians(-48), math.radians(34)))
    arc = line(f"M{num(x0)} {num(y0)}A{num(r)} {num(r)} 0 0 0 {num(x1)} {num(y1)}", WHITE, 17)
    tip = math.radians(47)
    head = chevron(-83 * math.sin(tip), -83 * math.cos(tip), -90 - 36, 31, 14)
    return mandatory("".join(moved(arc + head, 128, 128, 1, 120 * k) for k in range(3)))


def faces() -> dict[str, str]:
    """What stands between <svg> and </svg>, by file name without .svg; 00014.b is a variant of 00014."""
    out = {f"{k:05d}": speed(word) for k, word in SPEEDS.items()}
    signs = {
        6: ending(text("80", 124, DARK, gap=0.8, weight=1.12), slashes()),
        9: prohibition(no_passing(RED, BLACK)),
        10: prohibition(no_passing_lorries(RED, BLACK)),
        11: priority_next(),
        12: priority_road(),
        13: give_way(),
        14: stop(),
        15: prohibition(),
        16: prohibition(moved(lorry_side(BLACK), 48, 87)),
        17: no_entry(),
        18: caution(),
        19: curve_left(),
        20: curve_right(),
        21: double_curve(),
        22: bumpy(),
        23: slippery(),
        24: narrows_right(),
        25: road_work(),
        26: signals(),
        27: pedestrian(),
        28: children(),
        29: bicycle(),
        30: snow(),
        31: deer(),
        32: ending("", slashes()),
        33: turn_right(),
        34: turn_left(),
        35: ahead(),
        36: ahead_or_right(),
        37: ahead_or_left(),
        38: keep_right(),
        39: keep_left(),
        40: roundabout(),
        41: ending(no_passing(GREY, GREY), slashes()),
        42: ending(no_passing_lorries(DARK, DARK, 1.1), slashes()),
    }
    out |= {f"{k:05d}": body for k, body in signs.items()}
    return out | variants()


def variants() -> dict[str, str]:
    """Second designs that stand along the roads: older pictograms, solid arrow heads, other weights."""
    lit = f'<rect x="106" y="86" width="44" height="122" rx="10" fill="{BLACK}"/>'
    lamps = disc(128, 110, 15, RED) + disc(128, 147, 15, YELLOW) + disc(128, 184, 15, GREEN)
    return {
        "00006.b": ending(digits("80", GREY), slashes()),
        "00026.b": warning(lit + lamps),
        "00032.b": ending("", slashes(3.6, 4.4)),
        "00038.b": keep_right(solid=True),
        "00039.b": keep_left(solid=True),
        "00041.b": ending(no_passing(DARK, DARK), slashes()),
        "00042.b": ending(no_passing_lorries(GREY, GREY, 1.1), slashes()),
    }


def document(body: str) -> str:
    """One face as an SVG file."""
    lines = body.replace("><", ">\n<")
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 256 256">\n{lines}\n</svg>\n'


def main(folder: Path) -> None:
    """Write every face to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in faces().items():
        (folder / f"{name}.svg").write_text(document(body), "utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("faces"))
