"""Another tool serving the model of the serving benchmark, as its own documentation has it done.

`PYTHON serving_peer.py fit TABLE.parquet FOLDER` trains scikit-learn's pipeline around LightGBM;
`PYTHON serving_peer.py NAME FOLDER PORT` serves it, NAME being one of fastapi, litserve, bentoml or
mlflow. PYTHON is that of an environment which has these tools. A request is a JSON list of rows.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

MODEL = "pipeline.pkl"
# what a request holds beside the rows, by tool
BODIES = {
    "fastapi": "%s",
    "litserve": '{"rows": %s}',
    "bentoml": '{"rows": %s}',
    "mlflow": '{"dataframe_records": %s}',
}
BENTO = """
import pickle, bentoml, pandas as pd
@bentoml.service(workers=1)
class Lending:
    def __init__(self):
        self.pipeline = pickle.load(open({path!r}, "rb"))
    @bentoml.api(route="/invocations")
    def predict(self, rows: list) -> list:
        return self.pipeline.predict_proba(pd.DataFrame(rows))[:, 1].tolist()
"""


def fit(table: Path, folder: Path) -> None:
    """Train the pipeline that the peers serve: the same rows, 300 trees of 31 leaves."""
    import pandas as pd
    from lightgbm import LGBMClassifier
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows = pd.read_parquet(table)
    y = (rows.pop("Class") == "bad").astype(int)
    numbers = list(rows.select_dtypes("number"))
    texts = [name for name in rows if name not in numbers]
    columns = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ("t", OneHotEncoder(handle_unknown="ignore"), texts),
        ]
    )
    trees = LGBMClassifier(n_estimators=300, num_leaves=31, n_jobs=1, verbose=-1)
    pipeline = make_pipeline(columns, trees).fit(rows, y)
    (folder / MODEL).write_bytes(pickle.dumps(pipeline))


def loaded(folder: Path) -> Any:
    """Return the pipeline."""
    return pickle.loads((folder / MODEL).read_bytes())  # noqa: S301 our own, of a moment ago


def fastapi(folder: Path, port: int) -> None:
    """Serve by hand, as most teams do."""
    import pandas as pd
    import uvicorn
    from fastapi import FastAPI

    app, pipeline = FastAPI(), loaded(folder)

    @app.post("/invocations")
    def predict(rows: list[dict[str, Any]]) -> list[float]:
        found: list[float] = pipeline.predict_proba(pd.DataFrame(rows))[:, 1].tolist()
        return found

    uvicorn.run(app, port=port, log_level="warning")


LITSERVE = """
import pickle, litserve as ls, pandas as pd
class Lending(ls.LitAPI):
    def setup(self, device):
        self.pipeline = pickle.load(open({path!r}, "rb"))
    def decode_request(self, request):
        return pd.DataFrame(request["rows"])
    def predict(self, rows):
        return self.pipeline.predict_proba(rows)[:, 1].tolist()
    def encode_response(self, output):
        return {{"predictions": output}}
if __name__ == "__main__":
    server = ls.LitServer(Lending(api_path="/invocations"), accelerator="cpu")
    server.run(port={port}, generate_client_file=False, log_level="warning")
"""


def litserve(folder: Path, port: int) -> None:
    """Serve with LitServe; its workers have to find the class in a file."""
    (folder / "lit.py").write_text(LITSERVE.format(path=str(folder / MODEL), port=port))
    os.execv(sys.executable, [sys.executable, str(folder / "lit.py")])  # noqa: S606


def bentoml(folder: Path, port: int) -> None:
    """Serve with BentoML."""
    (folder / "service.py").write_text(BENTO.format(path=str(folder / MODEL)))
    command = [
        str(Path(sys.executable).parent / "bentoml"),
        "serve",
        "service:Lending",
        "--port",
        str(port),
    ]
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.chdir(folder)
    os.execv(command[0], command)  # noqa: S606


def mlflow(folder: Path, port: int) -> None:
    """Serve with `mlflow models serve`."""
    import mlflow.sklearn

    model = folder / "mlflow-model"
    if not model.exists():
        mlflow.sklearn.save_model(loaded(folder), str(model), serialization_format="cloudpickle")
    program = Path(sys.executable).parent / "mlflow"
    # it looks for `uvicorn` in the path
    os.environ["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    options = ["-m", str(model), "-p", str(port), "--env-manager", "local"]
    os.execv(program, [str(program), "models", "serve", *options])  # noqa: S606


if __name__ == "__main__":
    name, first, second = sys.argv[1:]
    if name == "fit":
        fit(Path(first), Path(second))
    else:
        {"fastapi": fastapi, "litserve": litserve, "bentoml": bentoml, "mlflow": mlflow}[name](
            Path(first), int(second)
        )
