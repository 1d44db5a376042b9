"""Configuration: typed options (`schema`), presets (`presets/*.yaml`) and their loading (`load`)."""
