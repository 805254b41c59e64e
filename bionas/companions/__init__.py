"""The two neighbouring papers, each in modules of its own: SERAN in `seran` (networks) and `seran_study` (its tables)."""
