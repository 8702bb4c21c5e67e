"""Pages that one would send to a colleague: one self-contained HTML file each, no request to anywhere."""

from imgsynth.report.study import Drawn, Mistake, Pictures, write_report

__all__ = ["Drawn", "Mistake", "Pictures", "write_report"]
