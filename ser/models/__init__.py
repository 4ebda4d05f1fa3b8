"""Networks: (batch, channels, bins, frames) -> (batch, classes)."""
