"""Work on classifiers of texts: its nodes, and how each is done."""
