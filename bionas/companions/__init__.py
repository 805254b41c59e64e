"""The two neighbouring papers, each in rooms of its own.

SERAN in `seran` (networks) and `seran_study` (its tables), EB-LNAST in `eb_lnast`.
"""
