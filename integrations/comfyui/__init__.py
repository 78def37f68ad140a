"""What ComfyUI looks for in this folder: the nodes and their titles."""

from .nodes import CutOutPeople

NODE_CLASS_MAPPINGS = {"RematteCutOutPeople": CutOutPeople}
NODE_DISPLAY_NAME_MAPPINGS = {"RematteCutOutPeople": "Cut out people (rematte)"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
