"""ONNX models: export, quantisation, verification, cache and inference."""
