"""Table I: fifteen rows, each a primitive set, a fusion and a search strategy, under one budget."""
