import json

import numpy as np
import pandas as pd
import pytest

from moda_utils import evaluation
from moda_utils.attributes import extract
from moda_utils.dataset import template_description
from moda_utils.evaluation import CRITERIA, grade, paired_difference, score
from moda_utils.features import embed_texts
from moda_utils.profiles import get_profile
from moda_utils.storage import read_json, write_json


def catalogue(*rows: tuple[str, str, str, str], groups=None) -> pd.DataFrame:
    """Rows of (colour, product_type, gender, usage)."""
    frame = pd.DataFrame(rows, columns=["colour", "product_type", "gender", "usage"])
    frame["product_id"] = [str(1000 + number) for number in range(len(frame))]
    frame["group"] = range(len(frame)) if groups is None else groups
    frame["title"] = ""
    return frame


SHOE = ("White", "Casual Shoes", "Men", "Casual")
SHIRT = ("Navy Blue", "Tshirts", "Boys", "Sports")


def mixed(number: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    colours, kinds = ["Black", "White", "Red"], ["Tshirts", "Heels", "Shorts"]
    rows = [
        (rng.choice(colours), rng.choice(kinds), rng.choice(["Boys", "Girls"]), "Casual")
        for _ in range(number)
    ]
    return catalogue(*rows)


def grades_of(text, row=SHOE) -> dict:
    return grade([text], catalogue(row)).iloc[0].to_dict()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("White casual shoes for men", (10, 10, 10, 10, 10, 10)),
        ("White shoes for men, for casual wear", (10, 10, 10, 10, 10, 10)),
        # Two colours named, one right: precision 1/2, recall 1.
        ("White and black casual shoes for men", (20 / 3, 10, 10, 10, 8, 8.9333)),
        ("White casual shoes for men and women", (10, 10, 10, 0, 8, 7.6)),
        ("Black heels for women", (0, 0, 0, 0, 0, 0)),
        ("White", (10, 0, 0, 0, 10, 4)),
        ("A white saree for men", (10, 0, 0, 10, 20 / 3, 5.3333)),
        ("", (0, 0, 0, 0, 0, 0)),
        ("Chaussures blanches pour hommes", (0, 0, 0, 0, 0, 0)),
    ],
)
def test_criteria_of_one_description(text, expected):
    grades = grades_of(text)
    assert [grades[name] for name in CRITERIA] == pytest.approx(expected, abs=1e-3)


def test_reasons_name_what_was_said_and_what_is_true():
    reason = grades_of("Black casual shoes")["reason"]
    assert reason == "colour: says Black, is White; gender: says nothing, is Men"
    assert grades_of("White casual shoes for men")["reason"] == ""
    assert "unknown word: saree" in grades_of("A saree")["reason"]


def test_template_descriptions_are_perfect_and_their_score_says_so():
    frame = mixed(40)
    texts = [template_description(row) for row in frame.to_dict("records")]
    result = score(texts, frame, sees_metadata=True)
    assert result["sees_metadata"]
    for name in CRITERIA:
        assert result["criteria"][name]["value"] == 10
        assert result["criteria"][name]["macro"]["value"] == 10
        assert result["criteria"][name]["n"] == 40


def test_a_catalogue_of_another_shop_is_read_through_the_lexicon():
    row = ("navy", "T-Shirt", "boy", "Everyday")
    assert grades_of("Navy blue tee for boys, casual", row)["overall"] == 10


def test_what_the_catalogue_does_not_know_is_not_graded():
    grades = grades_of("White hat for men", ("White", "Hats", "Men", ""))
    assert np.isnan(grades["category"]) and np.isnan(grades["style"])
    assert grades["colour"] == 10 and grades["gender"] == 10
    frame = catalogue(("White", "Hats", "Men", ""), SHOE)
    result = score(["White hat for men", "White casual shoes for men"], frame)
    assert result["criteria"]["category"]["n"] == 1
    assert result["criteria"]["colour"]["n"] == 2


def test_a_criterion_without_any_truth_has_no_value_and_is_valid_json():
    result = score(["Red"], catalogue(("", "", "", "")))
    assert result["criteria"]["colour"]["value"] is None
    assert result["criteria"]["colour"]["macro"]["classes"] == 0
    json.dumps(result, allow_nan=False)


def test_intervals_contain_the_value_and_shrink_with_more_items():
    widths = []
    for number in (30, 480):
        frame = mixed(number)
        result = score(["Black T-shirt for boys"] * number, frame)
        colour = result["criteria"]["colour"]
        assert colour["low"] <= colour["value"] <= colour["high"]
        widths.append(colour["high"] - colour["low"])
    assert widths[1] < widths[0] / 2.5  # 16 times the items: about a quarter of the width


def test_interval_agrees_with_the_normal_approximation():
    frame = mixed(400)
    values = (frame["colour"] == "Black").to_numpy(dtype=float) * 10
    colour = score(["Black"] * 400, frame)["criteria"]["colour"]
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert colour["value"] == pytest.approx(values.mean(), abs=1e-3)
    assert colour["high"] - colour["low"] == pytest.approx(2 * half, rel=0.12)


def test_intervals_draw_groups_not_items():
    """Twenty copies of each photo are not twenty times the evidence."""
    base = mixed(12)
    copies = base.loc[base.index.repeat(20)].reset_index(drop=True)
    alone = score(["Black"] * 12, base)["criteria"]["colour"]
    grouped = score(["Black"] * 240, copies)["criteria"]["colour"]
    naive = score(["Black"] * 240, copies.drop(columns="group"))["criteria"]["colour"]
    assert grouped["value"] == pytest.approx(alone["value"], abs=1e-3)
    assert grouped["high"] - grouped["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.1)
    assert naive["high"] - naive["low"] < (grouped["high"] - grouped["low"]) / 3


def test_a_difference_is_taken_item_by_item_over_the_groups_that_score_draws():
    frame = mixed(60).assign(group=lambda rows: rows.index // 3)
    grades = grade(["Black T-shirt for boys"] * 60, frame)["colour"]
    scored = score(["Black T-shirt for boys"] * 60, frame, seed=3)["criteria"]["colour"]
    change = paired_difference(grades, grades * 0, frame, seed=3)
    assert change == {name: scored[name] for name in ("value", "low", "high", "n")}
    others = [paired_difference(grades, grades * 0, frame, seed=seed) for seed in range(4, 9)]
    assert any(other != change for other in others)
    # Grades that differ among items by ten points hide no change of one point that all share.
    shared = paired_difference(list(grades + 1), list(grades), frame)
    assert shared == {"value": 1, "low": 1, "high": 1, "n": 60}


def test_a_difference_leaves_out_what_has_no_grade_and_refuses_what_are_no_pairs():
    frame = mixed(4)
    found = paired_difference([3, np.nan, 5, 7], [2, 1, np.nan, 6], frame)
    assert (found["value"], found["n"]) == (1, 2)
    assert paired_difference([np.nan] * 4, [1] * 4, frame)["value"] is None
    for after, before in (([1] * 4, [1]), ([1] * 3, [1] * 3)):
        with pytest.raises(ValueError, match="4 items, but"):
            paired_difference(after, before, frame)


def test_the_same_seed_gives_the_same_figures():
    frame = mixed(50)
    first, second = (score(["Red heels"] * 50, frame, seed=3) for _ in range(2))
    assert first == second


def test_macro_average_lets_rare_classes_count_as_much():
    frame = catalogue(*[("Black", "Tshirts", "Boys", "Casual")] * 9, SHOE)
    colour = score(["Black"] * 10, frame)["criteria"]["colour"]
    assert colour["value"] == pytest.approx(9.0)
    assert colour["macro"]["value"] == pytest.approx(5.0)
    assert colour["macro"]["classes"] == 2
    assert colour["macro"]["low"] <= 5.0 <= colour["macro"]["high"]


def test_counts_of_texts():
    frame = catalogue(SHOE, SHOE, SHIRT, SHIRT)
    texts = ["White shoes", "White shoes", "", "A coral saree, a coral tie"]
    result = score(texts, frame, ended=[True, True, True, False])
    assert result["distinct"] == 0.75
    assert result["empty"] == 1
    assert result["states_nothing"] == 1
    assert result["unknown"] == {"coral": 1, "saree": 1, "tie": 1}
    assert result["eos_rate"]["value"] == 0.75
    assert result["length"]["value"] == pytest.approx((2 + 2 + 0 + 6) / 4)


def test_none_counts_as_an_empty_description():
    result = score([None, "White casual shoes for men"], catalogue(SHOE, SHOE))
    assert result["empty"] == 1
    assert result["criteria"]["overall"]["value"] == 5


def test_leakage_against_the_printed_word():
    frame = catalogue(SHIRT, SHIRT, SHIRT, SHOE)
    printed = {"1000": "ROCK", "1001": "SUN", "1002": "JUMP"}
    texts = ["T-shirt that says rock", "A sunny T-shirt", "T-shirt with a JUMP print", "Shoes"]
    leakage = score(texts, frame, printed=printed)["ocr_leakage"]
    assert leakage["value"] == pytest.approx(2 / 3, abs=1e-4)  # "sunny" does not hold "sun"
    assert leakage["n"] == 3
    assert leakage["by"] == "the printed word"


def test_leakage_by_signs_where_nobody_noted_the_words():
    frame = catalogue(SHIRT, SHIRT, SHIRT, SHIRT, SHIRT)
    frame["title"] = ["", "", "", "Gini and Jony Boys Printed T-shirt", "Red Tape Men Shoes"]
    texts = [
        'Navy T-shirt with "ROCK" on it',
        "Navy T-shirt with the logo of a club",
        "Navy T-shirt with SURF in white",
        "Navy Gini T-shirt",
        "Red T-shirt",  # a colour that is also a brand's first word
    ]
    assert score(texts, frame)["ocr_leakage"]["value"] == pytest.approx(0.8)
    assert score(["NAVY T-SHIRT"] * 5, frame)["ocr_leakage"]["value"] == 0


def test_majority_says_the_most_frequent_value_of_each_column():
    train = catalogue(*[("Black", "Tshirts", "Boys", "Casual")] * 3, SHOE)
    texts = evaluation.majority_descriptions(train, catalogue(SHOE, SHIRT))
    assert texts == ["Black casual T-shirt for boys"] * 2


def test_nearest_takes_the_text_of_the_most_similar_photo_and_changes_no_input():
    train = np.array([[1, 0], [0, 5]], dtype=np.float32)
    before = train.copy()
    texts = evaluation.nearest_descriptions(train, ["a", "b"], [[3, 1], [0.1, 0.2]])
    assert texts == ["a", "b"]
    assert np.array_equal(train, before)


def test_shuffled_texts_come_from_another_group_and_are_all_used():
    frame = catalogue(*[SHOE] * 9, groups=[0, 0, 0, 1, 1, 2, 3, 4, 4])
    texts = [f"{group}-{item}" for item, group in enumerate(frame["group"])]
    given = evaluation.shuffled(texts, frame)
    assert sorted(given) == sorted(texts)
    assert all(
        int(text.split("-")[0]) != group for text, group in zip(given, frame["group"], strict=True)
    )
    assert given == evaluation.shuffled(texts, frame) != evaluation.shuffled(texts, frame, seed=1)


def test_shuffled_scores_near_the_sum_of_squared_shares():
    frame = mixed(600)
    texts = [template_description(row) for row in frame.to_dict("records")]
    shares = frame["product_type"].value_counts(normalize=True)
    category = score(evaluation.shuffled(texts, frame), frame)["criteria"]["category"]
    assert category["low"] - 0.5 <= 10 * (shares**2).sum() <= category["high"] + 0.5


def test_printed_words_of_drawn_and_of_real_photos(tmp_path):
    (tmp_path / "data").mkdir()
    assert evaluation.printed_words(tmp_path) is None
    table = "product_id,printed_word\n007,ROCK\n008,\n"
    (tmp_path / "data" / "drawn_truth.csv").write_text(table)
    assert evaluation.printed_words(tmp_path) == {"007": "ROCK"}


def test_evaluate_writes_systems_side_by_side_and_says_what_is_missing(tmp_path):
    frame = catalogue(SHOE, SHIRT, SHIRT, groups=[0, 1, 1])
    path = tmp_path / "evaluation" / "moda.json"
    systems = {
        "moda": {"descriptions": ["White casual shoes for men"] * 3, "ended": [True] * 3},
        "teacher_raw": None,
    }
    missing = {"teacher_raw": "run notebook 02"}
    result = evaluation.evaluate(systems, frame, get_profile("mini"), missing=missing, path=path)
    assert read_json(path) == result
    assert (result["profile"], result["n"], result["groups"]) == ("mini", 3, 2)
    assert result["systems"]["teacher_raw"] == {"missing": "run notebook 02"}
    assert result["systems"]["moda"]["criteria"]["gender"]["n"] == 3
    assert result["small_classes"]["gender"] == {"Boys": 2, "Men": 1}


def test_every_system_of_the_course_has_its_row():
    frame = catalogue(SHOE, SHIRT)
    systems = dict.fromkeys(evaluation.SYSTEMS) | {"moda": {"descriptions": ["", ""]}}
    result = evaluation.evaluate(systems, frame, get_profile("mini"))
    assert tuple(result["systems"]) == evaluation.SYSTEMS
    missing = [name for name, system in result["systems"].items() if "missing" in system]
    assert missing == [name for name in evaluation.SYSTEMS if name != "moda"]
    moda = result["systems"]["moda"]
    keys = {"criteria", "sees_metadata", "ocr_leakage", "eos_rate", "distinct"}
    assert {*keys, "bleu", "rouge_l", "cider"} <= set(moda)
    for name in CRITERIA:
        assert {"value", "low", "high"} <= set(moda["criteria"][name])


def test_further_entries_are_written(tmp_path):
    path = tmp_path / "moda.json"
    systems = {"moda": {"descriptions": ["White shoes"]}}
    about = {"references": "refined"}
    evaluation.evaluate(systems, catalogue(SHOE), get_profile("mini"), about=about, path=path)
    assert read_json(path)["references"] == "refined"


def test_figures_added_later_stay_as_long_as_the_descriptions_are_the_same(tmp_path):
    path = tmp_path / "moda.json"

    def again(text):
        systems = {"moda": {"descriptions": [text]}}
        return evaluation.evaluate(systems, catalogue(SHOE), get_profile("mini"), path=path)

    write_json(path, again("White shoes") | {"judge": {"n": 3}})
    assert again("White shoes")["judge"] == read_json(path)["judge"] == {"n": 3}
    assert "judge" not in again("Black shoes") and "judge" not in read_json(path)


def test_overlap_with_references_and_its_intervals():
    frame = mixed(60)
    wanted = [template_description(row) for row in frame.to_dict("records")]
    texts = [*wanted[:30], *["Black T-shirt for boys"] * 30]
    right, partly = (score(said, frame, references=wanted) for said in (wanted, texts))
    for name, most in (("bleu", 100), ("rouge_l", 1), ("cider", 10)):
        assert right[name]["value"] == pytest.approx(most)
        assert partly[name]["low"] < partly[name]["value"] < partly[name]["high"] < most
        assert partly[name]["n"] == 60


def test_only_items_with_a_reference_are_compared():
    frame = catalogue(SHOE, SHOE, SHIRT)
    texts = ["White casual shoes for men", "nothing alike", "nothing alike"]
    result = score(texts, frame, references=["White casual shoes for men", None, " "])
    assert result["rouge_l"]["n"] == 1
    assert result["rouge_l"]["value"] == 1


@pytest.mark.parametrize("references", [None, [None, None], ["", ""]])
def test_without_references_there_is_no_overlap(references):
    result = score(["White shoes", "Red top"], catalogue(SHOE, SHIRT), references=references)
    assert (result["bleu"], result["rouge_l"], result["cider"]) == (None, None, None)


def test_confusions_count_what_was_said_for_each_true_value():
    frame = catalogue(SHOE, SHOE, SHOE, SHIRT)
    texts = ["White shoes", None, "A black and white shoe", "A coral tee"]
    assert evaluation.confusions(texts, frame, "colour") == {
        "Navy Blue": {"none": 1},
        "White": {"White": 1, "none": 1, "Black + White": 1},
    }


def test_zero_shot_describes_embedded_photos_by_their_nearest_texts():
    """A text's own embedding stands in for a photo: each attribute must come back."""
    train = catalogue(SHOE, SHIRT, ("Red", "Heels", "Women", "Casual"))
    train.loc[3] = {**train.loc[0].to_dict(), "usage": ""}  # an empty value can't be chosen
    vision = get_profile("mini").vision
    photos = embed_texts(vision, ["a photo of navy blue item", "a photo of heels", "item for men"])
    texts = evaluation.zero_shot_descriptions(7 * photos, train, vision)
    grades = grade(texts, train.loc[[1, 2, 0]])
    assert grades.loc[1, "colour"] == grades.loc[2, "category"] == grades.loc[0, "gender"] == 10
    assert all(extract(text).usages for text in texts)


@pytest.mark.parametrize("number", [0, 2])
def test_one_description_per_item_or_a_clear_error(number):
    with pytest.raises(ValueError, match=f"1 items but {number} descriptions"):
        score(["White shoes"] * number, catalogue(SHOE))


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ValueError, match="no item to evaluate"):
        score([], catalogue())
