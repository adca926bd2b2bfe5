"""The loop, the parser and the memory arithmetic that all description stages share."""

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch

from moda_utils.answers import (
    Answer,
    fitting_batch_size,
    needed_bytes,
    parse_answer,
    run_batches,
)
from moda_utils.journal import Journal
from moda_utils.phi3_vision import Phi3VisionConfig, Phi3VisionForConditionalGeneration
from moda_utils.profiles import Checkpoint

PHI3_DATA = Path(__file__).parent / "data" / "phi3_vision"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"description": "A red shirt."}', ("A red shirt.", "ok")),
        ('\n {"description": "A  red\\nshirt."}\n', ("A red shirt.", "ok")),
        ('{"description": "Red", "gender": "men"}', ("Red", "ok")),
        ('{"description": "Schuhe in Weiß – für alle"}', ("Schuhe in Weiß – für alle", "ok")),
        ('```json\n{"description": "Red shirt"}\n```', ("Red shirt", "repaired")),
        ('Sure! {"description": "Red shirt"} Anything else?', ("Red shirt", "repaired")),
        ('{"description": "Red shirt"}{"description": "Blue"}', ("Red shirt", "repaired")),
        ('{"description": "Red\nshirt"}', ("Red shirt", "repaired")),  # a line break as it is
        ('{"description": "Red shirt"', ("Red shirt", "repaired")),
        ('{"description": "Red shirt', ("Red shirt", "repaired")),
        ("{'description': 'Red shirt'}", ("Red shirt", "repaired")),
        ("{description: Red shirt}", ("Red shirt", "repaired")),
        ("A red shirt.", (None, "failed")),
        ("", (None, "failed")),
        ("{}", (None, "failed")),
        ("null", (None, "failed")),
        ('"description"', (None, "failed")),
        ('{"description": ""}', (None, "failed")),
        ('{"description": " \\n"}', (None, "failed")),
        ('{"description": null}', (None, "failed")),
        ('{"description": {"colour": "red"}}', (None, "failed")),
        ('{"description": ["Red shirt"]}', (None, "failed")),
        ('{"text": "Red shirt"}', (None, "failed")),
        ('[{"description": "Red shirt"}', ("Red shirt", "repaired")),
        ("{" * 500, (None, "failed")),
        ("[" * 5000, (None, "failed")),
    ],
)
def test_parse_answer(text, expected):
    assert parse_answer(text) == expected


def test_a_cut_answer_is_never_mended():
    assert parse_answer('{"description": "A red shirt for', ended=False) == (None, "failed")
    talking_on = '{"description": "A red shirt."} And now: {"description": "A'
    assert parse_answer(talking_on, ended=False) == ("A red shirt.", "repaired")


# The loop. Photos are the letters of `contents`; the "model" answers in capitals.


def shop(contents: str) -> list[dict]:
    return [
        {"product_id": str(n), "image_sha256": letter, "letter": letter}
        for n, letter in enumerate(contents)
    ]


class Shouter:
    """Answers in capitals and remembers what it was asked."""

    def __init__(self, room: int = 1000, fails_at: str | None = None):
        self.room, self.fails_at, self.batches = room, fails_at, []

    def __call__(self, letters: list[str]) -> list[Answer]:
        if len(letters) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if self.fails_at in letters:
            raise RuntimeError("something else")
        self.batches.append("".join(letters))
        return [Answer(json.dumps({"description": f"A {c.upper()}."}), c != "z") for c in letters]


def run(tmp_path, contents, answer, batch_size=2, model="toy", **options):
    journal = Journal(tmp_path / "captions.jsonl", model, "prompt", "options")
    options = {"prepare": lambda item: item["letter"]} | options
    return run_batches(shop(contents), journal, answer=answer, batch_size=batch_size, **options)


def rows(tmp_path) -> list[dict]:
    return [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]


def test_equal_photos_are_asked_once(tmp_path):
    answer = Shouter()
    summary = run(tmp_path, "abacab", answer)
    assert answer.batches == ["ab", "c"]
    assert (summary.new, summary.copied, summary.statuses) == (3, 3, {"ok": 6})
    described = {row["product_id"]: row["description"] for row in rows(tmp_path)}
    assert described == {
        "0": "A A.",
        "1": "A B.",
        "2": "A A.",
        "3": "A C.",
        "4": "A A.",
        "5": "A B.",
    }
    assert str(summary) == (
        "6 photos have an answer (6 ok): 3 written now, 3 copied from equal photos."
    )


def test_a_key_of_its_own_for_every_item(tmp_path):
    answer = Shouter()
    summary = run(tmp_path, "aab", answer, same=lambda item: item["product_id"])
    assert answer.batches == ["aa", "b"]
    assert (summary.new, summary.copied) == (3, 0)


def test_more_items_later(tmp_path):
    run(tmp_path, "ab", Shouter())
    before = (tmp_path / "captions.jsonl").read_bytes()
    answer = Shouter()
    summary = run(tmp_path, "abcadb", answer)
    assert answer.batches == ["cd"]
    assert (summary.new, summary.copied, summary.statuses.total()) == (2, 2, 6)
    assert (tmp_path / "captions.jsonl").read_bytes().startswith(before)
    assert len(rows(tmp_path)) == 6
    again = Shouter()
    summary = run(tmp_path, "abcadb", again)
    assert (again.batches, summary.new, summary.copied) == ([], 0, 0)


def test_rows_of_another_model_are_kept_and_ignored(tmp_path):
    run(tmp_path, "ab", Shouter(), model="other")
    answer = Shouter()
    summary = run(tmp_path, "ab", answer)
    assert answer.batches == ["ab"]
    assert summary.ignored == 2
    assert "2 rows of another model or prompt are kept, but not used." in str(summary)
    assert [row["model"] for row in rows(tmp_path)] == ["other", "other", "toy", "toy"]


def test_batches_halve_when_memory_runs_out(tmp_path, capsys):
    answer = Shouter(room=3)
    summary = run(tmp_path, "abcdefghijkl", answer, batch_size=8)
    assert answer.batches == ["ab", "cd", "ef", "gh", "ij", "kl"]
    assert summary.statuses == {"ok": 12}
    assert [row["description"] for row in rows(tmp_path)] == [f"A {c}." for c in "ABCDEFGHIJKL"]
    assert "Memory ran out: going on with 2 photos at a time." in capsys.readouterr().out


def test_what_is_halved_is_what_was_tried(tmp_path, capsys):
    answer = Shouter(room=2)
    run(tmp_path, "abcde", answer, batch_size=64)
    assert answer.batches == ["ab", "cd", "e"]
    assert capsys.readouterr().out.count("Memory ran out") == 1  # five don't fit, two do


def test_not_even_one_fits(tmp_path):
    with pytest.raises(RuntimeError, match="not enough memory for a single photo"):
        run(tmp_path, "abc", Shouter(room=0))


def test_cpu_memory_can_run_out_too(tmp_path):
    with pytest.raises(RuntimeError, match="not enough memory for a single photo"):
        run(tmp_path, "ab", lambda letters: [torch.empty(len(letters), 10**15)])


def test_other_errors_stop_the_run_and_keep_what_is_done(tmp_path):
    with pytest.raises(RuntimeError, match="something else"):
        run(tmp_path, "abcdef", Shouter(fails_at="e"))
    assert [row["description"] for row in rows(tmp_path)] == ["A A.", "A B.", "A C.", "A D."]


def test_unreadable_items_are_left_out_and_tried_again(tmp_path):
    broken = {"b"}

    def prepare(item):
        if item["letter"] in broken:
            raise ValueError(f"{item['letter']}.jpg can't be read as a photo: cut off.")
        return item["letter"]

    summary = run(tmp_path, "abcb", Shouter(), prepare=prepare)
    assert summary.unreadable == [(n, "b.jpg can't be read as a photo: cut off.") for n in "13"]
    assert summary.statuses == {"ok": 2}
    assert "Left out: 1 (b.jpg can't be read as a photo: cut off.)" in str(summary)
    broken.clear()
    summary = run(tmp_path, "abcb", Shouter(), prepare=prepare)
    assert (summary.new, summary.copied, summary.unreadable) == (1, 1, [])


def test_endless_answers_are_counted(tmp_path):
    summary = run(tmp_path, "az", Shouter())
    assert summary.endless == 1
    assert [row["ended"] for row in rows(tmp_path)] == [True, False]
    assert "1 answers did not stop by themselves" in str(summary)


def test_own_row_fields(tmp_path):
    def finish(item, answer):
        return {"raw": answer.text, "description": item["letter"], "status": "fallback"}

    summary = run(tmp_path, "ab", Shouter(), finish=finish, noun="description")
    assert summary.statuses == {"fallback": 2}
    assert [row["description"] for row in rows(tmp_path)] == ["a", "b"]
    assert str(summary).startswith("2 descriptions have an answer (2 fallback)")


def test_inputs_are_prepared_ahead_in_threads(tmp_path):
    prepared, seen = [], []

    def prepare(item):
        assert threading.current_thread() is not threading.main_thread()
        prepared.append(item["letter"])
        return item["letter"]

    def answer(letters):
        deadline = time.monotonic() + 300
        while len(prepared) < min(10, len(letters) + 4) and time.monotonic() < deadline:
            time.sleep(0.001)
        seen.append(len(prepared))
        return Shouter()(letters)

    run(tmp_path, "abcdefghij", answer, prepare=prepare)
    assert seen[0] >= 6  # the first batch of two, and two more batches
    assert sorted(prepared) == list("abcdefghij")
    assert [row["description"][2] for row in rows(tmp_path)] == list("ABCDEFGHIJ")


# Memory


def test_needed_bytes_of_the_public_checkpoint(tmp_path):
    fields = json.loads((PHI3_DATA / "real_configs.json").read_text())["phi_3_5_vision_instruct"]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    checkpoint = Checkpoint(str(tmp_path))
    kind = Phi3VisionForConditionalGeneration
    assert needed_bytes(kind, checkpoint, torch.bfloat16) == 8_293_242_880
    assert needed_bytes(kind, checkpoint, torch.float32) == 2 * 8_293_242_880


def test_fitting_batch_size(monkeypatch, tmp_path):
    fields = json.loads((PHI3_DATA / "real_configs.json").read_text())["phi_3_5_vision_instruct"]
    with torch.device("meta"):
        model = Phi3VisionForConditionalGeneration(Phi3VisionConfig(**fields)).bfloat16()
    sizes = {}
    for gigabytes in (0.1, 5, 12, 30, 1000):
        monkeypatch.setattr("moda_utils.answers.free_memory", lambda _, g=gigabytes: int(g * 1e9))
        sizes[gigabytes] = fitting_batch_size(model, 757 + 300 + 128)
    # One sequence takes 1185 tokens x 393,216 bytes of cache, and 0.2 GB of work beside it.
    assert sizes == {0.1: 1, 5: 4, 12: 8, 30: 32, 1000: 64}
    monkeypatch.setattr("moda_utils.answers.free_memory", lambda _: int(30e9))
    assert fitting_batch_size(model, 4 * 1185) == 8


def test_real_free_memory_is_asked():
    shape = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "vocab_size": 9}
    clip = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "image_size": 28}
    config = Phi3VisionConfig(**shape, intermediate_size=8, pad_token_id=0, clip_vision_config=clip)
    assert fitting_batch_size(Phi3VisionForConditionalGeneration(config), 100) == 64


def test_missing_config_is_one_sentence(tmp_path):
    folder = tmp_path / "gone"
    with pytest.raises(FileNotFoundError, match="There is no checkpoint folder"):
        needed_bytes(
            Phi3VisionForConditionalGeneration, Checkpoint(str(folder.resolve())), torch.float32
        )
    shutil.copytree(PHI3_DATA, folder)
    assert (
        needed_bytes(
            Phi3VisionForConditionalGeneration, Checkpoint(str(folder.resolve())), torch.float32
        )
        > 0
    )
