"""A small catalog for tests, of the same form as the committed one."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.requests.catalog import Catalog


class Schedule(BaseModel):
    model_config = ConfigDict(extra="forbid")

    warm_up: float = Field(0.1, ge=0, le=1)
    shape: Literal["one_cycle", "constant"] = "one_cycle"


class LearnParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    learning_rate: float = Field(0.003, gt=0, le=1)
    steps: int = Field(100, ge=1, le=100_000)
    batch_size: int = Field(256, ge=1, le=4096)
    clip: float | None = Field(None, gt=0)
    schedule: Schedule = Schedule(warm_up=0.2)
    widths: list[int] = Field([512, 256], min_length=1, max_length=4)


class ResizeParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    share: float = Field(0.1, gt=0, lt=1)


class EvaluateParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seeds: int = Field(3, ge=3, le=20)


class NoParams(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CvaeParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    latent: int = Field(8, ge=1, le=256)
    widths: list[int] = Field([512, 256], max_length=6)


def strategy(operation: str, name: str, params: type[BaseModel], **more: Any) -> dict[str, Any]:
    entry = {
        "operation": operation,
        "name": name,
        "policy": None,
        "retention": "permanent",
        "default": True,
        "needs_examples": operation == "learn",
        "merges_temporary": False,
        "guarantee": None,
        "summary": f"{operation} by {name}",
        "source": "a test",
        "params": params.model_json_schema(),
    }
    return entry | more


CATALOG = Catalog.model_validate(
    {
        "strategies": [
            strategy("learn", "replay_ewc", LearnParams),
            strategy("learn", "replay", ResizeParams, default=False),
            strategy(
                "learn", "merge", LearnParams, default=False, needs_examples=False, merges_temporary=True
            ),
            strategy("learn", "isolated", LearnParams, retention="temporary"),
            strategy("forget", "distill", ResizeParams, default=False, guarantee="approximate"),
            strategy("forget", "surrogate", LearnParams, guarantee="approximate"),
            strategy("forget", "retrain", ResizeParams, default=False, guarantee="exact"),
            strategy("forget", "drop", NoParams, retention="temporary", guarantee="exact"),
            strategy("resize", "prune_units", ResizeParams, policy="prune"),
            strategy("resize", "expand_units", ResizeParams, policy="expand"),
            strategy("resize", "search", ResizeParams, policy="search", default=False),
            strategy("resize", "auto_width", ResizeParams, policy="auto", default=False),
            strategy("evaluate", "full", EvaluateParams),
        ],
        "datasets": [
            {
                "name": "mnist",
                "title": "MNIST",
                "labels": [str(digit) for digit in range(10)],
                "image_shape": [28, 28],
                "bundled": False,
            },
            {
                "name": "letters",
                "title": "A few letters",
                "labels": ["a", "b", "capital A"],
                "image_shape": [28, 28],
                "bundled": True,
            },
        ],
        "architectures": [{"name": "cvae", "summary": "a network", "params": CvaeParams.model_json_schema()}],
    }
)
