"""The durable log of what people did since the last training."""
