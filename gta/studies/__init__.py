"""The tables of the paper and its ablations: a file each says which runs a table is made of."""
