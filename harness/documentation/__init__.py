"""Does a document tell the truth about its repository: does what it names exist, and does what it shows run?"""

from harness.documentation.blocks import block_references, excused_blocks, runnable_blocks
from harness.documentation.commands import command_references
from harness.documentation.document import Block, Document, Reference, documents
from harness.documentation.paths import link_references, path_references
from harness.documentation.running import Outcome, readers_folder, run_blocks
from harness.documentation.symbols import symbol_references

__all__ = [
    "Block",
    "Document",
    "Outcome",
    "Reference",
    "block_references",
    "command_references",
    "documents",
    "excused_blocks",
    "link_references",
    "path_references",
    "readers_folder",
    "run_blocks",
    "runnable_blocks",
    "symbol_references",
]
