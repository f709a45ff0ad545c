"""The bricks of networks; nothing here knows an algorithm."""
