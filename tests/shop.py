"""Small catalogues in the Kaggle layout for tests: coloured squares with a row each."""

import csv
from pathlib import Path

from PIL import Image

COLUMNS = (
    "ProductId",
    "Gender",
    "Category",
    "SubCategory",
    "ProductType",
    "Colour",
    "Usage",
    "ProductTitle",
    "Image",
    "ImageURL",
)


def shop_row(number: int, **values: str) -> dict[str, str]:
    """A row; titles differ by a word, because digits don't count when titles are compared."""
    word = "".join("abcdefghij"[int(digit)] for digit in str(number))
    row = {
        "ProductId": str(1000 + number),
        "Gender": "Boys",
        "Category": "Apparel",
        "SubCategory": "Topwear",
        "ProductType": "Tshirts",
        "Colour": "Red",
        "Usage": "Casual",
        "ProductTitle": f"Brand {word} shirt",
        "Image": f"{1000 + number}.jpg",
        "ImageURL": "",
    }
    return row | values


def photo_path(root: Path, row: dict[str, str]) -> Path:
    folder = root / "data" / row["Category"] / row["Gender"] / "Images" / "images_with_product_ids"
    return folder / row["Image"]


def write_shop(root: Path, rows: list[dict[str, str]], columns=COLUMNS) -> Path:
    """Write the CSV, and a photo of its own colour for every row whose photo isn't there yet."""
    (root / "data").mkdir(parents=True, exist_ok=True)
    with open(root / "data" / "fashion.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    for number, row in enumerate(rows):
        path = photo_path(root, row)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = (number * 40 % 256, number * 90 % 256, number // 6 * 30 % 256)
            Image.new("RGB", (30, 40), colour).save(path)
    return root
