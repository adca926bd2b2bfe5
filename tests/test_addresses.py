"""Addresses of photos and descriptions: files that are whole or absent, errors without secrets."""

import traceback

import pyarrow as pa
import pytest

from moda_utils.addresses import connect, explained, list_files, shown, write


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://me:word-of-mouth@host/shop", "http://...@host/shop is no address"),
        ("https://word-of-mouth@host/shop", "https://...@host/shop is no address"),  # a token
        ("teleport://me:word-of-mouth@shop", "teleport://...@shop is no address"),
        ("s3://me:word/of@mouth@shop", "s3://...@shop is no address"),  # / and @ not escaped
        (
            "s3://shop?access_key=me&secret_key=word-of-mouth&x=1",
            "access_key=...&secret_key=...&x=1",
        ),
    ],
)
@pytest.mark.parametrize("use", [connect, list_files, lambda to: write(to, "a", print)])
def test_an_error_tells_no_secret(address, said, use):
    """Nor does the traceback, which would show the error that it was made of."""
    with pytest.raises(RuntimeError, match="is no address that can be used") as caught:
        use(address)
    assert said in str(caught.value)
    whole = "".join(traceback.format_exception(caught.value))
    assert "mouth" not in whole and "me:" not in whole


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key s3://me:word/of@mouth@shop/a@2x.jpg", "key s3://...@2x.jpg"),  # when in doubt
        ("s3://key:wo/rd@host", "s3://...@host"),
        ("s3://me%3Aword@shop", "s3://...@shop"),
        ("abfs://photos:word@acct.dfs/x", "abfs://...@acct.dfs/x"),
        ("HTTPS://word@host and s3://shop/a@2x.jpg", "HTTPS://...@host and s3://shop/a@2x.jpg"),
        ("(a token=word) end", "(a token=...) end"),
        ("(s3://shop?secret_key=word): see", "(s3://shop?secret_key=...): see"),
        ("(at s3://shop?token=word).", "(at s3://shop?token=...)."),
        ("from 's3://shop?token=word', on", "from 's3://shop?token=...', on"),
        ('{"uri": "s3://shop?sig=word"}', '{"uri": "s3://shop?sig=..."}'),
        ("s3://shop?password=wo)r'd&x=1", "s3://shop?password=...&x=1"),  # they are part of it
    ],
)
def test_secrets_go_and_what_stands_around_them_stays(text, said):
    assert shown(text) == shown(said) == said  # for a message may come by twice


def test_what_is_no_secret_stays():
    for text in (
        "s3://shop/photos?scheme=http&endpoint_override=127.0.0.1:9000 can't be read",
        "s3://shop/photos@2x/a.jpg?endpoint_override=127.0.0.1:9000 can't be read",
        "(s3://shop/photos@2x/a.jpg): see to it",
        "abfs://container@acct.dfs/x can't be read",
        "/home/me@work/photos can't be read",
    ):
        assert shown(text) == text


@pytest.mark.parametrize("kind", [OSError, pa.ArrowInvalid, pa.ArrowKeyError])
def test_an_error_is_one_sentence(kind):
    sentence = r"^It can't be \(.*why.*\): do this, and call again.$"
    with pytest.raises(RuntimeError, match=sentence), explained("It can't be", "do this"):
        raise kind("why")


def test_what_the_caller_knows_better_is_left_as_it_is():
    left = explained("It can't be", but=FileNotFoundError)
    with pytest.raises(FileNotFoundError, match="why"), left:
        raise FileNotFoundError("why")
    with pytest.raises(RuntimeError, match="why"), explained("It can't be"):
        raise FileNotFoundError("why")
    with pytest.raises(ValueError, match="^why$"), explained("It can't be"):
        raise ValueError("why")


def test_two_that_write_the_same_file_do_not_meet(tmp_path):
    """As two drivers do, or a worker that was given up and still lives."""
    place = str(tmp_path / "out")

    def slowly(stream):
        stream.write(b"one ")
        write(place, "described/a", lambda other: other.write(b"the other"))
        assert (tmp_path / "out" / "described" / "a").read_bytes() == b"the other"
        stream.write(b"and all of it")

    write(place, "described/a", slowly)
    assert (tmp_path / "out" / "described" / "a").read_bytes() == b"one and all of it"
    assert list_files(place) == [str(tmp_path / "out" / "described" / "a")]


def test_a_file_that_fails_on_the_way_is_not_there(tmp_path):
    def fail(stream):
        stream.write(b"half")
        raise OSError("the disk is full")

    with pytest.raises(RuntimeError, match=r"can't be written \(the disk is full\)"):
        write(str(tmp_path), "described/a", fail)
    assert list_files(str(tmp_path)) == []
