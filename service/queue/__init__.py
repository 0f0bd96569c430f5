"""The queue of wake-up messages, over Redis or a folder."""
