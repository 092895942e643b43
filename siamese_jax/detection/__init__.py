"""A model and recordings or shards to results."""
