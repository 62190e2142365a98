"""Where the files of a job of Clarify lie, for the server and for the job alike."""

from __future__ import annotations

REPOSITORY = "sagemaker-clarify-processing"
CONFIG_INPUT, DATA_INPUT, OUTPUT = "analysis_config", "dataset", "analysis_result"
FOLDER, ORDER_FILE = "clarify", "order.json"
VARIABLES = "LOOPWRIGHT_MODEL"
BIAS, EXPLAINABILITY = "MODEL_BIAS", "MODEL_EXPLAINABILITY"
