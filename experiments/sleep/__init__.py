"""Sleep stages and spindles of real people: one network, one central derivation, one subject left out at a time."""
