"""Named runs, demonstrations and benchmarks; not in the wheel."""
