"""Many recordings to shards."""
