"""Every setting: frozen dataclasses, their checks, presets and JSON."""
