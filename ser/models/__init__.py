"""Features -> logits: networks, and an estimator in two stages."""
