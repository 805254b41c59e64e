"""Adapters: each module registers its systems in `systems.SYSTEMS`; `automl/__init__.py` imports them."""
