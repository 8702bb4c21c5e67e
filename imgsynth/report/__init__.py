"""Pages that one would send to a colleague: one self-contained HTML file each, no request to anywhere."""

from imgsynth.report.study import Mistake, Pictures, write_report

__all__ = ["Mistake", "Pictures", "write_report"]
