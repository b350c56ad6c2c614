"""A recipe says what to run: its tables, how they are read, and what is refused before anything is downloaded."""
