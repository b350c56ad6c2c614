"""Write, read, resume and mirror run folders."""
