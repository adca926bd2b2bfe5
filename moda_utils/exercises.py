"""Answers of the exercises, checked: a tick, or a hint that doesn't give the answer away.

Each exercise has one part that a program can judge. Here are `check` and the judges of the
notebooks about the model; those of 00 to 03 are in `exercises_data`.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from .dataset import load_dataset_dir, template_description
from .evaluation import ATTRIBUTES, grade
from .exercises_data import EXERCISES, batches_of, exercise, rows_of
from .profiles import Profile, get_profile
from .storage import require

KINDS: dict[str, Callable[[Any], bool]] = {
    "a text": lambda answer: isinstance(answer, str),
    "a whole number": lambda answer: KINDS["a number"](answer) and float(answer).is_integer(),
    "a number": lambda answer: isinstance(answer, Real) and not isinstance(answer, bool),
    "a list": lambda answer: isinstance(answer, Sequence) and not isinstance(answer, str),
    "a function": callable,
}


def check(name: str, answer: Any = None) -> None:
    """Print whether `answer` is right: a tick, or a hint. Without an answer: what is asked for.

    Args:
        name: notebook and exercise, such as "05.2".
        answer: a text, number, list or function, as the exercise says; NumPy and torch will do.

    Raises:
        ValueError: there is no such exercise; the message lists those that there are.
        FileNotFoundError: the answer depends on an artefact that isn't there.
    """
    if name not in EXERCISES:
        raise ValueError(f"There is no exercise {name!r}; there are: {', '.join(EXERCISES)}.")
    asked = EXERCISES[name]
    if hasattr(answer, "tolist"):  # an array, a tensor, a series, a number of NumPy
        answer = answer.tolist()
    if answer is None:
        print(f"{name} asks for {asked.kind}: {asked.wanted}.")
    elif not KINDS[asked.kind](answer):
        print(f"{name} asks for {asked.kind}, not {type(answer).__name__}: {asked.wanted}.")
    elif asked.right(answer, get_profile()):
        print(f"✓ {name} is right.")
    else:
        print(f"✗ {name}, not yet. Hint: {asked.hint}")


def _train_texts(profile: Profile) -> list[str]:
    folder = require(profile.dataset_dir, "01")
    return list(load_dataset_dir(folder)["train"]["description"])


# ---------------------------------------------------------------------------------------------
# 04 Model assembly


def _widths(profile: Profile) -> tuple[int, int]:
    """Numbers of an image embedding, and of a word vector."""
    from transformers import AutoConfig, CLIPVisionConfig

    from .device import load_checkpoint

    image = load_checkpoint(CLIPVisionConfig, profile.vision).projection_dim
    return image, load_checkpoint(AutoConfig, profile.language).hidden_size


@exercise(
    "04.1", "a whole number", "the parameters of a projection that is one layer, in this model",
    hint="each output needs a weight for every input, and one more number.",
)  # fmt: skip
def _one_layer(answer: int, profile: Profile) -> bool:
    image, word = _widths(profile)
    return answer == (image + 1) * word


@exercise(
    "04.2", "a whole number", "the place, counted from 0, whose output must be the first word",
    hint="write the sequence down, with four places in front. Which place stands before the word?",
)  # fmt: skip
def _asking_place(answer: int, profile: Profile) -> bool:
    sequence = [*["image"] * 4, "</s>", "word", "</s>"]
    return answer == sequence.index("word") - 1


@exercise(
    "04.3", "a list", "two ids of Llama's configuration: what opens a text, and what closes it",
    hint="a configuration has fields for both; their names end in _token_id.",
)  # fmt: skip
def _marks_of_llama(answer: Sequence[int], profile: Profile) -> bool:
    from transformers import LlamaConfig

    return list(answer) == [LlamaConfig().bos_token_id, LlamaConfig().eos_token_id]


# ---------------------------------------------------------------------------------------------
# 05 Training


@exercise(
    "05.1", "a number", "the learning rate of the recipe in the last epoch",
    hint="how often has it been multiplied by then? The first epochs run at the full rate.",
)  # fmt: skip
def _last_rate(answer: float, profile: Profile) -> bool:
    from .training import recipe

    config = recipe(profile)
    last = config.learning_rate * config.decay_factor ** ((config.epochs - 1) // config.decay_every)
    return abs(answer / last - 1) < 0.05  # the log of the training rounds it to two digits


@exercise(
    "05.2", "a whole number", "the steps of 20 epochs if a group of fewer than 8 batches is lost",
    hint="count the batches of one epoch, then the whole groups of 8 among them.",
)  # fmt: skip
def _whole_steps(answer: int, profile: Profile) -> bool:
    return answer == 20 * (batches_of(len(_train_texts(profile)), profile) // 8)


@exercise(
    "05.3", "a whole number", "the questions that are left when nobody asks for the end",
    hint="every description ends once; the places that were never asked don't count either.",
)  # fmt: skip
def _endless_questions(answer: int, profile: Profile) -> bool:
    from .modeling_moda import ModaProcessor

    processor = ModaProcessor.from_backbones(profile.vision, profile.language)
    rows = processor(text=_train_texts(profile))["attention_mask"]
    return answer == int(rows.sum()) - 2 * len(rows)  # without the marks before and after


# ---------------------------------------------------------------------------------------------
# 06 Evaluation


@exercise(
    "06.1", "a text", "a description of the first test item: nothing false, overall 5 or less",
    hint="factual consistency asks only about what is stated. What is never asked for there?",
)  # fmt: skip
def _true_and_poor(answer: str, profile: Profile) -> bool:
    found = grade([answer], rows_of(profile, "test").head(1)).iloc[0]
    return found.factual_consistency == 10 and found.overall <= 5


@exercise(
    "06.2", "a number", "the share of test items that share their group with another test item",
    hint="count each group's items in the test split, then the items in groups of two and more.",
)  # fmt: skip
def _not_alone(answer: float, profile: Profile) -> bool:
    group = rows_of(profile, "test").group
    return abs(answer - group.duplicated(keep=False).mean()) < 0.006


@exercise(
    "06.3", "a list", "the voting neighbours' sentence for each test photo, in order",
    hint="five by cosine similarity, a vote per attribute; in a tie the nearest value wins.",
)  # fmt: skip
def _voting_neighbours(answer: Sequence[str], profile: Profile) -> bool:
    from torch.nn.functional import normalize

    from .features import embed_photos
    from .serving import load_model

    model, processor = load_model()
    train, test = rows_of(profile, "train"), rows_of(profile, "test")
    images, cache = processor.image_processor, profile.features_dir
    embeds = [
        normalize(embed_photos(model, images, list(rows.path), rows.image_sha256, cache))
        for rows in (test, train)
    ]
    five = (
        (embeds[0] @ embeds[1].T).topk(min(5, len(train))).indices.tolist()
    )  # (test, 5), nearest first
    columns = [column for _, column in ATTRIBUTES.values()]
    votes = [{c: Counter(train[c].iloc[rows]) for c in columns} for rows in five]
    truth = [
        template_description({c: count.most_common(1)[0][0] for c, count in vote.items()})
        for vote in votes
    ]
    same = sum(ours == theirs for ours, theirs in zip(answer, truth, strict=False))
    return len(answer) == len(truth) and same >= 0.95 * len(truth)  # rounding may turn a tie


# ---------------------------------------------------------------------------------------------
# Extras: 07 Use it, 08 Ablations, 09 Scaling out


@exercise(
    "07.1", "a number", "how many times larger the error of the output is with one scale for all",
    hint="an error is the length of the difference, beside the length of the exact output.",
)  # fmt: skip
def _one_scale(answer: float, profile: Profile) -> bool:
    import torch

    from .serving import load_model

    layer = load_model()[0].language_model.get_decoder().layers[0].fc1
    weight = layer.weight.detach().cpu()
    inputs = torch.randn(256, weight.shape[1], generator=torch.manual_seed(0))

    def error(scale: torch.Tensor) -> float:
        return (inputs @ ((weight / scale).round() * scale - weight).T).norm().item()

    rows = error(weight.abs().amax(dim=1, keepdim=True) / 127)
    return abs(answer * rows / error(weight.abs().max() / 127) - 1) < 0.1


@exercise(
    "08.1", "a whole number", "the pairs for a reach of 0.05, if differences vary by 0.2",
    hint="the interval reaches two spreads over the root of the number of pairs to each side.",
)  # fmt: skip
def _pairs(answer: int, profile: Profile) -> bool:
    return answer == round((2 * 0.2 / 0.05) ** 2)


@exercise(
    "09.1", "a whole number", "the photos that 20 a second make in a night of ten hours",
    hint="a rate times a time; mind the units.",
)  # fmt: skip
def _night(answer: int, profile: Profile) -> bool:
    return answer == 20 * 10 * 3600
