"""The workflow of `weekly-report.json`, built in Python; run it to print the document."""

from schemas.workflows.document import Document, HumanStep, InvokeStep, MapStep

COUNT = InvokeStep(
    key="sum", type="tool", tool="calculator.evaluate", input={"expression": "$.item"}
)
EACH = MapStep(
    key="each", type="map", items="$.inputs.sums", at_once=4, steps=(COUNT,),
    output="$.steps.sum.output.value",
)  # fmt: skip
APPROVE = HumanStep(
    key="approve", type="human", approves="keep", question="Keep this report?",
    for_role="operator", due_s=3600, within_s=86_400,
)  # fmt: skip
KEEP = InvokeStep(
    key="keep", type="tool", tool="artifact.write", when="$.steps.approve.output.approved",
    input={"title": "Weekly report", "body": {"$join": [", ", "$.steps.each.output"]}},
)  # fmt: skip

REPORT = Document(
    description="Count what failed in each region, ask a person, and keep the report.",
    inputs={"type": "object", "required": ["sums"], "properties": {"sums": {"type": "array"}}},
    steps=(EACH, APPROVE, KEEP),
    output={"sums": "$.steps.each.output", "kept": "$.steps.approve.output.approved"},
)

if __name__ == "__main__":
    print(REPORT.model_dump_json(indent=2, exclude_unset=True))
