"""The command `siamese-jax`. Modules that take seconds to import are imported where they are used."""
