"""A model of MLflow's, which `mlflow models serve` runs. Running this file writes it into a folder."""

import base64
import sys
from pathlib import Path

import mlflow.pyfunc


class Digits(mlflow.pyfunc.PythonModel):
    def predict(self, context: object, model_input: list[dict[str, int]]) -> list[str]:
        from digits import picture

        return [
            base64.b64encode(picture(one["slot"], one["seed"], one["count"])).decode() for one in model_input
        ]


if __name__ == "__main__":
    mlflow.pyfunc.save_model(
        sys.argv[1],
        python_model=Digits(),
        code_paths=[str(Path(__file__).with_name("digits.py"))],
        pip_requirements=[],
    )
