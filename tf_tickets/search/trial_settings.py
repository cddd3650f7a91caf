"""How long an epoch is."""


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Iterations that come closest to one pass through so many training examples."""
    return max(1, round(examples / batch_size))
