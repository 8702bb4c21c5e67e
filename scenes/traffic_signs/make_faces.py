"""Draws faces/*.svg: the faces of the 43 GTSRB classes, from the rules of the German signs.

    python make_faces.py [FOLDER]

Everything is set down here in numbers: no fonts, no traced art, and the same bytes on every run. One unit is
1/256 of the sign's width, y goes down, and outside the sign's outline nothing is drawn.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

WHITE, BLACK, RED = "#f1f0ea", "#1c1c1e", "#c1121c"
BLUE, YELLOW, GREEN, GREY = "#0e518d", "#f7b500", "#008351", "#85888a"
LENS_RED, LENS_YELLOW = "#cc1a1f", "#f5a800"

SPEEDS = {0: "20", 1: "30", 2: "50", 3: "60", 4: "70", 5: "80", 7: "100", 8: "120"}

# Triangles: 256 wide over rounded corners, so 225 high, in the middle of the square.
CORNER = 11.5
SIDE = 256 + 2 * (math.sqrt(3) - 1) * CORNER  # between the sharp corners
TALL = SIDE * math.sqrt(3) / 2 - CORNER
TOP, BASE = 128 - TALL / 2, 128 + TALL / 2

# The strokes of DIN 1451's medium letters on a height of 7, line width 1: width of the glyph, middle lines.
GLYPHS = {
    "0": (4.0, "M.5 2.1A1.5 1.6 0 0 1 3.5 2.1V4.9A1.5 1.6 0 0 1 .5 4.9Z"),
    "1": (2.2, "M1.7 7V.7L.25 2"),
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
    """A car from behind, 72 wide and 56 high, from (0, 0)."""
    roof = "M17 0H55Q58 0 59 3L65 22H7L13 3Q14 0 17 0ZM19 6L14.5 20H57.5L53 6Z"
    body = "M7 19H65Q72 21 72 28V42H0V28Q0 21 7 19ZM6 27V34H14V27ZM58 27V34H66V27Z"
    return (
        fill(roof, colour)
        + fill(body, colour)
        + fill("M6 44H19V56H6ZM53 44H66V56H53ZM19 44H53V47H19Z", colour)
    )


def lorry(colour: str) -> str:
    """A lorry from behind, 60 wide and 88 high, from (0, 0)."""
    return fill("M0 0H60V64H0ZM3 67H57V71H3ZM5 71H18V88H5ZM42 71H55V88H42ZM18 77H42V80H18Z", colour)


def lorry_side(colour: str) -> str:
    """A lorry from the side, driving to the left, 160 wide and 80 high, from (0, 0)."""
    box = "M60 0H160V62H60Z"
    cab = "M54 64V14H34Q30 14 28 18L22 34L4 38Q0 39 0 43V64ZM48 20H36L30 35H48Z"
    frame = "M0 62H160V69H0Z"
    wheels = "".join(
        disc(x, 67, 15, WHITE) + disc(x, 67, 12.5, colour) + disc(x, 67, 4, WHITE) for x in (26, 126)
    )
    return fill(box, colour) + fill(cab, colour) + fill(frame, colour) + wheels


def limbs(colour: str, *strokes: tuple[str, float]) -> str:
    """Round-ended strokes: (polyline, width)."""
    return "".join(line(d, colour, w, CAPS) for d, w in strokes)


def chevron(x: float, y: float, turn: float, reach: float, width: float, spread: float = 45.0) -> str:
    """The open arrow head of the blue signs: tip at (x, y), pointing up before it is turned."""
    a = math.radians(spread)
    back = width / 2 / math.sin(a)
    dx, dy = reach * math.sin(a), reach * math.cos(a)
    return line(
        f"M{num(-dx)} {num(back + dy)}L0 {num(back)}L{num(dx)} {num(back + dy)}",
        WHITE,
        width,
        f' stroke-miterlimit="9" transform="translate({num(x)} {num(y)}) rotate({num(turn)})"',
    )


# The signs ------------------------------------------------------------------------------------------------


def speed(word: str) -> str:
    """A speed limit."""
    return prohibition(digits(word, BLACK))


def digits(word: str, colour: str) -> str:
    """The number of a speed limit: two digits in medium, three in condensed letters."""
    if len(word) == 2:
        return text(word, 92, colour)
    return text(word, 92, colour, narrow=0.76, gap=0.75, weight=0.95)


def no_passing(left: str, right: str) -> str:
    """Two cars side by side."""
    return moved(car(left), 49, 99, 1.03) + moved(car(right), 133, 99, 1.03)


def no_passing_lorries(left: str, right: str) -> str:
    """A lorry beside a car."""
    return moved(lorry(left), 55, 86) + moved(car(right), 127, 119, 0.98)


def priority_next() -> str:
    """The thick arrow across a thin bar."""
    shaft = points(
        (128, 84), (151, 112), (144, 112), (144, 198), (128, 184), (112, 198), (112, 112), (105, 112)
    )
    return warning(fill(shaft, BLACK) + fill("M86 138H170V151H86Z", BLACK))


def priority_road() -> str:
    """The yellow square on its tip."""
    half = 128 / math.sqrt(2)
    half = (128 + (math.sqrt(2) - 1) * 8) / math.sqrt(2)
    return (
        polygon(4, half, 8, WHITE, 45)
        + polygon(4, half - 3, 6, BLACK, 45)
        + polygon(4, half - 6, 4, WHITE, 45)
        + polygon(4, half * 0.56 + 2, 1, BLACK, 45)
        + polygon(4, half * 0.56, 1, YELLOW, 45)
    )


def give_way() -> str:
    """The triangle on its tip."""
    return f'<g transform="rotate(180 128 128)">{warning("", band=22)}</g>'


def stop() -> str:
    """The octagon."""
    word = text("STOP", 86, WHITE, narrow=0.78, gap=0.62, weight=1.05)
    return polygon(8, 128, 6, WHITE) + polygon(8, 121, 4, RED) + word


def no_entry() -> str:
    """The white bar on red."""
    return disc(128, 128, 128, WHITE) + disc(128, 128, 124, RED) + fill("M22 108H234V148H22Z", WHITE)


def caution() -> str:
    """The exclamation mark."""
    return warning(
        fill("M116 84Q116 74 128 74Q140 74 140 84L134 164H122Z", BLACK) + disc(128, 189, 12, BLACK)
    )


def curve_left() -> str:
    """A bend to the left."""
    d = "M167 203L156 193L145 203V160Q145 146 130 146H113V148L95 134L113 121H134Q167 122 167 156Z"
    return warning(fill(d, BLACK))


def curve_right() -> str:
    """A bend to the right."""
    return mirrored_warning(curve_left())


def mirrored_warning(body: str) -> str:
    """A triangle is its own mirror image, so the whole face may be mirrored."""
    return mirrored(body)


def double_curve() -> str:
    """Two bends, the first to the left."""
    body = line("M160 200V141L111 158V108", BLACK, 22, ROUND) + fill(
        points((99, 109), (112, 86), (123, 109)), BLACK
    )
    return warning(body + fill(points((148, 206), (160, 195), (172, 206)), WHITE))


def bumpy() -> str:
    """Two humps."""
    d = "M70 204V196Q84 192 89 178Q93 164 104 164Q114 164 119 178Q122 188 128 188Q134 188 137 178Q142 164 152 164Q163 164 167 178Q172 192 186 196V204Z"
    return warning(fill(d, BLACK))


def slippery() -> str:
    """A car from behind, askew, over the marks of its wheels."""
    marks = line(
        "M68 205C80 193 92 204 104 198S118 186 106 184M96 212C108 206 116 212 128 204S152 204 178 208",
        BLACK,
        5.5,
        ' stroke-linecap="round"',
    )
    return warning(moved(car(BLACK), 88, 112, 0.98, 9) + marks)


def narrows_right() -> str:
    """The right edge comes in."""
    return warning(
        fill("M106 106H120V204H106Z", BLACK) + fill("M135 106H149V134L163 158V204H149V161L135 138Z", BLACK)
    )


def road_work() -> str:
    """A worker with a shovel at a heap."""
    man = limbs(
        BLACK,
        ("M119 110L103 142", 19),
        ("M103 146L96 172L88 205", 11),
        ("M105 146L119 170L121 205", 11),
        ("M121 112L130 130L118 146", 7.5),
        ("M113 110L96 134L104 148", 6.5),
        ("M97 132L150 186", 4.5),
    )
    return warning(
        disc(127, 92, 10, BLACK) + man + fill(points((137, 207), (160, 172), (172, 172), (201, 207)), BLACK)
    )


def signals() -> str:
    """Three lights."""
    return warning(disc(128, 104, 14, LENS_RED) + disc(128, 141, 14, LENS_YELLOW) + disc(128, 178, 14, GREEN))


def pedestrian() -> str:
    """A walker, to the left."""
    body = limbs(
        BLACK,
        ("M122 112L130 148", 20),
        ("M126 150L118 176L104 206", 11),
        ("M132 150L142 176L152 206", 11),
        ("M114 112L104 130L108 150", 7.5),
        ("M132 110L143 128L141 150", 7.5),
    )
    return warning(disc(118, 92, 10.5, BLACK) + body)


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
    return warning(moved(child(BLACK, False), 148, 206, 1.05) + moved(child(BLACK, True), 98, 206, 0.72))


def bicycle() -> str:
    """A bicycle, to the left."""
    wheels = "".join(
        f'<circle cx="{x}" cy="181" r="22" fill="none" stroke="{BLACK}" stroke-width="5"/>' for x in (92, 164)
    )
    frame = "M92 181L104 140L144 142L124 181L104 148M124 181H164L144 142M144 142L148 134M104 140L101 130M92 128L104 129M140 133H157"
    return warning(wheels + line(frame, BLACK, 5, CAPS))


def snow() -> str:
    """A snowflake."""
    arm = "M0 0V-46M-13 -44L0 -32L13 -44M-13 -27L0 -15L13 -27"
    return warning("".join(moved(line(arm, BLACK, 6), 128, 156, 1, 60 * k) for k in range(6)))


def deer() -> str:
    """A deer leaping to the left."""
    d = (
        "M97 128L108 119Q118 116 122 122Q124 140 134 147Q158 153 172 162Q180 168 182 178L198 206L192 209L172 186"
        "L184 210L178 212L160 182Q142 180 128 174L110 176L98 168L101 163L112 169L121 164L104 158L95 150L99 146L108 153L118 155Q110 145 109 134L99 134Z"
    )
    antlers = line("M112 120L106 104M108 111L101 106M118 119L129 103M124 111L133 110", BLACK, 3.5, CAPS)
    return warning(fill(d, BLACK) + antlers)


def turn_right() -> str:
    """A bent arrow to the right."""
    return mandatory(line("M98 216V142Q98 84 150 84H196", WHITE, 26) + chevron(212, 84, 90, 52, 25))


def turn_left() -> str:
    """A bent arrow to the left."""
    return mirrored(turn_right())


def ahead() -> str:
    """An arrow up."""
    return mandatory(line("M128 214V46", WHITE, 25) + chevron(128, 28, 0, 60, 25))


def ahead_or_right() -> str:
    """An arrow up with a branch to the right."""
    shafts = line("M112 226V44M112 200Q112 150 152 150H214", WHITE, 23)
    return mandatory(shafts + chevron(112, 26, 0, 36, 21) + chevron(232, 150, 90, 36, 21))


def ahead_or_left() -> str:
    """An arrow up with a branch to the left."""
    return mirrored(ahead_or_right())


def keep_right(solid: bool = False) -> str:
    """An arrow down to the right."""
    head = fill("M0 -96L48 -20H-48Z", WHITE) if solid else chevron(0, -96, 0, 56, 27)
    return mandatory(
        moved(line("M0 96V-80" if not solid else "M0 96V-22", WHITE, 29) + head, 128, 128, 1, 135)
    )


def keep_left(solid: bool = False) -> str:
    """An arrow down to the left."""
    return mirrored(keep_right(solid))


def roundabout() -> str:
    """Three arrows in a ring, against the clock."""
    r = 72.0
    a, b = math.radians(-52), math.radians(42)  # from the tail to the neck, clockwise from the top
    arc = f"M{num(-r * math.sin(a))} {num(-r * math.cos(a))}A{num(r)} {num(r)} 0 0 0 {num(-r * math.sin(b))} {num(-r * math.cos(b))}"
    tip = math.radians(52)
    head = chevron(-(r + 2) * math.sin(tip), -(r + 2) * math.cos(tip), -90 - 44, 34, 17)
    return mandatory("".join(moved(line(arc, WHITE, 19) + head, 128, 128, 1, 120 * k) for k in range(3)))


def faces() -> dict[str, str]:
    """What stands between <svg> and </svg>, by file name without .svg; 00014.b is a variant of 00014."""
    out = {f"{k:05d}": speed(word) for k, word in SPEEDS.items()}
    signs = {
        6: ending(digits("80", "#4a4b4d"), slashes()),
        9: prohibition(no_passing(RED, BLACK)),
        10: prohibition(no_passing_lorries(RED, BLACK)),
        11: priority_next(),
        12: priority_road(),
        13: give_way(),
        14: stop(),
        15: prohibition(),
        16: prohibition(moved(lorry_side(BLACK), 50, 86, 0.99)),
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
        42: ending(no_passing_lorries("#4a4b4d", "#4a4b4d"), slashes()),
    }
    return out | {f"{k:05d}": body for k, body in signs.items()}


def document(name: str, body: str) -> str:
    """One face as an SVG file."""
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 256 256">\n{body.replace("><", ">" + chr(10) + "<")}\n</svg>\n'


def main(folder: Path) -> None:
    """Write every face to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in faces().items():
        (folder / f"{name}.svg").write_text(document(name, body), "utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("faces"))
