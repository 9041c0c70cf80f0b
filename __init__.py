"""Does your equivariant layer hold, what does it cost, did it get worse."""
