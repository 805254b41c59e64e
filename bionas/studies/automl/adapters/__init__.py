"""One file a system: what `systems.SYSTEMS` holds is registered here."""
