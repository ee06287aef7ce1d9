"""The durable store: what people did since the last training, documents, journals."""
