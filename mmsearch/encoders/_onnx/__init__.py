"""ONNX models: export, quantisation, verification, cache and inference."""

import os

# Recent versions of onnxruntime start a thread and a database for usage statistics when they are
# imported, unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
