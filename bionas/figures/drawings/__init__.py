"""SVG drawings: cells and genotypes, the method, fusions, whole networks. `svg` holds their parts and `Drawing`."""
