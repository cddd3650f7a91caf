"""Full disks at every moment: one line that names a file, and nothing is lost."""

from tests.hostile import full_disk


def test_no_full_disk_is_handled_badly(tmp_path):
    tried = [(name, attempt()) for name, attempt in full_disk.attempts(tmp_path)]
    assert len(tried) >= 15
    bad = [f"{name}: {said}" for name, said in tried if said]
    assert not bad, "\n".join(bad)
