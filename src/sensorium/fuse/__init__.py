"""One space out of several modalities, aligned with one another and with what the crowd did."""
