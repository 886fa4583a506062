"""The engine: one loop, its optimizer and schedule, its checkpoints, the events it emits."""
