"""The journal: nothing finished is lost, whatever kills the writer."""

import json
import os
import signal
import subprocess
import sys
import warnings

import pytest

from moda_utils.journal import Journal, fingerprint


def row(number: int, **more) -> dict:
    return {
        "product_id": str(number),
        "image_sha256": f"sha{number}",
        "description": f"item {number}",
        **more,
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "captions.jsonl"


def open_journal(path, model="phi", prompt="p", options="o") -> Journal:
    return Journal(path, model, prompt, options)


def test_rows_come_back_with_their_key(path):
    journal = open_journal(path)
    assert journal.done() == {}
    journal.append([row(1), row(2, description='Jupe d\'été\u2028 "bleue"\n')])
    journal.append([row(3)])
    again = open_journal(path)
    assert list(again.done()) == [("1", "sha1"), ("2", "sha2"), ("3", "sha3")]
    second = again.done()["2", "sha2"]
    assert second["description"] == 'Jupe d\'été\u2028 "bleue"\n'
    assert (second["model"], second["prompt_sha"], second["options_sha"]) == ("phi", "p", "o")
    assert path.read_bytes().count(b"\n") == 3


def test_the_later_row_of_an_item_counts(path):
    journal = open_journal(path)
    journal.append([row(1, status="failed")])
    journal.append([row(1, status="retried")])
    assert [found["status"] for found in journal.done().values()] == ["retried"]


@pytest.mark.parametrize("other", [{"model": "x"}, {"prompt": "x"}, {"options": "x"}])
def test_rows_of_another_key_are_kept_ignored_and_counted(path, other):
    open_journal(path, **other).append([row(1), row(2)])
    before = path.read_bytes()
    journal = open_journal(path)
    assert (journal.done(), journal.ignored) == ({}, 2)
    journal.append([row(1)])
    assert path.read_bytes().startswith(before)
    assert (len(journal.done()), journal.ignored) == (1, 2)
    assert len(open_journal(path, **other).done()) == 2


@pytest.mark.parametrize("lost", [1, 2, 10, 40])
def test_a_torn_last_line_is_repaired_at_open(path, lost):
    open_journal(path).append([row(1), row(2)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    journal = open_journal(path)
    # Only the newline missing: the row is whole and stays.
    assert len(journal.done()) == (2 if lost == 1 else 1)
    assert path.read_bytes() == (whole if lost == 1 else whole[: whole.index(b"\n") + 1])
    journal.append([row(2), row(3)])
    assert len(open_journal(path).done()) == 3
    assert journal.damaged == 0


def test_a_line_torn_inside_a_character_or_longer_than_a_block_is_repaired(path):
    open_journal(path).append([row(1)])
    whole = path.read_bytes()
    torn = json.dumps(row(2, raw="é" * 100_000), ensure_ascii=False).encode()
    path.write_bytes(whole + torn[: torn.rindex("é".encode()) + 1])
    assert list(open_journal(path).done()) == [("1", "sha1")]
    assert path.read_bytes() == whole


def test_another_process_torn_while_this_journal_is_open(path):
    journal = open_journal(path)
    journal.append([row(1)])
    with open(path, "ab") as file:
        file.write(b'{"product_id": "2", "image_')
    journal.append([row(3)])
    assert list(journal.done()) == [("1", "sha1"), ("3", "sha3")]
    assert journal.damaged == 0


def test_a_damaged_line_in_the_middle_is_skipped_with_a_warning(path):
    open_journal(path).append([row(1)])
    with open(path, "ab") as file:
        file.write(b"\0\0\0\n[1, 2]\n\n")
    with pytest.warns(UserWarning, match="captions.jsonl: 2 damaged lines are skipped"):
        journal = open_journal(path)
    assert (list(journal.done()), journal.damaged) == ([("1", "sha1")], 2)


def test_an_empty_file_is_an_empty_journal(path):
    path.parent.mkdir(parents=True)
    path.touch()
    assert open_journal(path).done() == {}


@pytest.mark.parametrize(
    "bad", [{"product_id": "1"}, row(1, seconds=float("nan")), {**row(1), "product_id": 1}]
)
def test_a_bad_batch_writes_nothing(path, bad):
    journal = open_journal(path)
    with pytest.raises(ValueError):
        journal.append([row(7), bad])
    assert not path.exists()


def test_a_path_that_cannot_be_written_is_a_clear_error(path):
    path.mkdir(parents=True)  # works for root too, whom a read-only folder would not stop
    with pytest.raises(IsADirectoryError, match="captions.jsonl"):
        open_journal(path).append([row(1)])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_a_clear_error(path):
    journal = open_journal(path)
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"jsonl can't be written \(No space.*saved before is intact"):
        journal.append([row(1)])


def test_where_nothing_can_be_locked_it_warns_and_writes(path):
    path.parent.mkdir(parents=True)
    path.with_name("captions.jsonl.lock").mkdir()  # no lock file can be made here
    journal = open_journal(path)
    with pytest.warns(UserWarning, match="captions.jsonl can't be locked here"):
        journal.append([row(1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once, not per batch
        journal.append([row(2)])
    assert len(journal.done()) == 2


WRITER = """
import sys
from moda_utils.journal import Journal
journal = Journal(sys.argv[1], "phi", "p", "o")
first, number = int(sys.argv[2]), int(sys.argv[3])
for i in range(first, first + number):
    batch = [{"product_id": f"{i}-{j}", "image_sha256": "s", "raw": "x" * 5000} for j in range(4)]
    journal.append(batch)
    print(i, flush=True)
"""


def start_writer(path, first: int, number: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_never_mix_their_lines(path):
    path.parent.mkdir(parents=True)
    writers = [start_writer(path, first, 25) for first in (0, 100)]
    for writer in writers:
        writer.communicate(timeout=600)
        assert writer.returncode == 0
    journal = open_journal(path)
    assert (len(journal.done()), journal.damaged) == (200, 0)


def test_killed_at_any_moment_every_reported_batch_is_there(path):
    path.parent.mkdir(parents=True)
    with start_writer(path, 0, 100_000) as writer:
        reported = [int(writer.stdout.readline()) for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
    done = open_journal(path).done()
    assert {(f"{i}-{j}", "s") for i in reported for j in range(4)} <= set(done)
    assert path.read_bytes().endswith(b"\n")


def test_fingerprint_depends_on_content_not_on_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint("Describe.") != fingerprint("Describe!")
    assert len(fingerprint("x")) == 16
