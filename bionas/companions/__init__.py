"""The two neighbouring papers, each in modules of its own: SERAN in `seran` (its networks)."""
