"""Work on networks of images: how each kind of node is done."""
