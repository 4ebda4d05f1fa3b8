"""Files -> samples: decoded, resampled to one rate, and cut to the window of the model."""
