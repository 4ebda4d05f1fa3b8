"""A checkpoint and recordings -> labels and probabilities, in Python, ONNX or a page."""
