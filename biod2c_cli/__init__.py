"""The command line of BioD2C: Typer only, every command one call into ``biod2c_core``."""
