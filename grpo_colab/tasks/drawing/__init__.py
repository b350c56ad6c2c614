"""Drawing: grids of ten colours, programs that draw them, and pictures of both. Nothing here needs torch."""
