"""How shop photos become a dataset: the whole way, and each notebook's part of it."""

from functools import partial

from .board import (
    BODY,
    CODE,
    FROZEN,
    GREY,
    HERE,
    MADE,
    SHIRT,
    SMALL,
    SOFT,
    Page,
)  # fmt: skip

ROW = ("gender: Girls", "type: Tshirts", "colour: Navy Blue", "usage: Casual")


def pipeline(active: str | None = None) -> Page:
    """The part of notebook `active` is filled, the others are pale; all alike without one."""
    page = Page(2.95)

    def part(number):
        return {
            "colour": HERE if number == active else GREY,
            "fill": 0.25 if number == active else 0.06,
        }

    page.box(0.12, 0.12, 1.5, 2.7, **part("01"))
    page.text(0.87, 2.64, "01  Dataset", weight="bold")
    page.photo(SHIRT, 0.36, 1.12, 1.02)
    page.text(0.87, 0.63, "\n".join(ROW), SMALL, family=CODE)
    for x, number, title, model, says, note in (
        (2.0, "02", "02  Captions", "Prompt I\nPhi-3 Vision",
         "“A navy blue girls’\nT-shirt with the\ntext SURF”", "reads what is printed"),
        (4.5, "03", "03  Refinement", "Prompt II\nPhi-3 Instruct",
         "“Navy blue casual\nT-shirt for girls”", "the metadata wins"),
    ):  # fmt: skip
        page.box(x, 0.12, 2.12, 2.7, **part(number))
        page.text(x + 1.06, 2.64, title, weight="bold")
        page.box(x + 0.46, 1.86, 1.2, 0.56, body=model, colour=FROZEN)
        page.arrow((x + 1.06, 1.83), (x + 1.06, 1.42))
        page.text(x + 1.06, 1.06, says, BODY, style="italic")
        page.text(x + 1.06, 0.5, note, SMALL, SOFT)
    page.arrow((1.38, 2.14), (2.43, 2.14))
    page.arrow((4.12, 1.06), (4.93, 2.0), connectionstyle="arc3,rad=0.15")
    # The metadata passes below the captions: only the refiner is told.
    page.arrow((1.62, 0.22), (4.5, 0.22))
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    page.text(3.06, 0.22, " metadata ", SMALL, bbox=ground)
    page.arrow((6.62, 1.06), (6.84, 1.06))
    page.box(6.86, 0.62, 0.68, 0.88, body="dataset/\nphotos +\ntexts", colour=MADE)
    return page


FIGURES = {
    "pipeline": pipeline,
    **{number: partial(pipeline, number) for number in ("01", "02", "03")},
}
