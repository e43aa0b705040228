"""Write the schemas that are shipped."""

from bitnet.schemas import SCHEMAS, schema_file, schema_text

for handoff in SCHEMAS:
    schema_file(handoff).write_text(schema_text(handoff), encoding="utf-8")
