"""Another tool serving the model of the serving benchmark, as its own documentation has it done.

`PYTHON serving_peer.py fit MODEL TABLE.parquet FOLDER` trains scikit-learn's pipeline, MODEL being
one of lightgbm, xgboost, linear-learner or knn; it ends with 3 if that library is not there.
`PYTHON serving_peer.py NAME FOLDER PORT` serves it, NAME being one of those in `BODIES`, or
`uvicorn`, which answers without a model. PYTHON is that of an environment which has these tools.
A request is a JSON list of rows, and every tool has one worker.
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

MODEL = "pipeline.pkl"
WITHOUT_LIBRARY = 3
# what a request holds beside the rows, by tool
BODIES = {
    "fastapi": "%s",
    "litserve": '{"rows": %s}',
    "bentoml": '{"rows": %s}',
    "mlflow": '{"dataframe_records": %s}',
    "mlserver": "%s",
    "ray-serve": "%s",
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
MLSERVER = """
import pickle
from typing import Any, Dict, List
import pandas as pd
from mlserver import MLModel
from mlserver.handlers import custom_handler
class Lending(MLModel):
    async def load(self) -> bool:
        self.pipeline = pickle.load(open({path!r}, "rb"))
        return True
    @custom_handler(rest_path="/invocations")
    async def invocations(self, rows: List[Dict[str, Any]]) -> List[float]:
        return self.pipeline.predict_proba(pd.DataFrame(rows))[:, 1].tolist()
"""
UVICORN = """
async def app(scope, receive, send):
    more = scope["type"] == "http"
    while more:
        more = (await receive()).get("more_body", False)
    head = [(b"content-type", b"text/plain"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": b"hello"})
"""


def estimator(model: str) -> Any:
    """Return an estimator like the one that loopwright serves, for one thread."""
    if model == "lightgbm":
        from lightgbm import LGBMClassifier

        return LGBMClassifier(n_estimators=300, num_leaves=31, n_jobs=1, verbose=-1)
    if model == "xgboost":
        from xgboost import XGBClassifier

        return XGBClassifier(n_estimators=300, max_depth=6, n_jobs=1)
    if model == "knn":
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(n_neighbors=15, n_jobs=1)
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)


def fit(model: str, table: Path, folder: Path) -> None:
    """Train the pipeline that the peers serve, on the same rows."""
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    try:
        last = estimator(model)
    except ImportError as error:
        print(error)
        raise SystemExit(WITHOUT_LIBRARY) from error
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
    pipeline = make_pipeline(columns, last).fit(rows, y)
    (folder / MODEL).write_bytes(pickle.dumps(pipeline))


def loaded(folder: Path) -> Any:
    """Return the pipeline."""
    return pickle.loads((folder / MODEL).read_bytes())  # noqa: S301 our own, of a moment ago


def become(program: str, *arguments: str) -> None:
    """Go on as a program that lies beside this Python."""
    path = Path(sys.executable).parent / program
    # some look for programs of theirs in the path
    os.environ["PATH"] = f"{path.parent}{os.pathsep}{os.environ['PATH']}"
    os.execv(path, [str(path), *arguments])  # noqa: S606


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


def litserve(folder: Path, port: int) -> None:
    """Serve with LitServe; its workers have to find the class in a file."""
    (folder / "lit.py").write_text(LITSERVE.format(path=str(folder / MODEL), port=port))
    os.execv(sys.executable, [sys.executable, str(folder / "lit.py")])  # noqa: S606


def bentoml(folder: Path, port: int) -> None:
    """Serve with BentoML."""
    (folder / "service.py").write_text(BENTO.format(path=str(folder / MODEL)))
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.chdir(folder)
    become("bentoml", "serve", "service:Lending", "--port", str(port))


def mlflow(folder: Path, port: int) -> None:
    """Serve with `mlflow models serve`."""
    import mlflow.sklearn

    model = folder / "mlflow-model"
    if not model.exists():
        mlflow.sklearn.save_model(loaded(folder), str(model), serialization_format="cloudpickle")
    options = ["-m", str(model), "-p", str(port), "--env-manager", "local", "--workers", "1"]
    become("mlflow", "models", "serve", *options)


def mlserver(folder: Path, port: int) -> None:
    """Serve with MLServer and a route of one's own, which spares the inference protocol's tensors."""
    import json

    (folder / "lending_runtime.py").write_text(MLSERVER.format(path=str(folder / MODEL)))
    model = {"name": "lending", "implementation": "lending_runtime.Lending"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    settings = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    whole = settings | {"parallel_workers": 0, "debug": False}
    (folder / "settings.json").write_text(json.dumps(whole))
    os.chdir(folder)
    become("mlserver", "start", ".")


def ray_serve(folder: Path, port: int) -> None:
    """Serve with Ray Serve: one replica in a Ray of its own."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import pandas as pd
    import ray
    from ray import serve

    path = folder / MODEL

    @serve.deployment(num_replicas=1, max_ongoing_requests=100)
    class Lending:
        def __init__(self) -> None:
            self.pipeline = pickle.loads(path.read_bytes())  # noqa: S301 our own

        async def __call__(self, request: Any) -> list[float]:
            rows = pd.DataFrame(await request.json())
            found: list[float] = self.pipeline.predict_proba(rows)[:, 1].tolist()
            return found

    ray.init(include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Lending.bind(), route_prefix="/invocations", blocking=True)


def uvicorn(folder: Path, port: int) -> None:
    """Answer `hello` to all that is sent, without a model."""
    (folder / "hello.py").write_text(UVICORN)
    os.chdir(folder)
    quiet = ["--log-level", "warning", "--no-access-log"]
    become("uvicorn", "hello:app", "--port", str(port), *quiet)


SERVERS = {
    "fastapi": fastapi,
    "litserve": litserve,
    "bentoml": bentoml,
    "mlflow": mlflow,
    "mlserver": mlserver,
    "ray-serve": ray_serve,
    "uvicorn": uvicorn,
}

if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    if name == "fit":
        fit(rest[0], Path(rest[1]), Path(rest[2]))
    else:
        SERVERS[name](Path(rest[0]), int(rest[1]))
