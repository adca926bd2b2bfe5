"""Clothes for boys and girls. Each function draws one product type onto a canvas.

A child's gender shows in the cut: boys' clothes are boxy with straight sleeves, girls' have a
waist, puffed sleeves, flared or frilled hems and bows. Sports clothes have broad contrasting
stripes, formal ones a tie or a large bow, ethnic ones gold borders.
"""

# Outlines read better with several points to a line.
# fmt: off




from .canvas import Canvas, Colour, both_sides, brightness, mirrored, smooth, tone
from .items import Item
from .ornaments import GOLD, MAROON, PINK, bow, contrast, gold_border, pattern


def _sleeves(canvas: Canvas, item: Item, colour: Colour, shoulder: tuple, armpit: tuple) -> float:
    """Both sleeves, drawn before the body, which covers the seam. Returns their reach."""
    (sx, sy), (ax, ay) = shoulder, armpit
    girls = item.gender == "Girls"
    if item.sleeve == "sleeveless":
        return sx
    if item.sleeve == "long":
        reach = canvas.rng.uniform(65, 70)
        puff = 6 if girls else 0
        half = [(sx - 6, sy, 1), (sx + 10 + puff, sy + 6), (reach - 8, 2), (reach, 44, 1),
                (reach - 13, 47, 1), (ax + 9, 6), (ax - 4, ay + 6, 1)]
        cuff = [(reach + 1, 40, 1), (reach + 2, 48, 1), (reach - 14, 51, 1), (reach - 14, 43, 1)]
    elif girls:  # puffed cap sleeves
        reach = canvas.rng.uniform(62, 66)
        half = [(sx - 8, sy, 1), (sx + 8, sy - 6), (reach, sy + 12), (reach - 4, ay - 4, 1),
                (ax + 2, ay + 4, 1), (ax - 6, ay, 1)]
        cuff = [(reach, ay - 9, 1), (reach - 2, ay - 2, 1), (ax - 2, ay + 6, 1),
                (ax - 2, ay - 1, 1)]
    else:
        reach = canvas.rng.uniform(67, 71)
        half = [(sx - 6, sy, 1), (sx + 6, sy + 3), (reach, -15, 1), (ax + 11, -3, 1),
                (ax - 4, ay, 1)]
        cuff = [(reach - 4, -22, 1), (reach, -15, 1), (ax + 11, -3, 1), (ax + 7, -10, 1)]
    trim = contrast(colour) if item.usage == "Sports" else tone(colour, 0.8)
    for points, ends in ((half, cuff), (mirrored(half), mirrored(cuff))):
        curve = canvas.shape(points, colour)
        pattern(canvas, item, curve, colour, y=-500)
        canvas.fill(ends, trim)
        side = 1 if points is half else -1
        canvas.crease([(side * (ax - 2), ay + 5), (side * (sx - 1), sy + 4)], 42, 2.2)
        if item.usage == "Sports":
            stripe = [(side * (sx + 2), sy + 1), (side * (sx + reach) / 2 + side * 4,
                                                  (sy - 12) / 2)]
            stripe += [(side * (reach - 6), -20 if item.sleeve != "long" else 36)]
            canvas.line(stripe, contrast(colour), 7)
        elif item.sleeve == "long":
            canvas.crease([(side * (reach - 12), 2), (side * (reach - 22), 8)], 30, 2)
    return reach


def _bodice(item: Item, waist: float, hem: float, flare: float) -> list:
    """Right half of a body: boxy for boys, waisted and flared for girls."""
    if item.gender == "Girls":
        return [(19, -60, 1), (41, -53, 1), (43, -20, 1), (waist, 16), (flare, hem, 1),
                (0, hem + 5)]
    return [(17, -61, 1), (46, -52, 1), (46, -20, 1), (45, 20), (flare, hem, 1), (0, hem + 3)]


def _neck(canvas: Canvas, colour: Colour, width: float, depth: float, trim: Colour) -> None:
    """A neckline: the inside of the back, then the rib along the front edge."""
    opening = [(width, -60, 1), (0, -60 + depth), (-width, -60, 1), (0, -55)]
    canvas.shape(opening, tone(colour, 0.55))
    canvas.line([(width - 1, -60.5), (0, -56), (-width + 1, -60.5)], tone(trim, 0.85), 3.4, True)
    canvas.line([(width, -60.5), (width * 0.72, -60 + depth * 0.7), (0, -60 + depth),
                 (-width * 0.72, -60 + depth * 0.7), (-width, -60.5)], trim, 4.2, True)


def _drape(canvas: Canvas, hem: float, count: int = 3, spread: float = 30) -> None:
    """Soft folds that fall towards the hem."""
    for _ in range(count):
        x = canvas.rng.uniform(-spread, spread)
        lean = canvas.rng.uniform(-6, 6)
        depth = canvas.rng.choice((-26, 26, 34))
        canvas.crease([(x + lean, hem - 34), (x, hem - 14), (x - lean * 0.4, hem)], depth, 3)


def _frill(canvas: Canvas, y: float, half_width: float, colour: Colour, drop: float = 11) -> None:
    """A gathered frill along a hem."""
    waves = max(5, round(half_width / 6))
    edge = [(half_width * (1 - 2 * i / (2 * waves)) * 1.05,
             y + drop + 4 * (i % 2)) for i in range(2 * waves + 1)]
    canvas.shape([(half_width, y - 4, 1), *edge, (-half_width, y - 4, 1), (0, y + 2)], colour)
    canvas.crease([(-half_width, y - 2), (0, y + 3), (half_width, y - 2)], 46, 2)
    for i in range(1, 2 * waves, 2):
        x = half_width * (1 - i / waves)
        canvas.crease([(x * 0.96, y + 2), (x, y + drop)], 30, 1.5)


def tshirt(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A T-shirt, with a printed word in the middle of the chest if the item has one."""
    girls = item.gender == "Girls"
    trim = contrast(colour) if item.usage == "Sports" else tone(colour, canvas.rng.choice((0.78,
                                                                                           0.86)))
    _sleeves(canvas, item, colour, (42, -52), (45, -20))
    hem = canvas.rng.uniform(52, 60) - 6 * girls
    outline = canvas.shape(both_sides(_bodice(item, 39, hem, 50 if girls else 47)), colour)
    pattern(canvas, item, outline, colour, y=-2)
    if item.usage == "Sports":
        panels = []
        for side in (-1, 1):
            panels.append(smooth([(side * 50, -26, 1), (side * 31, -22), (side * 25, 20),
                                  (side * 34, 70, 1), (side * 60, 70, 1)]))
        canvas.clipped(outline, panels, contrast(colour))
    if girls:
        _frill(canvas, hem, 50, colour)
        _neck(canvas, colour, 19, 24, trim)
        if not item.printed_word and item.pattern not in ("star", "heart"):
            bow(canvas, 0, -29, 9, tone(trim, 0.9))
    else:
        _neck(canvas, colour, 17, 15, trim)
        canvas.crease([(-46, hem - 5), (0, hem - 2), (46, hem - 5)], 26, 1.2)
    _drape(canvas, hem)
    if item.printed_word:
        ink = contrast(colour)
        if canvas.rng.random() < 0.45:
            bright = [(226, 40, 52), (250, 206, 40), (30, 110, 220), (28, 150, 80)]
            far = [c for c in bright if abs(brightness(c) - brightness(colour)) > 85]
            ink = canvas.rng.choice(far) if far else ink
        canvas.word(item.printed_word, 0, canvas.rng.uniform(-10, -2), 78, 32, ink)


def shirt(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A buttoned shirt with a collar; a formal one with a tie (boys) or a neck bow (girls)."""
    girls, formal = item.gender == "Girls", item.usage == "Formal"
    dark = tone(colour, 0.72) if brightness(colour) > 70 else tone(colour, 1.3)
    _sleeves(canvas, item, colour, (42, -52), (45, -20))
    hem = 56.0
    half = _bodice(item, 36, hem, 50 if girls else 47)
    if not girls:
        half[-2:] = [(47, 46, 1), (37, 58), (0, 60)]  # shirt tails
    outline = canvas.shape(both_sides(half), colour)
    pattern(canvas, item, outline, colour)
    opening = [(15, -60, 1), (0, -40, 1), (-15, -60, 1), (0, -56)]
    canvas.shape(opening, tone(colour, 0.5))
    canvas.fill([(-5, -42), (5, -42), (5, 59), (-5, 59)], tone(colour, 1.06))
    for x in (-5, 5):
        canvas.crease([(x, -42), (x, 58)], 34, 1)
    for y in range(-32, 58, 15):
        canvas.dot(0, y, 2.2, contrast(colour) if brightness(colour) < 90 else tone(colour, 0.45))
    if girls:
        _frill(canvas, hem, 50, colour)
    _drape(canvas, 56, 2)
    tie = {True: MAROON, False: (24, 26, 44)}[brightness(colour) < 70]
    if formal and not girls:
        canvas.fill([(-6, -45), (6, -45), (12, 26), (0, 38), (-12, 26)], tie)
        canvas.fill([(-8, -54), (8, -54), (5, -41), (-5, -41)], tone(tie, 1.2))
        for y in (-26, -6, 14):
            canvas.fill([(-9, y + 6), (9, y - 4), (10, y + 1), (-9, y + 11)], tone(tie, 1.45),
                        False)
    elif not girls:
        canvas.fill([(14, -24), (34, -24), (34, -5), (24, 0), (14, -5)], tone(colour, 0.93))
        for points in ([(14, -24), (34, -24)], [(14, -24), (14, -5), (24, 0), (34, -5), (34, -24)]):
            canvas.line([(*p, 1) for p in points], dark, 1.2)
    for side in (-1, 1):  # the collar last: it lies over the tie
        if girls:
            collar = [(side * 1, -42, 1), (side * 15, -62, 1), (side * 30, -50), (side * 20, -33)]
            leaf = canvas.shape(collar, tone(colour, 1.35) if brightness(colour) < 200 else dark)
            canvas.crease([tuple(p) for p in leaf[6::4]], 30, 1)
        else:
            collar = [(side * 1, -42), (side * 14, -63), (side * 23, -55), (side * 16, -30)]
            canvas.fill(collar, tone(colour, 1.12))
            canvas.line([(*collar[0], 1), (*collar[3], 1), (*collar[2], 1)], dark, 1.3)
    if formal and girls:
        bow(canvas, 0, -36, 27, tie)


def top(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A girls' top: straps, a gathered bust and a swinging, tiered hem."""
    for side in (-1, 1):
        canvas.line([(side * 23, -64), (side * 25, -40)], tone(colour, 0.8), 6, True)
    back = [(26, -44, 1), (0, -36), (-26, -44, 1), (0, -48)]
    canvas.shape(back, tone(colour, 0.55))
    half = [(0, -40), (27, -45, 1), (33, -26), (36, -6, 1), (56, 40, 1), (0, 46)]
    outline = canvas.shape(both_sides(half), colour)
    pattern(canvas, item, outline, colour)
    _frill(canvas, 42, 56, colour, 13)
    canvas.line([(27, -44), (0, -39), (-27, -44)], tone(colour, 0.78), 4)
    if item.usage == "Ethnic":
        gold_border(canvas, [(54, 36), (0, 42), (-54, 36)], 11)
        gold_border(canvas, [(30, -36), (0, -31), (-30, -36)], 10)
        for y in (-12, 4, 20):
            canvas.dot(0, y, 4, GOLD)
    else:
        canvas.line([(36, -7), (0, -4), (-36, -7)], tone(colour, 0.68), 6)
        bow(canvas, 0, -6, 12, tone(colour, 0.68) if brightness(colour) > 60 else tone(colour, 1.4))
    for x in (-34, -18, 4, 20, 36):
        canvas.crease([(x * 0.6, 0), (x, 40)], canvas.rng.choice((-24, 30)), 3)


def dress(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A girls' dress: a short bodice, a sash and a wide skirt."""
    for side in (-1, 1):
        if item.sleeve == "short":
            canvas.shape([(side * 20, -70, 1), (side * 36, -74), (side * 48, -58),
                          (side * 38, -44, 1),
                          (side * 22, -46, 1)], colour)
            canvas.crease([(side * 28, -68), (side * 27, -46)], 40, 2)
    canvas.shape([(16, -70, 1), (0, -46), (-16, -70, 1), (0, -64)], tone(colour, 0.55))
    bodice = [(0, -52), (13, -60), (17, -72, 1), (28, -68, 1), (27, -48), (23, -14, 1), (0, -12)]
    skirt = [(0, -16), (23, -15, 1), (42, 24), (61, 64, 1), (32, 72), (0, 74)]
    for half in (skirt, bodice):
        pattern(canvas, item, canvas.shape(both_sides(half), colour), colour)
    for x in (-44, -28, -10, 8, 26, 46):
        canvas.crease([(x * 0.42, -8), (x * 0.75, 30),
                       (x, 68)], canvas.rng.choice((-30, 34, 40)), 3)
    if item.usage == "Ethnic":
        gold_border(canvas, [(58, 56), (32, 63), (0, 66), (-32, 63), (-58, 56)], 12)
        gold_border(canvas, [(23, -15), (0, -13), (-23, -15)], 9)
        canvas.line([(15, -66), (0, -52), (-15, -66)], GOLD, 5)
    else:
        sash = tone(colour, 0.6) if brightness(colour) > 70 else tone(colour, 1.5)
        canvas.line([(24, -15), (0, -13), (-24, -15)], sash, 8, True)
        bow(canvas, 0, -13, 13, sash)
        canvas.line([(16, -70), (12, -58), (0, -51), (-12, -58), (-16, -70)], tone(colour, 0.75), 3)


def shorts(canvas: Canvas, item: Item, colour: Colour) -> None:
    """Shorts: long and wide for boys, short with cuffs and a bow for girls."""
    girls = item.gender == "Girls"
    dark = tone(colour, 0.7) if brightness(colour) > 60 else tone(colour, 1.3)
    if girls:
        half = [(0, -34), (38, -36, 1), (52, -6), (62, 22, 1), (8, 30, 1), (0, 6, 1)]
    else:
        half = [(0, -48), (38, -50, 1), (48, -10), (57, 52, 1), (9, 56, 1), (0, 4, 1)]
    top_y = -35 if girls else -49
    outline = canvas.shape(both_sides(half), colour)
    pattern(canvas, item, outline, colour)
    if item.usage == "Sports":
        ends = half[3]
        for inset in (7, 20):
            for side in (-1, 1):
                canvas.line([(side * (40 - inset), top_y + 4), (side * (ends[0] - 6 - inset),
                                                                ends[1] - 3)],
                            contrast(colour), 7)
    canvas.fill([(-39, top_y - 5), (39, top_y - 5), (40, top_y + 7), (-40, top_y + 7)], dark)
    canvas.crease([(-39, top_y + 8), (39, top_y + 8)], 40, 2)
    canvas.crease([(0, top_y + 8), (0, 6)], 50, 2)
    canvas.crease([(0, 8), (14, 2)], 30, 2)
    if girls:
        for side in (-1, 1):
            canvas.fill([(side * 63, 14), (side * 66, 25), (side * 7, 34),
                         (side * 7, 22)], tone(colour, 1.2))
            canvas.crease([(side * 63, 13), (side * 7, 21)], 44, 1.5)
        bow(canvas, 0, top_y + 2, 15, PINK if item.usage == "Casual" else contrast(colour))
    else:
        for side in (-1, 1):
            canvas.crease([(side * 56, 44), (side * 9, 48)], 34, 1.5)
            if item.usage == "Casual":  # cargo pockets
                canvas.fill([(side * 30, 10), (side * 50, 9), (side * 52, 32),
                             (side * 31, 34)], tone(colour, 0.9))
                canvas.fill([(side * 29, 8), (side * 51, 7), (side * 51, 15),
                             (side * 29, 16)], dark)
        for x in (-5, 5):
            canvas.line([(x * 0.3, top_y + 2), (x * 1.6, top_y + 26)], contrast(colour), 2.2)


def jeans(canvas: Canvas, item: Item, colour: Colour) -> None:
    """Jeans: wide and straight for boys; narrow with flares, pink belt and hearts for girls."""
    girls = item.gender == "Girls"
    stitch = (226, 150, 70)
    if girls:
        half = [(0, -70), (27, -72, 1), (33, -46), (25, 6), (25, 34), (38, 72, 1), (10, 75, 1),
                (8, 30), (0, -34, 1)]
    else:
        half = [(0, -70), (31, -72, 1), (37, -40), (42, 20), (44, 72, 1), (10, 75, 1), (6, 10),
                (0, -32, 1)]
    outline = canvas.shape(both_sides(half), colour)
    faded = [smooth([(s * 20, -30), (s * 26, 10), (s * 22, 40), (s * 15, 8)]) for s in (-1, 1)]
    canvas.clipped(outline, faded, tone(colour, 1.12))
    canvas.fill([(-30, -74), (30, -74), (32, -63), (-32, -63)], tone(colour, 0.75))
    canvas.line([(0, -62), (0, -34)], stitch, 1.3)
    canvas.crease([(0, -60), (0, -30)], 40, 1.5)
    for side in (-1, 1):
        canvas.line([(side * 12, -62), (side * 18, -50), (side * 33, -46)], stitch, 1.5)
        canvas.line([(side * half[4][0] - side * 4, -40),
                     (side * half[4][0] - side * 3, 66)], stitch, 1)
        canvas.line([(side * 12, 71), (side * (half[4][0] - 2), 68)], stitch, 1.3)
        for y in (2, 8):
            canvas.crease([(side * 12, y), (side * 24, y + 3)], 24, 2)
    if girls:
        canvas.fill([(-31, -72), (31, -72), (32, -65), (-32, -65)], PINK, False)
        bow(canvas, 0, -68, 12, PINK)
        for side in (-1, 1):
            canvas.dot(side * 21, 52, 4.5, PINK)
            canvas.dot(side * 27, 52, 4.5, PINK)
            canvas.fill([(side * 17, 54), (side * 31, 54), (side * 24, 64)], PINK, False)
    else:
        canvas.dot(0, -68, 2.6, GOLD)
        for x in (-20, 20):
            canvas.fill([(x - 2, -75), (x + 2, -75), (x + 2, -62), (x - 2, -62)], tone(colour, 0.6))


def skirt(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A girls' skirt: short and pleated; an ethnic one long with gold borders."""
    ethnic = item.usage == "Ethnic"
    hem, width, top_y = (66, 66, -62) if ethnic else (38, 64, -36)
    half = [(0, top_y), (26, top_y, 1), (width * 0.7, (hem + top_y) / 2), (width, hem, 1),
            (0, hem + 8)]
    outline = canvas.shape(both_sides(half), colour)
    pattern(canvas, item, outline, colour)
    for i in range(-4, 5):
        x = width * i / 4.6
        canvas.crease([(x * 0.4, top_y + 10), (x * 0.72, (hem + top_y) / 2),
                       (x, hem + 4)], 36 if i % 2 else -26, 3)
    if ethnic:
        for rise, thick in ((8, 13), (38, 8)):
            w = width * (1 - rise / 190)
            gold_border(canvas, [(w - 4, hem - rise), (0, hem - rise + 8),
                                 (4 - w, hem - rise)], thick)
        canvas.line([(26, top_y + 3), (0, top_y + 4), (-26, top_y + 3)], GOLD, 10, True)
    else:
        _frill(canvas, hem + 1, width, colour, 9)
        band = tone(colour, 0.7) if brightness(colour) > 60 else tone(colour, 1.35)
        canvas.line([(27, top_y + 2), (0, top_y + 3), (-27, top_y + 2)], band, 11, True)
        bow(canvas, 16, top_y + 4, 11, band)


def kurta(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A long boys' tunic with a band collar and gold borders."""
    for side in (-1, 1):
        sleeve = [(side * 30, -66, 1), (side * 46, -54), (side * 66, 26, 1), (side * 50, 30, 1),
                  (side * 34, -20, 1)]
        canvas.shape(sleeve, colour)
        gold_border(canvas, [(side * 64, 22), (side * 50, 25)], 8)
        canvas.crease([(side * 36, -24), (side * 35, -60)], 42, 2)
    half = [(0, -66), (13, -68, 1), (36, -62, 1), (37, -20), (40, 30), (46, 72, 1), (0, 76)]
    canvas.shape(both_sides(half), colour)
    gold_border(canvas, [(44, 67), (0, 70), (-44, 67)], 11)
    canvas.line([(0, -62), (0, 4)], MAROON, 16)
    canvas.line([(0, -62), (0, 3)], GOLD, 12)
    for y in range(-54, 4, 11):
        canvas.dot(0, y, 2.6, MAROON)
    canvas.line([(14, -68), (0, -64), (-14, -68)], GOLD, 8, True)
    for side in (-1, 1):
        canvas.crease([(side * 38, 30), (side * 43, 70)], 40, 2)
    _drape(canvas, 62, 4)


def jacket(canvas: Canvas, item: Item, colour: Colour) -> None:
    """A boys' jacket: hood, zip, pockets and ribbed cuffs."""
    dark = tone(colour, 0.68) if brightness(colour) > 60 else tone(colour, 1.28)
    canvas.shape([(30, -46, 1), (24, -70), (0, -77), (-24, -70), (-30, -46, 1)], tone(colour, 0.85))
    canvas.shape([(20, -48, 1), (15, -64), (0, -68), (-15, -64), (-20, -48, 1),
                  (0, -36)], tone(colour, 0.4))
    for side in (-1, 1):
        sleeve = [(side * 30, -52, 1), (side * 48, -44), (side * 68, 34, 1), (side * 50, 40, 1),
                  (side * 38, -10, 1)]
        canvas.shape(sleeve, colour)
        canvas.fill([(side * 67, 30), (side * 69, 42), (side * 50, 48), (side * 48, 36)], dark)
        canvas.crease([(side * 42, -16), (side * 40, -46)], 48, 2)
        canvas.crease([(side * 50, -4), (side * 60, -8)], 34, 2)
    half = [(0, -44), (20, -52, 1), (42, -48, 1), (44, 0), (45, 48, 1), (0, 50)]
    canvas.shape(both_sides(half), colour)
    canvas.fill([(-46, 44), (46, 44), (45, 57), (-45, 57)], dark)
    canvas.line([(0, -42), (0, 56)], (70, 70, 74), 5)
    canvas.line([(0, -42), (0, 56)], (206, 206, 210), 2)
    canvas.fill([(-3, -36), (3, -36), (3, -24), (-3, -24)], (206, 206, 210), False)
    for side in (-1, 1):
        canvas.line([(side * 16, 4), (side * 32, 30)], dark, 5)
        canvas.line([(side * 20, -50), (side * 12, -46), (side * 2, -40)], dark, 4)
        canvas.crease([(side * 4, -10), (side * 42, -14)], 36, 2)
    _drape(canvas, 44, 2)


GARMENTS = {
    "Tshirts": tshirt, "Shirts": shirt, "Tops": top, "Dresses": dress, "Shorts": shorts,
    "Jeans": jeans, "Skirts": skirt, "Kurtas": kurta, "Jackets": jacket,
}
