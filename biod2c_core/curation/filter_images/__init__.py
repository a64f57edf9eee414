"""The image filter of section 2: clean or polluted, by a frozen image encoder and a small MLP."""
