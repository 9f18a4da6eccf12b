"""Parts that two papers or more use unchanged."""
