"""The Dockerfile as values: its stages and their instructions, in order."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Stage:
    """One FROM and the instructions after it; `inherited` has those of the stages that it builds on."""

    name: str
    base: str
    instructions: tuple[tuple[str, str], ...]
    inherited: tuple[tuple[str, str], ...]

    def all(self, keyword: str) -> list[str]:
        """Return the arguments of every instruction of that name, inherited ones included."""
        return [words for word, words in self.inherited + self.instructions if word == keyword]

    @property
    def copied(self) -> list[str]:
        """The paths this image takes from the checkout."""
        return [source for words in self.all("COPY") for source in shlex.split(words)[:-1]]

    @property
    def command(self) -> list[str]:
        """What the image runs."""
        command: list[str] = json.loads(self.all("CMD")[-1])
        return command

    @property
    def environment(self) -> dict[str, str]:
        """The variables the image sets."""
        pairs = (pair.split("=", 1) for words in self.all("ENV") for pair in shlex.split(words))
        return dict(pairs)


def read_stages(path: Path = ROOT / "Dockerfile") -> dict[str, Stage]:
    """Every named stage of a Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]
    stages: dict[str, Stage] = {}
    for keyword, words in lines:
        if keyword == "FROM":
            base, _, name = words.split()
            below = stages.get(base)
            stages[name] = Stage(name, base, (), below.inherited + below.instructions if below else ())
        else:
            name, stage = list(stages.items())[-1]
            stages[name] = Stage(name, stage.base, (*stage.instructions, (keyword, words)), stage.inherited)
    return stages
