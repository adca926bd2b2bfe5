"""Shoes for men and women. Each function draws one product type, its toe to the left.

Men's shoes have a thick dark sole; women's are slimmer, with a light sole and a pink flower or
heart. Sports shoes carry three broad stripes on a sculpted sole; ethnic flats gold borders and a
curled toe.
"""

# Outlines read better with several points to a line.
# fmt: off

import math

from .canvas import Canvas, Colour, brightness, smooth, tone
from .items import Item
from .ornaments import GOLD, MAROON, PINK, contrast, flower

FLOOR = 36.0
RUBBER = (44, 44, 48)


def _sole(canvas: Canvas, item: Item, colour: Colour, left: float = -70, right: float = 66) -> None:
    """Men: thick and dark, with a tread. Women: slim and light, with a pink line."""
    if item.gender == "Men":
        canvas.shape([(left, 20, 1), (left - 1, 30), (left + 9, 37, 1), (right - 4, 37, 1),
                      (right + 3, 20, 1)], RUBBER)
        for x in range(int(left) + 12, int(right), 9):
            canvas.line([(x, 33), (x, 37)], (110, 110, 114), 2)
        canvas.line([(left + 2, 22), (right, 22)], (120, 120, 124), 1.6)
    else:
        canvas.shape([(left + 2, 25, 1), (left + 1, 32), (left + 8, 37, 1), (right - 4, 37, 1),
                      (right, 25, 1)], (244, 240, 236))
        canvas.line([(left + 3, 30), (right - 2, 30)], PINK, 2.4)


def _ankle(canvas: Canvas, x: float, y: float, reach: float, colour: Colour) -> None:
    """A strap around the ankle."""
    ring = [(x + reach * math.cos(t),
             y + reach * 0.4 * math.sin(t)) for t in (0, 0.8, 1.6, 2.4, 3.1, 3.9, 4.7, 5.5, 6.28)]
    canvas.line(ring[4:], tone(colour, 0.65), 5, True)
    canvas.line(ring[:5], colour, 5, True)


def _laces(canvas: Canvas, start: tuple, end: tuple, count: int, colour: Colour) -> None:
    """Laces across the instep, whose front edge runs from `start` to `end`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    for i in range(count):
        t = i / (count - 1)
        x, y = start[0] + t * dx - dy / length * 2, start[1] + t * dy + dx / length * 2
        canvas.line([(x, y), (x - dy / length * 13 + 2, y + dx / length * 13)], colour, 3.2)


def casual_shoe(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A plain canvas sneaker with a rubber toe cap."""
    men = item.gender == "Men"
    dark = tone(colour, 0.68) if brightness(colour) > 60 else tone(colour, 1.35)
    lace = contrast(colour) if men else (248, 244, 240) if brightness(colour) < 190 else PINK
    rise = -42 if men else -24
    canvas.shape([(8, rise), (28, rise - 5), (56, rise - 1), (44, rise + 12),
                  (20, rise + 12)], tone(colour, 0.45))
    upper = [(-66, 25, 1), (-69, 12), (-58, -1), (-36, -7), (-12, rise * 0.5 - 2), (6, rise - 2),
             (12, rise - 2, 1),
             (22, rise + 9), (40, rise + 10), (54, rise - 2), (60, rise + 2), (60, -4), (63, 25, 1)]
    canvas.shape(upper, colour)
    cap = (240, 238, 232) if brightness(colour) < 200 else tone(colour, 0.82)
    canvas.shape([(-67, 25, 1), (-69, 12), (-58, -1), (-47, 4), (-43, 25, 1)], cap)
    canvas.crease([(-47, 2), (-43, 24)], 40, 1.5)
    _laces(canvas, (-32, -7), (2, rise + 2), 5 if men else 4, lace)
    canvas.line([(18, rise + 14), (8, 4), (16, 24)], dark, 1.8)
    canvas.line([(58, rise + 14), (46, rise + 22), (44, 24)], dark, 1.8)
    canvas.crease([(-20, 12), (-12, 20)], 24, 2)
    _sole(canvas, item, colour)
    if not men:
        flower(canvas, 31, 6, 14)


def sports_shoe(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A running shoe: three broad stripes and a sculpted sole with a raised heel."""
    men = item.gender == "Men"
    stripe = contrast(colour)
    glow = (238, 120, 20) if men else PINK
    canvas.shape([(10, -36), (28, -41), (54, -36), (44, -24), (20, -22)], tone(colour, 0.4))
    upper = [(-68, 20, 1), (-68, 6), (-50, -5), (-22, -15), (2, -36), (10, -37, 1), (20, -26),
             (38, -25), (52, -40),
             (60, -42), (62, -30), (58, -6), (66, 20, 1)]
    outline = canvas.shape(upper, colour)
    bars = [smooth([(x, -30, 1), (x + 11, -30, 1), (x - 3, 26, 1),
                    (x - 16, 26, 1)]) for x in (4, 23, 42)]
    canvas.clipped(outline, bars, stripe)
    toe = [smooth([(-72, 24, 1), (-74, 0), (-56, 0), (-46, 8), (-44, 24, 1)])]
    canvas.clipped(outline, toe, tone(colour, 0.78))
    _laces(canvas, (-32, -9), (0, -32), 5,
           (250, 250, 250) if brightness(colour) < 190 else (60, 60, 70))
    canvas.shape([(53, -40), (60, -44), (64, -38), (62, -18, 1), (55, -20, 1)], glow)
    base = RUBBER if men else (246, 244, 242)
    thick = 0 if men else 4
    sole = [(-70, 12 + thick, 1), (-76, 22), (-66, 36, 1), (-22, 38, 1), (-8, 33), (8, 38, 1),
            (66, 38, 1), (73, 12, 1), (50, 16), (-20, 20 + thick)]
    canvas.shape(sole, base)
    canvas.line([(-70, 22 + thick), (-20, 25 + thick), (30, 22), (69, 20)], glow, 4)
    for x in (-60, -48, -36, 20, 32, 44, 56):
        canvas.line([(x, 34), (x, 37)], tone(base, 1.35) if men else tone(base, 0.75), 2.4)
    if not men:
        flower(canvas, 55, 2, 11)


def formal_shoe(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A men's leather lace-up with a pointed toe and a block heel."""
    dark = tone(colour, 0.6) if brightness(colour) > 60 else tone(colour, 1.3)
    canvas.shape([(8, -22), (28, -29), (54, -26), (44, -14), (20, -12)], tone(colour, 0.35))
    upper = [(-76, 27, 1), (-74, 16), (-48, 5), (-20, -6), (2, -24), (10, -24, 1), (20, -14),
             (38, -14), (54, -26),
             (60, -24), (61, -4), (63, 27, 1)]
    canvas.shape(upper, colour)
    for seam in ([(-40, 4), (-30, 12), (-30, 26)], [(-18, -8), (-4, 10), (8, 26)], [(28, -12),
                                                                                    (30, 6),
        (38, 26)]):
        canvas.line(seam, dark, 2.6)
        canvas.crease(seam, 30, 1.5)
    for i in range(7):
        canvas.dot(-46 + i * 2.2, 8 + i * 2.6, 1.1, dark)
    _laces(canvas, (-14, -9), (2, -21), 3, dark)
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
    upper = [(-74, 34, 1), (-68, 20), (-48, 8), (-28, 4, 1), (-12, 10), (16, -8), (40, -32),
             (56, -48, 1), (63, -34), (58, -14), (30, 4), (0, 30), (-26, 38), (-66, 38, 1)]
    canvas.shape(upper, colour)
    sole = [(-74, 35, 1), (-26, 37), (0, 30), (30, 6), (50, -10, 1), (34, 8), (4, 36), (-24, 41),
            (-70, 41, 1)]
    canvas.shape(sole, (92, 58, 40))
    if style == "platform":
        canvas.shape([(-75, 32, 1), (-24, 35), (-8, 32), (-22, 43, 1), (-72, 43, 1)], dark)
    if rng.random() < 0.5:
        _ankle(canvas, 46, -60, 15, colour)
        canvas.line([(60, -38), (61, -60)], colour, 5, True)
    if rng.random() < 0.6:
        flower(canvas, -40, 12, 10, (244, 222, 236) if brightness(colour) < 180 else PINK)


def flat(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A ballerina with a low opening; an ethnic one with gold borders and a curled toe."""
    dark = tone(colour, 0.7) if brightness(colour) > 60 else tone(colour, 1.3)
    inside = [(-30, 6, 1), (0, -4), (40, -8), (56, -12, 1), (46, 8), (0, 16), (-24, 14)]
    canvas.shape(inside, tone(colour, 0.45))
    if item.usage == "Ethnic":
        canvas.line([(-64, 20), (-74, 4), (-70, -12), (-60, -10), (-62, -4)], GOLD, 7, True)
    upper = [(-72, 32, 1), (-66, 16), (-46, 4), (-31, 2, 1), (-18, 14), (10, 14), (38, 4),
             (57, -15, 1), (64, 4), (64, 32, 1)]
    outline = canvas.shape(upper, colour)
    canvas.shape([(-73, 31, 1), (66, 31, 1), (64, 37, 1), (-66, 37, 1)], (150, 104, 70))
    if item.usage == "Ethnic":
        motif = [smooth([(-70, 34, 1), (-66, 12), (-38, -2), (-26, 12), (-34, 34, 1)])]
        canvas.clipped(outline, motif, MAROON)
        for points, width in (([(-30, 5), (-18, 17), (10, 17), (38, 8), (57, -10)], 7),
                              ([(-70, 28), (64, 28)], 7)):
            canvas.line(points, GOLD, width)
        for x, y in ((-56, 16), (-46, 22), (-44, 10), (-36, 18)):
            canvas.dot(x, y, 3.2, GOLD)
    else:
        canvas.line([(-31, 3), (-18, 14), (10, 15), (38, 5), (57, -13)], dark, 3)
        for side in (-1, 1):
            canvas.shape([(-33, 7, 1), (-33 + side * 12, -3), (-33 + side * 15, 7),
                          (-33 + side * 12, 16)], dark)
        canvas.dot(-33, 7, 3.5, tone(dark, 0.75))


def sandal(canvas: Canvas, item: Item, colour: Colour) -> None:
    """Straps on a sole: broad on a thick sole for men, thin with a flower for women."""
    men = item.gender == "Men"
    dark = tone(colour, 0.6) if brightness(colour) > 60 else tone(colour, 1.3)
    foot = [(-70, 18, 1), (-30, 18), (10, 12), (62, 10, 1), (66, 26, 1), (-70, 28, 1)]
    canvas.shape(foot, (188, 142, 98))
    if men:
        straps = ([(-62, 24, 1), (-56, 0), (-42, -10), (-30, -12, 1), (-16, 24, 1)],
                  [(-10, 24, 1), (-12, -6), (2, -22), (16, -26, 1), (32, 24, 1)],
                  [(10, -24, 1), (34, -20), (58, -27, 1), (60, -14, 1), (36, -8), (16, -12, 1)],
                  [(49, 24, 1), (50, -26, 1), (62, -28, 1), (66, 24, 1)])
        for strap in straps:
            canvas.shape(strap, colour)
            canvas.line([*strap, strap[0]], dark, 1.8)
            canvas.crease(strap[:3], 36, 2)
        canvas.fill([(28, -24), (42, -24), (42, -8), (28, -8)], (206, 206, 210))
        canvas.fill([(32, -20), (38, -20), (38, -12), (32, -12)], dark, False)
    else:
        _ankle(canvas, 40, -36, 18, colour)
        for points in ([(-62, 22), (-46, 0), (-28, 20)], [(-42, 22), (-24, -4), (-4, 18)],
                       [(-34, 2), (-4, -6), (24, -30)],
                       [(58, 18), (60, -10), (58, -36)]):
            canvas.line(points, colour, 8, True)
        flower(canvas, -36, -2, 15)
    _sole(canvas, item, colour)


def flip_flop(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A pair seen from above, with Y-shaped straps; a flower on the women's."""
    men = item.gender == "Men"
    strap = contrast(colour)
    wide = 1.0 if men else 0.8
    for side in (-1, 1):
        x, y = side * 36, side * 5
        sole = [(0, -68), (22, -58), (28, -34), (20, 4), (22, 40), (10, 64), (-6, 66), (-19, 42),
                (-17, 4), (-26, -34), (-18, -60)]
        placed = [(x + side * a * wide, y + b) for a, b in sole]
        canvas.shape([(px + 3, py + 4) for px, py in placed], RUBBER if men else PINK)
        canvas.shape(placed, colour)
        canvas.crease([(x, y + 22), (x + 6, y + 40), (x, y + 52), (x - 6, y + 40),
                       (x, y + 22)], 26, 3)
        toe = (x + side * 2 * wide, y - 42)
        for end in (-1, 1):
            arm = [(x + end * 21 * wide, y + 6), (x + end * 15 * wide, y - 22), toe]
            canvas.line(arm, tone(strap, 0.6), 11 if men else 8)
            canvas.line(arm, strap, 9 if men else 6)
        canvas.dot(*toe, 5, strap)
        if not men:
            flower(canvas, toe[0], toe[1] + 4, 15, PINK if brightness(strap) > 120 else (250,
                                                                                         160, 200))


FOOTWEAR = {
    "Casual Shoes": casual_shoe, "Sports Shoes": sports_shoe, "Formal Shoes": formal_shoe,
    "Heels": heel, "Flats": flat, "Sandals": sandal, "Flip Flops": flip_flop,
}
