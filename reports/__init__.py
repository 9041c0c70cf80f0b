"""Records in, pictures and documents out."""
