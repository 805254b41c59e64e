"""How networks are trained: configuration, loop, run folders, evaluation, cost."""
