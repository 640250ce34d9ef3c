"""The main job: composes the rooms into a run. Imports every room but cli."""
