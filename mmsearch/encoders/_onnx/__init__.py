"""Export to ONNX, quantise, verify, cache and run."""
