"""Describe a catalogue of any size on Ray Data: on a laptop, on a machine with GPUs, on a cluster.

    python -m moda_utils.scale PHOTOS OUT                by the trained MODA of this profile
    python -m moda_utils.scale PHOTOS OUT --captioner    by Phi-3 Vision and Prompt I

PHOTOS is a folder, Parquet files with product_id and image, or an address such as s3://bucket/shop.
OUT is a folder that all machines see, or an address. The photos are cut into shards. Workers, which
hold the model, take one after the other and write each into a file of its own,
OUT/described/NAME.parquet, whole or not at all: call again after any stop, and only shards without
a file are done. Photos that can't be read are listed in OUT/unreadable/NAME.parquet; delete the
shard's file in OUT/described to have it done again. RAY_ADDRESS names a cluster, as Ray reads it,
of which this machine is one; without it this machine is all of it. The environment is the place
for a store's keys, not its address.
"""

import hashlib
import json
import logging
import os
import re
import socket
import sys
import warnings
from argparse import ArgumentParser, RawTextHelpFormatter
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from moda_utils.addresses import JOIN, SHARE, absolute, connect, explained, list_files, shown, write
from moda_utils.answers import Answer, run_batches, weights_of
from moda_utils.captioning import Captioner, captions_journal
from moda_utils.catalog import SUFFIXES, open_photo
from moda_utils.journal import IDS, Row, fingerprint
from moda_utils.profiles import ROOT, Checkpoint, Profile, get_profile
from moda_utils.serving import generate_texts, load_model

TEXTS = (*IDS, "model", "prompt_sha", "options_sha", "raw", "description", "status")
SCHEMA = pa.schema(dict.fromkeys(TEXTS, pa.utf8()) | {"seconds": pa.float64(), "ended": pa.bool_()})
LOST = pa.schema({"product_id": pa.utf8(), "reason": pa.utf8()})


class Job(NamedTuple):
    """What every worker is told.

    Args:
        key: of every row, as in a journal.
        load: gives the loaded model as arguments of `run_batches`: prepare, answer, batch_size.
    """

    source: str
    out: str
    key: dict[str, str]
    load: Callable[[], dict[str, Any]]


class Shard(NamedTuple):
    """Photos that are described together: files, or a row group of one Parquet file."""

    name: str
    ids: list[str]
    files: list[str]
    row_group: int | None = None


def moda_job(source: str, out: str, folder: Path | str) -> Job:
    """Describe by a trained MODA, whose folder lies in the same place on all machines."""
    if not (Path(folder) / "model.safetensors").exists():
        raise FileNotFoundError(f"There is no trained model in {folder}: run notebook 05 first.")
    name, weights = weights_of(Checkpoint(str(folder)))
    options = {"prompt_sha": fingerprint(""), "options_sha": fingerprint({"weights": weights})}
    key = {"model": f"{Path(folder).parent.name}/{name}"} | options
    return Job(source, out, key, partial(_load_moda, str(Path(folder).resolve()), weights))


def captioner_job(source: str, out: str, profile: Profile) -> Job:
    """Describe by the profile's captioner; rows have the columns and the key of notebook 02."""
    return Job(source, out, captions_journal(profile).key, partial(_load_captioner, profile))


def _load_moda(folder: str, weights: str) -> dict[str, Any]:
    model, processor = load_model(folder, int8=True)  # as `describe` does: fast on CPUs
    if weights_of(Checkpoint(folder))[1] != weights:  # only now, for files may change at any time
        raise ValueError(f"the model in {folder} is another one here than where the job was made")

    @torch.inference_mode()
    def answer(pixels: list[torch.Tensor]) -> list[Answer]:
        embeds = model.encode_images(torch.stack(pixels).to(model.device))
        return list(map(Answer, *generate_texts(model, processor, embeds)))

    def finish(item: Any, answer: Answer) -> Row:
        status = "ok" if answer.text and answer.ended else "failed"
        return {"raw": answer.text, "description": answer.text or None, "status": status}

    engine = {"answer": answer, "finish": finish, "batch_size": 32}
    return engine | {"prepare": lambda photo: processor(images=[photo])["pixel_values"][0]}


def _load_captioner(profile: Profile) -> dict[str, Any]:
    model = Captioner.load(profile)
    return {"prepare": model.prepare, "answer": model, "batch_size": model.batch_size()}


def find_shards(source: str, size: int = 256) -> list[Shard]:
    """Cut the photos into shards of `size`; Parquet files bring their own, the row groups.

    A killed worker repeats a row group; a worker reads it page by page, and pyarrow writes a page
    of up to 1,024 rows: give some hundred photos to a group, and 16 or so to a page
    (`row_group_size`, `write_batch_size`).

    Raises:
        ValueError: there is no photo, there are photos beside Parquet files, a Parquet file lacks
            a column, a photo has no id, or two photos have the same.
        RuntimeError: the address can't be read.
    """
    paths, where = list_files(source), shown(source)
    tables = [path for path in paths if path.endswith(".parquet")]
    shards = [shard for n, path in enumerate(tables) for shard in _groups(source, path, n)]
    photos = [path for path in paths if path.lower().endswith(SUFFIXES)]
    if shards and photos:
        raise ValueError(f"{where} holds photos and Parquet files: give one or the other.")
    parts = {start: photos[start : start + size] for start in range(0, len(photos), size)}
    shards += [Shard(f"{n:09d}", [Path(p).stem for p in part], part) for n, part in parts.items()]
    counts = Counter(item for shard in shards for item in shard.ids)
    if not counts:
        raise ValueError(f"There is no photo in {where}: give a folder of photos or of Parquet.")
    if bad := [str(item) for item, count in counts.items() if count > 1 or item is None]:
        raise ValueError(f"Ids missing or twice: {len(bad)} ({', '.join(bad[:3])}): mend them.")
    return shards


def _groups(source: str, path: str, number: int) -> list[Shard]:
    with explained(f"{path} can't be read"), connect(source)[0].open_input_file(path) as file:
        table = pq.ParquetFile(file)
        there = {table.schema.column(i).path for i in range(len(table.schema))}
        if missing := {"product_id", "image.bytes"} - there:
            raise ValueError(f"{path} has no {min(missing)}: image is a struct of bytes and path.")
        groups = [table.read_row_group(i, ["product_id"]) for i in range(table.num_row_groups)]
        ids = [group["product_id"].cast(pa.string()).to_pylist() for group in groups]
        return [Shard(f"{number:06d}-{i:06d}", ids[i], [path], i) for i in range(len(groups))]


# ---------------------------------------------------------------------------------------------
# Work


class Worker:
    """Holds the model. Called with one shard, it describes the photos and writes their files."""

    def __init__(self, job: Job):
        self.job, self.files = job, connect(job.source)[0]
        with explained("A worker can't load the model", "have it on every machine", Exception):
            self.model = job.load()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        shard, rows, lost = Shard(*json.loads(batch["item"][0])), {}, []
        key, ids = self.job.key, iter(shard.ids)

        def append(some: Sequence[Row]) -> None:
            rows.update({(row["product_id"], row["image_sha256"]): row | key for row in some})

        # A journal in memory, for the rows of one shard until they are written together.
        journal = SimpleNamespace(done=lambda: rows, append=append, ignored=0)
        asked = self.model | {"prepare": self._prepare, "same": lambda item: item["product_id"]}
        for images in self._images(shard):
            items = [{"image_sha256": "", **image, "product_id": next(ids)} for image in images]
            unreadable = run_batches(items, journal, **asked).unreadable
            lost += [{"product_id": item, "reason": reason} for item, reason in unreadable]
        # Schemas, for there may be no row. The descriptions last: they say that the shard is done.
        for kind, some, form in ("unreadable", lost, LOST), ("described", [*rows.values()], SCHEMA):
            table = pa.Table.from_pylist(some, form)
            write(self.job.out, f"{kind}/{shard.name}.parquet", partial(pq.write_table, table))
        return {"described": [len(rows)], "unreadable": [len(lost)]}

    def _images(self, shard: Shard) -> Iterator[list[dict[str, Any]]]:
        """Addresses of photos; or what a Parquet file holds of them, a few batches at a time."""
        if shard.row_group is None:
            yield [{"path": path, "listed": True} for path in shard.files]
            return
        path, few = shard.files[0], 4 * self.model["batch_size"]
        with explained(f"{path} can't be fetched"), self.files.open_input_file(path) as file:
            table = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)  # page by page
            for part in table.iter_batches(few, [shard.row_group], ["image"]):
                yield [image or {} for image in part["image"].to_pylist()]

    def _prepare(self, item: dict[str, Any]) -> Any:
        content, path, listed = item.get("bytes") or b"", item.get("path"), item.get("listed")
        if path and not content:
            # What can't be fetched stops the run, for no photo is to blame; but a path in a table
            # may lead nowhere, where a file that was listed was there.
            with explained(f"{path} can't be fetched", but=() if listed else FileNotFoundError):
                content = self.files.open_input_stream(path).read()
        item["image_sha256"] = hashlib.sha256(content).hexdigest()
        return self.model["prepare"](open_photo(pa.BufferReader(content), str(path)))


def describe_catalogue(job: Job, workers: int = 1, shard_size: int = 256) -> Counter:
    """Describe all photos of a job that have no description yet.

    Args:
        workers: how many hold the model, at least one; each gets a GPU where there are any.
        shard_size: photos per file, and what a killed worker repeats at most (of more than 10,000
            shards, Ray hands out a few at a time).

    Returns:
        Numbers of photos: described now, unreadable now, and before: in shards that were there.

    Raises:
        ValueError: no photo, an id that is there twice, or `out` lies among the photos or belongs
            to another run.
        RuntimeError: an address can't be read or written, a worker can't load the model or dies
            again and again, its files are not in `out`, a photo is gone, Ray is missing, or there
            is none at RAY_ADDRESS.
    """
    job = job._replace(source=absolute(job.source), out=absolute(job.out))
    shards, photos = find_shards(job.source, shard_size), connect(job.source)[1]
    run = json.dumps(job.key | {"photos": fingerprint([photos, [s[:2] for s in shards]])}).encode()
    where, there, (files, folder) = shown(job.out), list_files(job.out), connect(job.out)
    runs = [files.open_input_stream(path).read() for path in there if path.endswith("/run.json")]
    if f"{folder}/".startswith(f"{photos}/") or there and runs != [run]:
        advice = "choose another folder, or have photos, model and shard size as in that run"
        raise ValueError(f"{where} holds another run, files or photos: {advice}.")
    todo = _missing(shards, there)
    before = sum(len(shard.ids) for shard in shards) - sum(len(shard.ids) for shard in todo)
    return (_run(job, run, todo, workers, before) if todo else Counter()) + Counter(before=before)


def _missing(shards: list[Shard], files: list[str]) -> list[Shard]:
    """Those of the shards that have no descriptions among a run's files."""
    done = {Path(path).name for path in files if Path(path).parent.name == "described"}
    return [shard for shard in shards if f"{shard.name}.parquet" not in done]


def _run(job: Job, run: bytes, todo: list[Shard], workers: int, before: int) -> Counter:
    """Let Ray's workers do the shards; killed ones are started again, with the shard they had."""
    logging.getLogger("ray.widgets").setLevel("ERROR")  # it asks for what the course does without
    # Every pool would start with an alarm. And what a thread of Ray asks after our Ray has ended
    # would start another one, which nobody wants.
    os.environ |= {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ENABLE_AUTO_CONNECT": "0"} | os.environ
    with explained("No Ray", "make scale, or pip install -r requirements-scale.txt", ImportError):
        import ray.data

    write(job.out, "run.json", lambda stream: stream.write(run))
    # The package travels to the workers, wherever they are.
    env = {"py_modules": [str(ROOT / "moda_utils")], "env_vars": {"TQDM_DISABLE": "1"}}
    quiet = {"log_to_driver": False, "logging_level": "error", "runtime_env": env}
    # Without an address, Ray would wait for a cluster that was here once and left its own.
    node, where = ray._private.node.Node, os.environ.get("RAY_ADDRESS") or "local"
    # The dashboard of a Ray that starts here would ask three clouds whether this machine is theirs,
    # even with usage statistics off, and with include_dashboard=False too: Ray has no switch for it
    # (2.48 to 2.60). Nothing here needs a dashboard; a Ray that the reader starts later has one.
    totals, photos = Counter(), sum(len(shard.ids) for shard in todo)
    with ExitStack() as ours, tqdm(total=before + photos, initial=before, unit="photo") as bar:
        ours.callback(setattr, node, "start_api_server", node.start_api_server)
        node.start_api_server = lambda *given, **options: None
        with explained(f"The Ray at {where} can't be joined", JOIN, Exception):
            if found := re.search(r"([^/]+):(\d+)$", where):  # Ray itself would try for minutes
                socket.create_connection(found.groups(), timeout=10).close()
            # A Ray that runs already is used as it is. Ours ends with the call: the next one may
            # find another address, or other keys, in the environment.
            if not ray.is_initialized():
                ours.enter_context(ray.init(where, **quiet))
        ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts photos
        logging.getLogger("ray.data").setLevel("CRITICAL")  # errors come as exceptions, too
        workers, there = max(1, min(workers, len(todo))), int(ray.cluster_resources().get("GPU", 0))
        # Equal parts, of which each lies on one GPU.
        gpus = 1 / -(-workers // there) if there else 0
        pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2)
        # Without a bound, Ray would start a worker again for ever that one of its photos kills. It
        # announces another way to set bounds, but there is none yet.
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        needs = {"compute": pool, "num_gpus": gpus, "max_restarts": 3, "max_task_retries": 3}
        items, blocks = [json.dumps(shard) for shard in todo], min(len(todo), 10_000)
        ds = ray.data.from_items(items, override_num_blocks=blocks)
        ds = ds.map_batches(Worker, fn_constructor_args=(job,), batch_size=1, num_cpus=1, **needs)
        try:
            for row in ds.iter_rows():
                totals.update(row)
                bar.update(sum(row.values()))
        except ray.exceptions.RayError as error:
            died = "A worker died again and again, of a photo or for want of memory: call again."
            raise RuntimeError([died, *re.findall(r"Error: (.+)", str(error))][-1]) from error
    if _missing(todo, list_files(job.out)):
        raise RuntimeError(f"{shown(job.out)}: {SHARE}.")
    return totals


def main(arguments: Sequence[str] | None = None) -> int:
    parser = ArgumentParser("moda_utils.scale", None, __doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("photos", metavar="PHOTOS", help="folder, Parquet, or an address")
    parser.add_argument("out", metavar="OUT", help="folder for the descriptions")
    parser.add_argument("--workers", type=int, default=1, help="how many hold the model")
    parser.add_argument("--captioner", action="store_true", help="Phi-3 Vision in place of MODA")
    options = parser.parse_args(arguments)
    try:
        where, profile = (options.photos, options.out), get_profile()
        best = profile.run_dir("moda") / "best"
        job = captioner_job(*where, profile) if options.captioner else moda_job(*where, best)
        counts = describe_catalogue(job, options.workers)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        print(shown(str(error)) or type(error).__name__, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped: the same command goes on.", file=sys.stderr)
        return 130
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
