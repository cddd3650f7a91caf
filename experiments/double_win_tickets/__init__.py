"""Data-Efficient Double-Win Lottery Tickets."""
