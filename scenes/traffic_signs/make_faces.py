"""Draws faces/*.svg: the faces of the 43 GTSRB classes, from the rules of the German signs.

    python make_faces.py [FOLDER]

Everything is set down here and in face_parts.py in numbers: no fonts, no traced art, and the same bytes on
every run. Outlines in the square of 256: round signs, octagon and diamond fill it; triangles are 256 wide
and 225 high, in its middle. 00038.b.svg is a second design of class 38.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from face_parts import (
    BLACK,
    CAPS,
    DARK,
    GREEN,
    GREY,
    RED,
    ROUND,
    WHITE,
    YELLOW,
    car,
    chevron,
    child,
    disc,
    ending,
    fill,
    limbs,
    line,
    lorry,
    lorry_side,
    mandatory,
    mirrored,
    moved,
    num,
    points,
    polygon,
    prohibition,
    slashes,
    text,
    warning,
)

SPEEDS = {0: "20", 1: "30", 2: "50", 3: "60", 4: "70", 5: "80", 7: "100", 8: "120"}


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
    half = 128 / math.sqrt(2) + (1 - 1 / math.sqrt(2)) * 8  # rounding the tips by 8 brings them to the edge
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
    return mirrored(curve_left())


def double_curve() -> str:
    """Two bends, the first to the left."""
    tail = fill(points((148, 207), (160, 197), (172, 207)), WHITE)
    body = line("M160 206V145L118 165V120", BLACK, 22, ROUND) + fill(
        points((107, 121), (123, 101), (129, 121)), BLACK
    )
    return warning(body + tail)


def bumpy() -> str:
    """Two humps."""
    d = "M66 201V195Q84 193 89 180Q93 165 103 165Q113 165 117 180Q121 190 128 190Q135 190 139 180Q143 165 153 165Q163 165 167 180Q172 193 190 195V201Z"
    return warning(fill(d, BLACK))


def slippery() -> str:
    """A car from behind, askew, over the marks of its wheels."""
    left = "M70 205C78 192 92 206 101 199S112 188 104 184"
    right = "M100 210C112 200 122 208 130 202S118 190 134 188S152 206 180 204"
    marks = line(left + right, BLACK, 4.4, ' stroke-linecap="round"')
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
        ("M101 126L87 145L93 162", 6.5),
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
    """Three arrows in a ring, against the clock: their heads stand at about nine, one and five o'clock."""
    r = 78.0
    (x0, y0), (x1, y1) = ((-r * math.sin(a), -r * math.cos(a)) for a in (math.radians(-48), math.radians(34)))
    arc = line(f"M{num(x0)} {num(y0)}A{num(r)} {num(r)} 0 0 0 {num(x1)} {num(y1)}", WHITE, 17)
    tip = math.radians(51)
    head = chevron(-82 * math.sin(tip), -82 * math.cos(tip), -90 - 36, 27, 12, 39)
    return mandatory("".join(moved(arc + head, 128, 128, 1, 120 * k - 55) for k in range(3)))


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
