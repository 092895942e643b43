"""Named runs x folds x seeds on shards, and the page made of them: what `compare` and `ablate` share."""
