"""What helps, as it was measured: the answer to the facts above it, in one sentence."""

from __future__ import annotations

from dbperf.records.proof import EndpointProof, Proof
from dbperf.records.verdicts import Verdict
from dbperf.report.model import Fact
from dbperf.report.proof_view import at, deciding_q
from dbperf.units import format_ms


def remedy(proof: Proof | None) -> Fact | None:
    """What proved indexes do for the endpoints; for the statements, where no load came again; None without a proof."""
    if proof is None or not proof.indexes:
        return None
    kept = [i for i in proof.indexes if i.verdict == "keep"]
    if not kept:
        tried = _indexes(len(proof.indexes))
        text = f"{tried} were built and measured, and none is shown to help"
        return Fact(kind="proof", figure="No index", text=text, anchor="proof", status="info")
    faster = [e for e in proof.endpoints if e.verdict == "better"]
    slower = [e for e in proof.endpoints if e.verdict == "worse"]
    words = f"with the {_indexes(len(kept))} proved by measurement"
    if not faster and not slower:
        saved = max(kept, key=lambda i: i.saved_ms or 0.0)
        text = "proved by measurement" + (
            f"; {saved.name} alone saves {format_ms(saved.saved_ms)} of the workload's time" if saved.saved_ms else ""
        )
        return Fact(kind="proof", figure=_indexes(len(kept)), text=text, anchor="proof", status="pass")
    deciding = min(faster, key=_most_sure) if faster else max(slower, key=_most_sure)
    q = deciding_q(deciding)
    before, after = at(deciding.quantiles_before, q).value_ms, at(deciding.quantiles_after, q).value_ms
    assert before is not None, "what could not be compared is neither faster nor slower"
    assert after is not None
    others = [f"{len(faster)} of {len(proof.endpoints)} endpoints are faster under the same load"]
    others += [f"{len(slower)} slower"] if slower else []
    text = (
        f"{'faster' if faster else 'slower'} {words}: P{q * 100:g} of {deciding.endpoint} from {format_ms(before)} to "
        f"{format_ms(after)}; {', '.join(others)}"
    )
    ratio = before / after if faster else after / before
    status: Verdict = "fail" if slower and not faster else "cant_tell" if slower else "pass"
    return Fact(kind="proof", figure=f"{ratio:.2g} ×", text=text, anchor="proof", status=status)


def _most_sure(e: EndpointProof) -> float:
    """The end of the interval that is nearest to no change."""
    median = deciding_q(e) == 0.5
    low, high = (e.p50_ratio_low, e.p50_ratio_high) if median else (e.p95_ratio_low, e.p95_ratio_high)
    end = high if e.verdict == "better" else low
    return 1.0 if end is None else end


def _indexes(count: int) -> str:
    return f"{count} index{'' if count == 1 else 'es'}"
