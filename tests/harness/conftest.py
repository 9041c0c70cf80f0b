"""Records of made-up checks, as several tests write them."""

import pytest
from equiharness.harness.records.lines import Attachment, CheckLine, EndLine, Panel
from equiharness.harness.records.writing import RecordWriter


class Records:
    """Writes checks and the pictures that they name."""

    @staticmethod
    def picture(name):
        return Attachment(id=name, element="e", panels=(Panel.of("x", 1, 1, b"\0\0\0\0"),))

    def append(self, writer, position, result):
        """A check behind its picture; the offset of its line."""
        if result.attachment:
            writer.attach(self.picture(result.attachment), always=False)
        return writer.write(CheckLine(result=result, position=position))

    def write(self, path, header, results, seconds=None):
        """A closed record of (position, result) pairs; with its end where that took some seconds."""
        writer, results = RecordWriter(path, header), list(results)
        for position, result in results:
            self.append(writer, position, result)
        if seconds is not None:
            counts = {"EXACT": len(results)}
            writer.write(EndLine(seconds=seconds, seconds_in_layers=0.0, counts=counts))
        writer.close()
        return path


@pytest.fixture
def records():
    return Records()
