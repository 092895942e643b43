"""The command `siamese-jax`: arguments in, sentences out. What costs seconds to import is imported where it is used."""
