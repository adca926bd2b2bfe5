"""The one place that knows the repository's address: badges and clone commands come from here.

    python tools/links.py                 from the git remote, where that is on github.com
    python tools/links.py owner/name      the given one

Rewrites notebooks, twins, README and this file. Until it has run, the address is a placeholder.
"""

import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = "https://github.com/OWNER/REPO"
PLACEHOLDER = "OWNER/REPO"

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = (
    "README.md",
    "CONTRIBUTING.md",
    "tools/template.py",
    "notebooks/**/*.ipynb",
    "notebooks/**/*.py",
)


def slug() -> str:
    """The "owner/name" of REPOSITORY."""
    return REPOSITORY.removeprefix("https://github.com/")


def is_placeholder() -> bool:
    return slug() == PLACEHOLDER


def badge(notebook: str) -> str:
    """The Colab badge of a notebook, in Markdown; `notebook` is a path (notebooks/00_x.ipynb)."""
    address = f"https://colab.research.google.com/github/{slug()}/blob/main/{notebook}"
    return (
        f"[![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)]({address})"
    )


def from_remote() -> str | None:
    """The "owner/name" of the remote `origin`, None where it is not on github.com."""
    found = subprocess.run(
        ["git", "remote", "get-url", "origin"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    match = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", found.stdout.strip())
    return match.group(1) if match else None


def rewrite(new: str, root: Path = ROOT) -> list[Path]:
    """Put the repository `new` ("owner/name") wherever the old one stands; returns changed files.

    Raises:
        ValueError: `new` is not of the form owner/name.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        raise ValueError(f"{new!r} is not of the form owner/name.")
    old = re.compile(rf"(?<![\w.-]){re.escape(slug())}(?![\w-])")
    changed = []
    paths = sorted({path for pattern in PATTERNS for path in root.glob(pattern)})
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if (replaced := old.sub(new, text)) != text:
            path.write_text(replaced, encoding="utf-8")
            changed.append(path)
    here = root / "tools" / "links.py"
    text = here.read_text(encoding="utf-8")
    line = f'REPOSITORY = "https://github.com/{new}"'
    here.write_text(re.sub(r"^REPOSITORY = .*$", line, text, flags=re.MULTILINE), encoding="utf-8")
    return [*changed, here]


def main() -> int:
    new = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else from_remote()
    if new is None:
        print("No remote on github.com: name it, as in `make links REPO=owner/name`.")
        return 1
    changed = rewrite(new)
    print(f"{new}: {len(changed)} files.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
