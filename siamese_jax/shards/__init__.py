"""HDF5 sample shards: schema, writing, labels, batches."""
