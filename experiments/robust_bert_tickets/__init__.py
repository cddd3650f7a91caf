"""Robust Lottery Tickets for Pre-trained Language Models."""
