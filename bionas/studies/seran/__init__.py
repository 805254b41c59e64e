"""SERAN (attention network for insect species): the networks and their tables."""
