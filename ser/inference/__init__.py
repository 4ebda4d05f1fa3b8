"""A checkpoint and recordings -> labels and probabilities, in Python or ONNX."""
