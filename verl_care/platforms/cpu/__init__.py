"""The machine without an accelerator. `platforms.choose` imports `platform`; nothing is imported here."""
