"""Shoes for men and women. Each function draws one product type, its toe to the left.

Men's shoes have a thick dark sole; women's are slimmer, with a light sole and a pink flower or
heart. Sports shoes carry three broad stripes on a sculpted sole; ethnic flats gold borders and a
curled toe.
"""

import math

from .canvas import Canvas, Colour, brightness, smooth, tone
from .garments import GOLD, MAROON, contrast
from .items import Item

PINK = (238, 84, 150)
FLOOR = 36.0
RUBBER = (44, 44, 48)


def _flower(canvas: Canvas, x: float, y: float, size: float, colour: Colour = PINK) -> None:
    for petal in range(5):
        turn = petal * 2 * math.pi / 5 - math.pi / 2
        canvas.dot(x + size * 0.6 * math.cos(turn), y + size * 0.6 * math.sin(turn), size * 0.48, colour, True)
    canvas.dot(x, y, size * 0.32, (252, 214, 70))


def _sole(canvas: Canvas, item: Item, colour: Colour, left: float = -70, right: float = 66) -> None:
    """Men: thick and dark, with a tread. Women: slim and light, with a pink line."""
    if item.gender == "Men":
        canvas.shape([(left, 20, 1), (left - 1, 30), (left + 9, 37, 1), (right - 4, 37, 1), (right + 3, 20, 1)], RUBBER)
        for x in range(int(left) + 12, int(right), 9):
            canvas.line([(x, 33), (x, 37)], (110, 110, 114), 2)
        canvas.line([(left + 2, 22), (right, 22)], (120, 120, 124), 1.6)
    else:
        canvas.shape([(left + 2, 25, 1), (left + 1, 32), (left + 8, 37, 1), (right - 4, 37, 1), (right, 25, 1)], (244, 240, 236))
        canvas.line([(left + 3, 30), (right - 2, 30)], PINK, 2.4)


def _laces(canvas: Canvas, start: tuple, end: tuple, count: int, colour: Colour) -> None:
    for i in range(count):
        t = i / (count - 1)
        x, y = start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])
        canvas.line([(x - 6, y - 5), (x + 9, y + 7)], colour, 3.2)


def casual_shoe(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A plain canvas sneaker with a rubber toe cap."""
    men = item.gender == "Men"
    dark = tone(colour, 0.68) if brightness(colour) > 60 else tone(colour, 1.35)
    lace = contrast(colour) if men else (248, 244, 240) if brightness(colour) < 190 else PINK
    rise = -44 if men else -26
    canvas.shape([(8, rise + 4, 1), (20, rise - 3), (46, rise, 1), (40, rise + 14), (14, rise + 18)], tone(colour, 0.45))
    upper = [(-66, 24, 1), (-67, 10), (-52, -2), (-30, -8), (4, rise + 2, 1), (16, rise + 13), (34, rise + 12), (52, rise - 4, 1), (57, -6), (60, 24, 1)]
    canvas.shape(upper, colour)
    canvas.shape([(-30, -8, 1), (4, rise + 2, 1), (13, rise - 5, 1), (-22, -14)], tone(colour, 0.8))  # tongue
    cap = (240, 238, 232) if brightness(colour) < 200 else tone(colour, 0.82)
    canvas.shape([(-68, 25, 1), (-68, 10), (-54, -1), (-44, 6), (-40, 25, 1)], cap)
    canvas.crease([(-44, 4), (-40, 24)], 40, 1.5)
    _laces(canvas, (-22, -4), (4, rise + 9), 4 if men else 3, lace)
    canvas.line([(20, rise + 16), (14, 4), (20, 24)], dark, 1.6)
    canvas.line([(57, rise + 8), (48, rise + 14), (46, 24)], dark, 1.6)
    canvas.crease([(-12, 10), (-6, 18)], 22, 2)
    _sole(canvas, item, colour)
    if not men:
        _flower(canvas, 31, 5, 13)


def sports_shoe(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A running shoe: three broad stripes, mesh and a sculpted sole with a raised heel."""
    men = item.gender == "Men"
    stripe = contrast(colour)
    glow = (238, 120, 20) if men else PINK
    canvas.shape([(10, -32, 1), (24, -38), (46, -32, 1), (40, -20), (16, -18)], tone(colour, 0.4))
    upper = [(-68, 20, 1), (-66, 4), (-46, -6), (-20, -16), (6, -34, 1), (18, -24), (34, -22), (54, -40, 1), (60, -30), (58, -6), (64, 20, 1)]
    outline = canvas.shape(upper, colour)
    bars = [smooth([(x, -30, 1), (x + 11, -30, 1), (x - 3, 26, 1), (x - 16, 26, 1)]) for x in (-2, 18, 38)]
    canvas.clipped(outline, bars, stripe)
    canvas.shape([(-26, -14, 1), (6, -34, 1), (12, -42, 1), (-18, -22)], tone(colour, 0.75))
    _laces(canvas, (-22, -12), (4, -29), 4, (250, 250, 250) if brightness(colour) < 190 else (60, 60, 70))
    canvas.line([(-68, 14), (-52, 4), (-42, 20)], tone(colour, 0.7), 3)
    canvas.fill([(54, -40), (60, -42), (63, -22), (58, -20)], glow)
    base = RUBBER if men else (246, 244, 242)
    thick = 0 if men else 4
    sole = [(-72, 12 + thick, 1), (-76, 22), (-66, 36, 1), (-22, 38, 1), (-8, 32), (8, 38, 1), (66, 38, 1), (72, 14, 1), (50, 16), (-20, 20 + thick)]
    canvas.shape(sole, base)
    canvas.line([(-70, 22 + thick), (-20, 25 + thick), (30, 22), (69, 22)], glow, 4)
    for x in (-60, -48, -36, 20, 32, 44, 56):
        canvas.line([(x, 33), (x, 38)], tone(base, 1.35) if men else tone(base, 0.75), 2.4)
    if not men:
        _flower(canvas, 56, 2, 11)


def formal_shoe(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A men's leather lace-up with a pointed toe and a block heel."""
    dark = tone(colour, 0.6) if brightness(colour) > 60 else tone(colour, 1.3)
    canvas.shape([(8, -24, 1), (28, -34), (52, -30, 1), (40, -18), (16, -14)], tone(colour, 0.35))
    upper = [(-76, 26, 1), (-72, 16), (-44, 4), (-18, -8), (4, -28, 1), (16, -18), (36, -18), (56, -33, 1), (61, -8), (62, 26, 1)]
    canvas.shape(upper, colour)
    for seam in ([(-40, 4), (-30, 12), (-30, 26)], [(-18, -8), (-4, 10), (8, 26)], [(30, -17), (30, 4), (38, 26)]):
        canvas.line(seam, dark, 2.6)
        canvas.crease(seam, 30, 1.5)
    for i in range(7):
        canvas.dot(-46 + i * 2.2, 8 + i * 2.6, 1.1, dark)
    _laces(canvas, (-10, -6), (6, -22), 3, dark)
    sole = (58, 40, 30) if brightness(colour) > 60 else (96, 60, 38)
    canvas.fill([(-77, 26), (64, 26), (64, 31), (-72, 31)], sole)
    canvas.fill([(30, 30), (65, 30), (64, 42), (33, 42)], (34, 28, 26))


def heel(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A women's pump on a stiletto or a block heel."""
    rng = canvas.rng
    dark = tone(colour, 0.7) if brightness(colour) > 60 else tone(colour, 1.3)
    style = rng.choice(("stiletto", "block", "platform"))
    inside = [(-24, 8, 1), (6, -22), (44, -46), (56, -46, 1), (48, -26), (14, 0)]
    canvas.shape(inside, tone(colour, 0.45))
    if style == "block":
        canvas.fill([(38, -20), (60, -30), (60, 40), (40, 40)], dark)
    else:
        canvas.shape([(34, -14, 1), (60, -34, 1), (58, 0), (55, 41, 1), (49, 41, 1), (46, 6)], dark)
    upper = [(-74, 34, 1), (-68, 20), (-48, 8), (-28, 4, 1), (-12, 10), (16, -8), (40, -32), (56, -48, 1), (63, -34), (58, -14), (30, 4), (0, 30), (-26, 38), (-66, 38, 1)]
    canvas.shape(upper, colour)
    sole = [(-74, 35, 1), (-26, 37), (0, 30), (30, 6), (50, -10, 1), (34, 8), (4, 36), (-24, 41), (-70, 41, 1)]
    canvas.shape(sole, (92, 58, 40))
    if style == "platform":
        canvas.shape([(-75, 32, 1), (-24, 35), (-8, 32), (-22, 43, 1), (-72, 43, 1)], dark)
    if rng.random() < 0.5:
        canvas.line([(38, -30), (24, -52), (44, -64), (59, -46)], colour, 5, True)
    if rng.random() < 0.6:
        _flower(canvas, -40, 12, 10, (244, 222, 236) if brightness(colour) < 180 else PINK)


def flat(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A ballerina with a low opening; an ethnic one with gold borders and a curled toe."""
    dark = tone(colour, 0.7) if brightness(colour) > 60 else tone(colour, 1.3)
    inside = [(-30, 6, 1), (0, -4), (40, -8), (56, -12, 1), (46, 8), (0, 16), (-24, 14)]
    canvas.shape(inside, tone(colour, 0.45))
    if item.usage == "Ethnic":
        canvas.line([(-64, 20), (-74, 4), (-70, -12), (-60, -10), (-62, -4)], GOLD, 7, True)
    upper = [(-72, 32, 1), (-66, 16), (-46, 4), (-31, 2, 1), (-18, 14), (10, 14), (38, 4), (57, -15, 1), (64, 4), (64, 32, 1)]
    outline = canvas.shape(upper, colour)
    canvas.shape([(-73, 31, 1), (66, 31, 1), (64, 37, 1), (-66, 37, 1)], (150, 104, 70))
    if item.usage == "Ethnic":
        motif = [smooth([(-70, 34, 1), (-66, 12), (-38, -2), (-26, 12), (-34, 34, 1)])]
        canvas.clipped(outline, motif, MAROON)
        for points, width in (([(-30, 5), (-18, 17), (10, 17), (38, 8), (57, -10)], 7), ([(-70, 28), (64, 28)], 7)):
            canvas.line(points, GOLD, width)
        for x, y in ((-56, 16), (-46, 22), (-44, 10), (-36, 18)):
            canvas.dot(x, y, 3.2, GOLD)
    else:
        canvas.line([(-31, 3), (-18, 14), (10, 15), (38, 5), (57, -13)], dark, 3)
        for side in (-1, 1):
            canvas.shape([(-33, 7, 1), (-33 + side * 12, -3), (-33 + side * 15, 7), (-33 + side * 12, 16)], dark)
        canvas.dot(-33, 7, 3.5, tone(dark, 0.75))


def sandal(canvas: Canvas, item: Item, colour: Colour) -> None:
    """Straps on a sole: broad on a thick sole for men, thin with a flower for women."""
    men = item.gender == "Men"
    dark = tone(colour, 0.6) if brightness(colour) > 60 else tone(colour, 1.3)
    foot = [(-70, 18, 1), (-30, 18), (10, 12), (62, 10, 1), (66, 26, 1), (-70, 28, 1)]
    canvas.shape(foot, (188, 142, 98))
    if men:
        bands = [([(-60, 22), (-46, -6), (-24, -8), (-10, 22)], 15), ([(-8, 22), (4, -20), (24, -24), (34, 20)], 15),
                 ([(36, 14), (48, -24), (60, -22), (62, 16)], 12), ([(20, -18), (42, -24), (56, -20)], 12)]  # fmt: skip
        for points, width in bands:
            canvas.line(points, dark, width + 2, True)
            canvas.line(points, colour, width)
        canvas.fill([(30, -30), (44, -30), (44, -16), (30, -16)], (206, 206, 210))
        canvas.fill([(34, -26), (40, -26), (40, -20), (34, -20)], dark, False)
    else:
        for points in ([(-62, 20), (-44, -2), (-26, 18)], [(-40, 20), (-24, -6), (-4, 16)], [(-32, 6), (0, -4), (34, -18), (52, -34)],
                       [(60, 14), (58, -14), (54, -34)], [(54, -34), (36, -44), (24, -34), (40, -24), (54, -32)]):  # fmt: skip
            canvas.line(points, colour, 8, True)
        _flower(canvas, -36, -2, 15)
    _sole(canvas, item, colour)


def flip_flop(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A pair seen from above, with Y-shaped straps; a flower on the women's."""
    men = item.gender == "Men"
    strap = contrast(colour)
    wide = 1.0 if men else 0.8
    for side in (-1, 1):
        x, y = side * 36, side * 5
        sole = [(0, -68), (22, -58), (28, -34), (20, 4), (22, 40), (10, 64), (-6, 66), (-19, 42), (-17, 4), (-26, -34), (-18, -60)]
        placed = [(x + side * a * wide, y + b) for a, b in sole]
        canvas.shape([(px + 3, py + 4) for px, py in placed], RUBBER if men else PINK)
        canvas.shape(placed, colour)
        canvas.crease([(x, y + 22), (x + 6, y + 40), (x, y + 52), (x - 6, y + 40), (x, y + 22)], 26, 3)
        toe = (x + side * 2 * wide, y - 42)
        for end in (-1, 1):
            arm = [(x + end * 21 * wide, y + 6), (x + end * 15 * wide, y - 22), toe]
            canvas.line(arm, tone(strap, 0.6), 11 if men else 8)
            canvas.line(arm, strap, 9 if men else 6)
        canvas.dot(*toe, 5, strap)
        if not men:
            _flower(canvas, toe[0], toe[1] + 4, 15, PINK if brightness(strap) > 120 else (250, 160, 200))


FOOTWEAR = {
    "Casual Shoes": casual_shoe, "Sports Shoes": sports_shoe, "Formal Shoes": formal_shoe,
    "Heels": heel, "Flats": flat, "Sandals": sandal, "Flip Flops": flip_flop,
}  # fmt: skip
