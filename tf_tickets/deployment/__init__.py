"""From a ticket to something that can be served."""
