"""Names the nodes and their titles, as ComfyUI expects of this folder."""

from .nodes import CutOutPeople

NODE_CLASS_MAPPINGS = {"RematteCutOutPeople": CutOutPeople}
NODE_DISPLAY_NAME_MAPPINGS = {"RematteCutOutPeople": "Cut out people (rematte)"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
