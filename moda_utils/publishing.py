"""Put a trained model or its dataset on the Hugging Face Hub, with a card of what was measured.

Nothing here runs by itself: a repository is made private unless asked otherwise, and the token is
read where it is needed, passed on, and neither stored nor shown.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from string import Template
from typing import Any, Literal

import torch
from huggingface_hub import CommitOperationAdd, EvalResult, HfApi, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError

from moda_utils.dataset import load_dataset_dir
from moda_utils.evaluation import CRITERIA
from moda_utils.modeling_moda import ModaConfig, ModaForConditionalGeneration
from moda_utils.profiles import Profile
from moda_utils.serving import NOTES
from moda_utils.storage import read_json, require

LICENCES = {
    True: "MIT: code, weights and the photos that they were trained on are the course's own.",
    False: "Other: the language model is a fine-tuned OPT-125M, so Meta's licence for OPT holds, "
    "which has allowed non-commercial research only. FashionCLIP is under the MIT licence.",
}  # by: were all parts shipped with the course?


def publish(
    profile: Profile, repo: str, kind: Literal["model", "dataset"] = "model", private: bool = True
) -> str:
    """Upload `runs/moda/best` or `dataset/` in one commit, with its card; returns the address.

    The same content again makes no new commit.

    Args:
        repo: "owner/name"; it is created if it isn't there.
        private: only its owner sees it.

    Raises:
        FileNotFoundError: nothing to publish yet; the message names the notebook that makes it.
        ValueError: `repo` is no such name, or the photos may not be shown to everyone.
        RuntimeError: there is no token, the Hub can't be reached or refused, or everyone sees the
            repository that should be private.
    """
    folder = profile.run_dir("moda") / "best" if kind == "model" else profile.dataset_dir
    files = sorted(path for path in require(folder, _MADE_BY[kind]).rglob("*") if path.is_file())
    if kind == "dataset" and profile.data_label == "real" and not private:
        raise ValueError("The photos' licence is not established: publish with private=True only.")
    content: dict[str, Any] = {path.relative_to(folder).as_posix(): path for path in files}
    if kind == "model":
        content["README.md"] = model_card(profile, repo).encode()
    api = HfApi(token=find_token())
    try:
        address = api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        if private and not api.repo_info(repo, repo_type=kind).private:  # it was there before
            advice = "make it private in its settings on the Hub, or choose another name"
            raise RuntimeError(f"{repo} is there already, for everyone to see: {advice}.")
        operations = [CommitOperationAdd(name, source) for name, source in content.items()]
        message = f"MODA: {kind} with its card"
        api.create_commit(repo, operations, repo_type=kind, commit_message=message)
    except HFValidationError as error:
        raise ValueError(f'{repo!r} is no name of a repository: give "owner/name".') from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        advice = "Is the token one with the right to write, and the owner its own?"
        raise RuntimeError(f"The Hub refused ({status}): nothing new is there. {advice}") from error
    except HTTPError as error:  # httpx's, or from version 2 of the client httpx2's: of the network
        advice = "check the network, then publish again"
        raise RuntimeError(f"The Hub can't be reached ({error}): {advice}.") from error
    return str(address)


_MADE_BY = {"model": "05", "dataset": "01"}


def find_token() -> str:
    """HF_TOKEN, from Colab's secrets or from the environment.

    The Hub's client has a `get_token`, too, but asks Colab once in a session only: a secret that is
    stored, or allowed, after the first download would not be found.

    Raises:
        RuntimeError: there is none; the message says where to put it.
    """
    token = os.environ.get("HF_TOKEN", "").strip()
    if "google.colab" in sys.modules:
        from google.colab import userdata

        # None there, or not for this notebook: the environment may have one.
        with suppress(userdata.SecretNotFoundError, userdata.NotebookAccessError):
            token = userdata.get("HF_TOKEN") or token
    if not token:
        raise RuntimeError(
            "There is no HF_TOKEN. Make one with the right to write in your account's settings on "
            "the Hub; store it as a secret of this name in Colab, or in the environment."
        )
    return token


def model_card(profile: Profile, repo: str) -> str:
    """README.md of the model: what it is made of, and the figures of `evaluation/moda.json`."""
    folder = require(profile.run_dir("moda") / "best", "05")
    config = ModaConfig.from_pretrained(folder)
    path = profile.evaluation_path("moda")
    result = read_json(path) if path.exists() else None
    parts = [profile.vision.name, profile.language.name]
    shipped = all(map(os.path.isabs, parts))
    names = [f"mini-{Path(name).name.upper()}" if os.path.isabs(name) else name for name in parts]
    with torch.device("meta"):  # shapes without memory
        parameters = ModaForConditionalGeneration(config).num_parameters()
    about = ModelCardData(
        language="en",
        license="mit" if shipped else "other",
        library_name="transformers",
        pipeline_tag="image-to-text",
        tags=["fashion", "image-captioning", "moda", *(["synthetic"] if shipped else [])],
        base_model=None if shipped else names,
        model_name="MODA",
        eval_results=_eval_results(result) if result else None,
    )
    sources = load_dataset_dir(profile.dataset_dir)["train"]["description_source"]
    text = Template(Path(__file__).with_name("model_card.md").read_text(encoding="utf-8"))
    body = text.substitute(
        repo=repo, encoder=names[0], language=names[1], parameters=f"{parameters / 1e6:.1f}",
        note=NOTES.get(config.trained_on, "").replace("Note: t", "T"),
        data=profile.data_label, source=" and ".join(sorted(set(sources))),
        tokens=len(config.output_tokens or range(config.text_config.vocab_size)),
        results=_table(result) if result else "Not evaluated yet.", licence=LICENCES[shipped],
    )  # fmt: skip
    return f"---\n{about.to_yaml()}\n---\n{body}"


def _eval_results(result: dict[str, Any]) -> list[EvalResult]:
    scores = result["systems"]["moda"]["criteria"]
    return [
        EvalResult(
            task_type="image-to-text", dataset_type="fashion", dataset_name=_tested_on(result),
            metric_type=name, metric_name=name.replace("_", " ") + " (0 to 10)",
            metric_value=scores[name]["value"],
        )
        for name in CRITERIA
        if scores[name]["value"] is not None
    ]  # fmt: skip


def _table(result: dict[str, Any]) -> str:
    rows = [
        f"{_tested_on(result)}:\n",
        "| | " + " | ".join(name.replace("_", " ") for name in CRITERIA) + " |",
        "|---|" + "---|" * len(CRITERIA),
    ]
    for system in ("moda", "majority"):
        scores = result["systems"].get(system, {}).get("criteria", {})
        cells = [
            "-" if scores[name]["value"] is None
            else "{value:.2f} [{low:.2f}, {high:.2f}]".format(**scores[name])
            for name in CRITERIA if name in scores
        ]  # fmt: skip
        rows += [f"| {system} | {' | '.join(cells)} |"] if cells else []
    return "\n".join(rows)


def _tested_on(result: dict[str, Any]) -> str:
    return f"{result['n']} {result['data']} photos of the test split"
